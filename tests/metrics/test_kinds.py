"""Figures of numbers, ranks and labels: as the libraries have them, and where they are undefined, with a reason."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn import metrics as sk
from torchmetrics.functional.classification import multilabel_auroc, multilabel_average_precision

from zoo.errors import DataError, UnknownNameError
from zoo.metrics import multilabel, ordinal, regression
from zoo.metrics.kinds import DEFAULTS, check_defined, check_metric, check_metric_name, epoch_score, report
from zoo.metrics.predictions import outputs_of, predicted_ranks, predictions_of
from zoo.metrics.row_bootstrap import row_bootstrap
from zoo.specs import Target, Task

AGE = Task(name="age", kind="regression", center=40.0, scale=8.0)
GRADE = Task(name="grade", kind="ordinal", classes=("low", "mid", "high", "top"))
TAGS = Task(name="tags", kind="multilabel", classes=("a", "b", "c"))
seeds = st.integers(0, 2**31)


def numbers(seed, rows=60):
    draws = np.random.default_rng(seed)
    truth = draws.normal(40, 8, rows).round()  # ties
    return torch.from_numpy((truth + draws.normal(1, 4, rows)).round(1)), torch.from_numpy(truth)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_figures_of_numbers_are_those_of_the_libraries(seed):
    predicted, truth = numbers(seed)
    found = regression.regression_metrics(predicted, truth, AGE, resamples=2)
    assert found.mae == pytest.approx(sk.mean_absolute_error(truth, predicted))
    assert found.rmse == pytest.approx(sk.root_mean_squared_error(truth, predicted))
    assert found.r2 == pytest.approx(sk.r2_score(truth, predicted))
    assert found.spearman == pytest.approx(spearmanr(truth, predicted).statistic)
    assert found.nmse == pytest.approx(sk.mean_squared_error(truth, predicted) / 64)
    assert sum(each["rows"] for each in found.ranges) == 60
    for name in regression.METRICS:
        assert regression.epoch_value(predicted, truth, AGE, name) == pytest.approx(getattr(found, name))


def test_what_numbers_leave_undefined_says_why():
    same = regression.regression_metrics(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 3.0]), AGE, resamples=9)
    assert (same.r2, same.spearman) == (None, None)
    assert same.undefined["r2"] == "every row has the value 3"
    flat = regression.regression_metrics(torch.tensor([5.0, 5.0]), torch.tensor([3.0, 4.0]), AGE, resamples=9)
    assert flat.undefined == {"spearman": "every prediction is 5"}
    assert regression.epoch_value(torch.tensor([5.0, 5.0]), torch.tensor([3.0, 4.0]), AGE, "spearman") == 0.0
    with pytest.raises(ValueError, match="predictions or values are not all finite"):
        regression.regression_metrics(torch.tensor([torch.nan]), torch.tensor([1.0]), AGE)
    with pytest.raises(ValueError, match="no rows to score"):
        regression.regression_metrics(torch.zeros(0), torch.zeros(0), AGE)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_figures_of_ranks_are_those_of_the_libraries(seed):
    draws = torch.Generator().manual_seed(seed)
    logits = torch.randn(50, 3, generator=draws)
    labels = torch.randint(0, 4, (50,), generator=draws)
    shares = predictions_of(GRADE, logits)
    ranks = predicted_ranks(shares)
    found = ordinal.ordinal_metrics(shares, labels, GRADE.classes, resamples=2)
    assert found.quadratic_kappa == pytest.approx(sk.cohen_kappa_score(labels, ranks, weights="quadratic"))
    assert found.rank_mae == pytest.approx(sk.mean_absolute_error(labels, ranks))
    assert found.accuracy == pytest.approx(sk.accuracy_score(labels, ranks))
    assert found.balanced_accuracy == pytest.approx(sk.balanced_accuracy_score(labels, ranks))
    assert found.log_loss == pytest.approx(sk.log_loss(labels, shares.numpy(), labels=range(4)))
    by_rank = [sk.mean_absolute_error(labels[labels == k], ranks[labels == k]) for k in labels.unique()]
    assert found.macro_rank_mae == pytest.approx(np.mean(by_rank))
    f1 = sk.f1_score(labels, ranks, average=None, labels=range(4), zero_division=0.0)
    assert [own.f1 or 0.0 for own in found.per_class.values()] == pytest.approx(f1.tolist())
    assert found.confusion == tuple(map(tuple, sk.confusion_matrix(labels, ranks, labels=range(4)).tolist()))
    for name in ordinal.METRICS:
        assert ordinal.epoch_value(shares, labels, name) == pytest.approx(getattr(found, name))


def test_steps_that_are_passed_give_a_distribution_whose_median_is_predicted():
    logits = torch.tensor([[3.0, 0.5, -2.0], [-4.0, 9.0, 9.0], [60.0, 60.0, 60.0]])
    steps = logits.double().sigmoid()
    shares = predictions_of(GRADE, logits)
    assert torch.allclose(shares.sum(dim=1), torch.ones(3, dtype=torch.float64))
    assert torch.allclose(1 - shares.cumsum(dim=1)[:, :-1], steps.cumprod(dim=1), atol=1e-12)
    # The paper's rule: as many ranks as are passed with more than one half.
    assert predicted_ranks(shares).tolist() == (steps.cumprod(dim=1) > 0.5).sum(dim=1).tolist() == [2, 0, 3]


def test_numbers_come_in_their_own_units_and_within_the_range_that_training_had():
    logits = torch.tensor([[0.0], [1.0], [50.0]])
    assert outputs_of(AGE, logits).flatten().tolist() == [40.0, 48.0, 440.0]
    held = Task(name="age", kind="regression", center=40.0, scale=8.0, low=20.0, high=60.0)
    assert outputs_of(held, logits).flatten().tolist() == [40.0, 48.0, 60.0]


def test_what_ranks_leave_undefined_says_why():
    shares = torch.tensor([[0.9, 0.1, 0.0, 0.0]] * 3)
    found = ordinal.ordinal_metrics(shares, torch.tensor([0, 0, 0]), GRADE.classes, resamples=9)
    assert found.quadratic_kappa is None
    assert found.undefined["quadratic_kappa"] == "every row is of, and taken for, 'low'"
    assert found.undefined["recall of 'mid'"] == "no row of this rank"
    assert found.undefined["precision of 'top'"] == "this rank is never predicted"
    assert "no row of 'mid', 'high', 'top'" in found.undefined["macro_rank_mae"]


def tagged(seed, rows=40, holes=True):
    draws = torch.Generator().manual_seed(seed)
    value = (torch.rand(rows, 3, generator=draws) < torch.tensor([0.5, 0.3, 0.2])).float()
    shares = (torch.rand(rows, 3, generator=draws) * 0.7 + 0.3 * value).round(decimals=1)
    mask = torch.rand(rows, 3, generator=draws) < (0.8 if holes else 2.0)
    return shares, Target(value=torch.where(mask, value, torch.nan), mask=mask)


@pytest.mark.filterwarnings("ignore:No (positive|negative) samples")  # of the library, where ours says undefined
@settings(max_examples=30, deadline=None)
@given(seeds)
@example(41070)  # a label that no row has
def test_figures_of_labels_are_those_of_the_libraries_over_what_is_known(seed):
    shares, target = tagged(seed)
    found = multilabel.multilabel_metrics(shares, target, TAGS.classes, resamples=2)
    truth = torch.where(target.mask, target.value, -1).long()
    options = {"num_labels": 3, "average": "none", "ignore_index": -1}
    aps = multilabel_average_precision(shares, truth, **options)
    aucs = multilabel_auroc(shares, truth, **options)
    for index, own in enumerate(found.per_class.values()):
        known = target.mask[:, index]
        there, guessed = truth[known, index], shares[known, index] >= 0.5
        assert own.support == int(there.sum())
        if 0 < own.support < own.rows:
            assert own.ap == pytest.approx(float(aps[index]), abs=1e-5)
            assert own.roc_auc == pytest.approx(float(aucs[index]), abs=1e-5)
        if own.f1 is not None:
            assert own.f1 == pytest.approx(sk.f1_score(there, guessed))
    if found.map is not None:
        assert found.map == pytest.approx(float(aps.mean()), abs=1e-5)
    known = target.mask.flatten()
    flat, guessed = truth.flatten()[known], shares.flatten()[known] >= 0.5
    assert found.micro_f1 == pytest.approx(sk.f1_score(flat, guessed))
    assert found.label_accuracy == pytest.approx(sk.accuracy_score(flat, guessed))
    whole = target.mask.all(dim=1)
    assert found.subset_accuracy == pytest.approx(
        sk.accuracy_score(truth[whole].numpy(), (shares[whole] >= 0.5).numpy())
    )
    assert found.log_loss == pytest.approx(
        sk.log_loss(flat, shares.double().flatten()[known].numpy(), labels=[0, 1]), rel=1e-6
    )
    for name in multilabel.METRICS:
        assert multilabel.epoch_value(shares, target, TAGS.classes, name) == pytest.approx(getattr(found, name) or 0.0)


def test_what_labels_leave_undefined_says_why():
    value = torch.tensor([[1.0, 0.0, torch.nan], [1.0, 1.0, torch.nan]])
    target = Target(value=value, mask=~value.isnan())
    found = multilabel.multilabel_metrics(torch.full((2, 3), 0.2), target, TAGS.classes, resamples=9)
    assert (found.map, found.roc_auc, found.subset_accuracy) == (None, None, None)
    assert found.undefined["map"] == "undefined for 'c'"
    assert found.undefined["roc_auc of 'a'"] == "every row has this label"
    assert found.undefined["ap of 'c'"] == "this label is known of no row"
    assert found.undefined["subset_accuracy"] == "of no row are all labels known"
    assert found.undefined["precision of 'b'"] == "this label is never predicted"
    for name, said in (
        ("map", r"this label is known of no row \('c'\)"),
        ("roc_auc(a)", "every row has this label"),
        ("subset_accuracy", "of no row are all labels known"),
    ):
        with pytest.raises(DataError, match=f"is undefined on these rows: {said}"):
            check_defined(TAGS, name, target, "these rows")


def test_labels_that_cannot_be_scored_are_refused():
    _, target = tagged(3)
    blank = Target(value=target.value, mask=torch.zeros_like(target.mask))
    with pytest.raises(ValueError, match="no rows to score"):
        multilabel.multilabel_metrics(torch.rand(40, 3), blank, TAGS.classes)
    with pytest.raises(ValueError, match="probabilities are not all finite"):
        multilabel.multilabel_metrics(torch.full((40, 3), torch.nan), target, TAGS.classes)


@pytest.mark.parametrize(
    ("task", "name", "message"),
    [
        (AGE, "accuracy", "unknown metric 'accuracy' of numbers; there are nmse, rmse, mae"),
        (AGE, "rsme", "did you mean rmse"),
        (GRADE, "kappa", "unknown metric 'kappa' of ranks; there are .*; did you mean quadratic_kappa|of ranks"),
        (TAGS, "mapp", "unknown metric 'mapp' of labels; .* did you mean map"),
        (TAGS, "ap(d)", r"unknown label 'd' in ap\(d\); there are a, b, c"),
    ],
)
def test_a_metric_that_a_kind_does_not_have_is_refused(task, name, message):
    with pytest.raises(UnknownNameError, match=message):
        check_metric(task, name)


def test_before_classes_are_known_a_metric_of_any_target_passes():
    check_metric_name("ap(x)", ["classification", "multilabel"])
    check_metric_name("rmse", ["classification", "regression"])
    with pytest.raises(UnknownNameError, match="unknown metric 'rmse'; there are balanced_accuracy"):
        check_metric_name("rmse", ["classification", "ordinal"])


def test_one_value_is_no_ground_to_choose_by_correlation():
    held = Target(value=torch.zeros(3, 1), mask=torch.ones(3, dtype=torch.bool))
    with pytest.raises(DataError, match="spearman is undefined on these rows: every value is the same; choose by nmse"):
        check_defined(AGE, "spearman", held, "these rows")
    ranks = Target(value=torch.zeros(3, dtype=torch.int64), mask=torch.ones(3, dtype=torch.bool))
    with pytest.raises(DataError, match="quadratic_kappa is undefined on these rows: every row is of one rank"):
        check_defined(GRADE, "quadratic_kappa", ranks, "these rows")


def test_every_kind_has_a_default_that_its_report_gives_too():
    draws = torch.Generator().manual_seed(0)
    mask = torch.rand(30, generator=draws) < 0.7
    cases = {
        AGE: Target(value=torch.randn(30, 1, generator=draws), mask=mask),
        GRADE: Target(value=torch.randint(0, 4, (30,), generator=draws), mask=mask),
        TAGS: tagged(1, 30)[1],
        Task(name="k", classes=("x", "y")): Target(value=torch.randint(0, 2, (30,), generator=draws), mask=mask),
    }
    for task, target in cases.items():
        logits = torch.randn(30, task.outputs, generator=draws)
        found = report(task, predictions_of(task, logits), target)
        assert found["kind"] == task.kind
        name = DEFAULTS[task.kind]
        assert epoch_score(task, name, logits, target) == pytest.approx(found[name], rel=1e-5)
        assert {"rows", "intervals", "undefined"} <= found.keys()


def test_intervals_hold_the_mean_and_leave_out_what_resamples_seldom_define():
    values = torch.arange(50, dtype=torch.float64)

    def score(rows):
        seldom = torch.where((rows == 0).any(dim=1), 1.0, torch.nan)
        return {"mean": values[rows].mean(dim=1), "seldom": seldom.double()}

    found = row_bootstrap(score, 50, resamples=400)
    low, high = found.bounds["mean"]
    spread = 14.4 / 50**0.5
    assert low == pytest.approx(24.5 - 1.96 * spread, abs=0.8)
    assert high == pytest.approx(24.5 + 1.96 * spread, abs=0.8)
    assert found.left_out["seldom"].startswith("it is defined in 2")
    assert row_bootstrap(score, 50, columns=10**7).left_out["mean"].endswith("more than 200,000,000")
