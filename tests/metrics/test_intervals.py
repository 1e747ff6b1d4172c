from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from zoo.metrics import intervals
from zoo.metrics.areas import areas, ranking
from zoo.metrics.classification import classification_metrics
from zoo.metrics.intervals import bootstrap, share_interval
from zoo.metrics.scores import AVERAGES

NAMES = ("ok", "scratch", "crack")
BY_CURVE = ("roc_auc", "pr_auc")


def rows(seed: int, count: int, classes: int = 3, decimals: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Skewed classes that are told apart in part; few decimals make ties."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 10, (count,), generator=generator).clamp(max=classes - 1)
    logits = torch.randn(count, classes, generator=generator, dtype=torch.float64).round(decimals=decimals)
    return (logits + torch.nn.functional.one_hot(labels, classes)).softmax(1), labels


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(4, 50), st.sampled_from([0, 1, 6]))
def test_each_resample_scores_as_its_rows_do_when_they_are_written_out(seed, count, decimals):
    probabilities, labels = rows(seed, count, decimals=decimals)
    draws = intervals._Draws(probabilities, labels, curves=True)
    order = labels.argsort(stable=True)
    (weights,) = draws.resamples(5, seed)
    found = draws.scores(weights)
    for index, own in enumerate(weights.long()):
        chosen = order.repeat_interleave(own)
        assert torch.equal(torch.bincount(labels[chosen]), torch.bincount(labels))  # drawn within each class
        report = classification_metrics(probabilities[chosen], labels[chosen], NAMES, resamples=1)
        for name in (*AVERAGES, *BY_CURVE, "log_loss"):
            expected = getattr(report, name)
            if expected is None and name == "mcc" and len(set(labels.tolist())) > 1:
                expected = 0.0 if not torch.isnan(found["mcc"]).all() else None
            value = float(found[name][index])
            assert value == pytest.approx(np.nan if expected is None else expected, nan_ok=True, abs=1e-9), name


def test_the_intervals_hold_the_figures_and_shrink_with_more_rows():
    few, many = (classification_metrics(*rows(0, count), NAMES) for count in (150, 2400))
    for name in (*AVERAGES, *BY_CURVE, "log_loss"):
        (low, high), (close_low, close_high) = (report.intervals.bounds[name] for report in (few, many))
        assert low <= getattr(few, name) <= high
        assert high - low > 2 * (close_high - close_low) > 0


def test_the_interval_of_an_accuracy_is_about_that_of_the_binomial():
    probabilities, labels = rows(1, 1000, classes=2)
    report = classification_metrics(probabilities, labels, NAMES[:2])
    spread = np.sqrt(report.accuracy * (1 - report.accuracy) / 1000)
    low, high = report.intervals.bounds["accuracy"]
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.15)


def test_the_same_seed_gives_the_same_intervals_and_they_say_how_they_were_made():
    probabilities, labels = rows(2, 60)
    first, again, other = (bootstrap(probabilities, labels, NAMES, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.bounds != other.bounds
    assert first.how.startswith("95% percentile bootstrap over 1000 resamples of the rows, drawn within each class")
    assert "with seed 0; rows count as independent" in first.how


def test_a_class_of_few_rows_is_named():
    probabilities, labels = rows(0, 40)
    few = bootstrap(probabilities, labels, NAMES, resamples=5)
    counts = torch.bincount(labels).tolist()
    assert min(counts) < 10
    assert f"fewer than 10 rows: 'ok' has {counts[0]}, 'scratch' has {counts[1]}" in few.how


def test_what_is_undefined_has_no_interval():
    labels = torch.tensor([0, 0, 1, 1])
    report = classification_metrics(torch.eye(3)[[0, 0, 0, 0]], labels, NAMES)
    assert {"g_mean", "mcc", "roc_auc", "pr_auc"}.isdisjoint(report.intervals.bounds)
    assert {"g_mean", "mcc", "roc_auc", "pr_auc"} <= set(report.undefined)
    assert report.intervals.bounds["balanced_accuracy"] == (0.5, 0.5)


def test_areas_that_would_take_too_long_have_no_interval_and_say_so(monkeypatch):
    monkeypatch.setattr(intervals, "AREA_WORK", 100)
    found = bootstrap(*rows(0, 20), NAMES, resamples=10)
    assert "accuracy" in found.bounds
    assert not set(BY_CURVE) & set(found.bounds)
    assert found.left_out["roc_auc"] == "600 resampled probabilities are more than 100"


def test_an_area_without_rows_of_either_kind_is_not_a_number():
    ranked = ranking(torch.tensor([[0.9], [0.2], [0.2]]), torch.tensor([0, 1, 0]), 0)
    roc, precision = areas(ranked, torch.tensor([[1.0, 0, 1], [0, 1, 0], [1, 1, 1]]))
    assert roc.isnan().tolist() == [True, True, False]
    assert precision.tolist() == pytest.approx([1.0, np.nan, (1 + 2 / 3) / 2], nan_ok=True)
    assert float(roc[2]) == pytest.approx(0.75)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.floats(0, 1))
def test_the_interval_of_a_share_is_that_of_scipy(count, share):
    hits = round(share * count)
    theirs = binomtest(hits, count).proportion_ci(method="wilson")
    assert share_interval(hits, count) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert share_interval(0, 0) is None
