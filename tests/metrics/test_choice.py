from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import DataError, UnknownNameError
from zoo.metrics.choice import LOWER_IS_BETTER, METRICS, OF_CLASS, check_defined, check_metric, epoch_score, is_better
from zoo.metrics.classification import classification_metrics, probabilities_of

NAMES = ("ok", "hair (fine)", "1/3")
EVERY = METRICS + tuple(f"{part}({name})" for part in OF_CLASS for name in NAMES)


@st.composite
def scored_rows(draw) -> tuple[torch.Tensor, torch.Tensor]:
    rows, seed = draw(st.integers(1, 40)), draw(st.integers(0, 2**31))
    generator = torch.Generator().manual_seed(seed)
    # Rounded logits make ties; a skewed draw leaves classes out.
    logits = (torch.randn(rows, 3, generator=generator) * 2).round(decimals=draw(st.sampled_from([0, 1, 6])))
    return logits, torch.randint(0, draw(st.integers(1, 3)), (rows,), generator=generator)


@settings(max_examples=100, deadline=None)
@given(scored_rows(), st.sampled_from(EVERY))
def test_the_score_of_an_epoch_is_the_one_of_the_full_report_or_is_refused(sample, name):
    logits, labels = sample
    report = classification_metrics(probabilities_of(logits), labels, NAMES, resamples=2)
    metric, own = check_metric(name, NAMES)
    found = getattr(report if own is None else report.per_class[own], metric)
    present = {NAMES[label] for label in labels.tolist()}
    whole = {"roc_auc": 3, "pr_auc": 3, "g_mean": 3, "mcc": 2}.get(metric, 1)
    lacking = len(present) < whole if own is None else own not in present or (metric == "roc_auc" and len(present) == 1)
    if lacking:
        with pytest.raises(DataError, match="is undefined on these rows: "):
            epoch_score(logits, labels, name, NAMES)
    else:
        # Only predictions leave these undefined then, which the report says and the choice counts as 0.
        assert found is not None or metric in ("mcc", "precision")
        assert epoch_score(logits, labels, name, NAMES) == pytest.approx(found or 0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "labels", "reason"),
    [
        ("roc_auc", [0, 1], "undefined for '1/3'"),
        ("roc_auc", [0, 0], "undefined for 'ok', 'hair \\(fine\\)', '1/3'"),
        ("pr_auc", [0, 1], "undefined for '1/3'"),
        ("g_mean", [0, 1], "no row of '1/3'"),
        ("mcc", [1, 1], "every row is of 'hair \\(fine\\)'"),
        ("recall(1/3)", [0, 1], "no row of this class"),
        ("roc_auc(ok)", [0, 0], "every row is of this class"),
    ],
)
def test_a_metric_that_the_labels_leave_undefined_is_refused_with_the_reason(name, labels, reason):
    with pytest.raises(DataError, match=rf"is undefined on these rows: {reason}; choose by balanced_accuracy or bring"):
        check_defined(name, torch.tensor(labels), NAMES)
    check_defined(name, torch.tensor([0, 1, 2]), NAMES)


def test_predictions_of_a_poor_epoch_end_no_training():
    logits, labels = torch.tensor([[5.0, 0.0]] * 3), torch.tensor([0, 1, 1])
    assert [epoch_score(logits, labels, name, ("a", "b")) for name in ("mcc", "g_mean", "precision(b)")] == [0.0] * 3


def test_a_certain_mistake_costs_a_finite_loss():
    loss = epoch_score(torch.tensor([[1e4, -1e4]]), torch.tensor([1]), "log_loss")
    assert loss == pytest.approx(-np.log(np.finfo(np.float64).eps))


def test_logits_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="probabilities are not all finite"):
        epoch_score(torch.tensor([[torch.nan, 0.0]]), torch.tensor([0]), "mcc")


@pytest.mark.parametrize("call", [check_metric, lambda name: epoch_score(torch.zeros(1, 2), torch.tensor([0]), name)])
@pytest.mark.parametrize(
    ("name", "close"),
    [("macro-f1", "macro_f1"), ("gmean", "g_mean"), ("MCCs", "mcc"), ("pr-auc", "pr_auc"), ("recal(a)", "recall")],
)
def test_an_unknown_metric_is_refused_with_the_choices_and_a_close_name(call, name, close):
    with pytest.raises(UnknownNameError) as caught:
        call(name)
    assert str(caught.value).startswith(f"unknown metric {name!r}; there are balanced_accuracy, ")
    assert close in str(caught.value).split("did you mean")[1]


def test_a_metric_of_an_unknown_class_is_refused_with_a_close_name():
    with pytest.raises(UnknownNameError, match=r"unknown class 'crak' in recall\(crak\); there are ok, crack; did you"):
        check_metric("recall(crak)", ("ok", "crack"))
    assert check_metric("recall(crak)") == ("recall", "crak")


def test_only_losses_and_errors_are_better_when_smaller():
    assert LOWER_IS_BETTER & set(METRICS) == {"log_loss", "ece"}
    assert is_better("log_loss", 0.1, 0.2)
    assert is_better("accuracy", 0.2, 0.1)
    assert is_better("recall(ok)", 0.2, 0.1)
    assert not is_better("accuracy", 0.2, 0.2)
