from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from imblearn.metrics import geometric_mean_score, sensitivity_specificity_support
from sklearn import metrics as oracle
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from torchmetrics.functional.classification import multiclass_calibration_error

from zoo.metrics.choice import METRICS
from zoo.metrics.classification import classification_metrics, probabilities_of

NAMES = ("ok", "scratch", "crack", "hole", "dust")


def one_hot(predicted: list[int], classes: int) -> torch.Tensor:
    """Probabilities that say so plainly, with the rest spread evenly."""
    rest = 0.1 / (classes - 1)
    return torch.full((len(predicted), classes), rest).scatter_(1, torch.tensor(predicted)[:, None], 0.9)


@st.composite
def scored_rows(draw) -> tuple[torch.Tensor, torch.Tensor, int]:
    classes = draw(st.integers(2, 5))
    rows = draw(st.integers(1, 60))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    # Rounded logits make ties; a skewed draw leaves classes out.
    logits = (torch.randn(rows, classes, generator=generator) * 2).round(decimals=draw(st.sampled_from([0, 1, 6])))
    labels = torch.randint(0, draw(st.integers(1, classes)), (rows,), generator=generator)
    return logits, labels, classes


@settings(max_examples=60, deadline=None)
@given(scored_rows())
def test_every_value_agrees_with_scikit_learn(sample):
    logits, labels, classes = sample
    probabilities = probabilities_of(logits)
    got = classification_metrics(probabilities, labels, NAMES[:classes])
    true, predicted, every = labels.numpy(), probabilities.numpy().argmax(1), list(range(classes))
    common = {"labels": every, "zero_division": 0}
    assert got.accuracy == pytest.approx(oracle.accuracy_score(true, predicted))
    present = sorted(set(true.tolist()))
    mean_recall = oracle.recall_score(true, predicted, labels=present, average="macro", zero_division=0)
    assert got.balanced_accuracy == pytest.approx(mean_recall)
    assert got.macro_precision == pytest.approx(oracle.precision_score(true, predicted, average="macro", **common))
    assert got.macro_recall == pytest.approx(oracle.recall_score(true, predicted, average="macro", **common))
    assert got.macro_f1 == pytest.approx(oracle.f1_score(true, predicted, average="macro", **common))
    assert got.weighted_f1 == pytest.approx(oracle.f1_score(true, predicted, average="weighted", **common))
    assert got.log_loss == pytest.approx(oracle.log_loss(true, probabilities.numpy(), labels=every))
    assert np.array_equal(got.confusion, oracle.confusion_matrix(true, predicted, labels=every))
    assert sum(map(sum, got.confusion)) == got.rows == len(labels)
    by_class = oracle.precision_recall_fscore_support(true, predicted, average=None, **common)
    for index, scores in enumerate(got.per_class.values()):
        values = [scores.precision or 0.0, scores.recall or 0.0, scores.f1 or 0.0, scores.support]
        assert values == pytest.approx([column[index] for column in by_class])


@settings(max_examples=40, deadline=None)
@given(scored_rows())
def test_roc_auc_agrees_with_scikit_learn_and_is_none_where_it_is_undefined(sample):
    logits, labels, classes = sample
    probabilities = probabilities_of(logits)
    got = classification_metrics(probabilities, labels, NAMES[:classes])
    areas = []
    for index, (name, scores) in enumerate(got.per_class.items()):
        positive = (labels == index).numpy()
        if 0 < positive.sum() < len(labels):
            areas.append(oracle.roc_auc_score(positive, probabilities[:, index].numpy()))
            assert scores.roc_auc == pytest.approx(areas[-1])
        else:
            assert scores.roc_auc is None
            assert f"roc_auc of {name!r}" in got.undefined
    assert got.roc_auc == (pytest.approx(np.mean(areas)) if len(areas) == classes else None)
    assert ("roc_auc" in got.undefined) == (len(areas) < classes)


@settings(max_examples=40, deadline=None)
@given(scored_rows())
def test_average_precision_agrees_with_scikit_learn_and_is_none_where_a_class_has_no_rows(sample):
    logits, labels, classes = sample
    probabilities = probabilities_of(logits)
    got = classification_metrics(probabilities, labels, NAMES[:classes])
    found = []
    for index, (name, scores) in enumerate(got.per_class.items()):
        positive = (labels == index).numpy()
        if positive.any():
            found.append(oracle.average_precision_score(positive, probabilities[:, index].numpy()))
            assert scores.pr_auc == pytest.approx(found[-1])
        else:
            assert (scores.pr_auc, got.undefined[f"pr_auc of {name!r}"]) == (None, "no row of this class")
    assert got.pr_auc == (pytest.approx(np.mean(found)) if len(found) == classes else None)
    assert ("pr_auc" in got.undefined) == (got.pr_auc is None)


@settings(max_examples=60, deadline=None)
@given(scored_rows())
def test_g_mean_and_mcc_agree_with_imbalanced_learn_and_scikit_learn_where_they_are_defined(sample):
    logits, labels, classes = sample
    probabilities = probabilities_of(logits)
    got = classification_metrics(probabilities, labels, NAMES[:classes])
    true, predicted = labels.numpy(), probabilities.numpy().argmax(1)
    if len(set(true)) == classes:
        assert got.g_mean == pytest.approx(geometric_mean_score(true, predicted))
    else:
        assert got.g_mean is None
        assert got.undefined["g_mean"].startswith("no row of '")
    if len(set(true)) > 1 and len(set(predicted)) > 1:
        assert got.mcc == pytest.approx(oracle.matthews_corrcoef(true, predicted))
    else:
        assert got.mcc is None
        assert got.undefined["mcc"].startswith("every row is ")


def bins_by_hand(probabilities: np.ndarray, labels: np.ndarray) -> tuple[float, list[int]]:
    """Guo et al. 2017, equation 3, as it is written."""
    sure, right = probabilities.max(1), probabilities.argmax(1) == labels
    error, sizes = 0.0, []
    for low, high in zip(np.linspace(0, 1, 16)[:-1], np.linspace(0, 1, 16)[1:], strict=True):
        inside = (sure > low) & (sure <= high)
        sizes.append(int(inside.sum()))
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
    return error, sizes


@settings(max_examples=40, deadline=None)
@given(scored_rows())
def test_the_calibration_error_is_that_of_guo_et_al(sample):
    logits, labels, classes = sample
    probabilities = probabilities_of(logits)
    got = classification_metrics(probabilities, labels, NAMES[:classes])
    error, sizes = bins_by_hand(probabilities.numpy(), labels.numpy())
    assert got.ece == pytest.approx(error, abs=1e-12)
    assert [each.rows for each in got.calibration] == sizes
    assert [each.accuracy is None for each in got.calibration] == [size == 0 for size in sizes]


def test_the_calibration_error_is_that_of_torchmetrics():
    generator = torch.Generator().manual_seed(3)
    probabilities = torch.randn(500, 4, generator=generator).softmax(1)
    labels = torch.randint(0, 4, (500,), generator=generator)
    theirs = multiclass_calibration_error(probabilities, labels, num_classes=4, n_bins=15, norm="l1")
    assert classification_metrics(probabilities, labels, NAMES[:4]).ece == pytest.approx(float(theirs), abs=1e-6)


def test_golden_values_of_imbalanced_learn():
    got = classification_metrics(one_hot([0, 1, 1, 0], 2), torch.tensor([0, 0, 1, 1]), NAMES[:2])
    assert got.g_mean == pytest.approx(0.5)
    got = classification_metrics(one_hot([0, 2, 1, 0, 0, 1], 3), torch.tensor([0, 1, 2, 0, 1, 2]), NAMES[:3])
    assert [scores.recall for scores in got.per_class.values()] == [1.0, 0.0, 0.0]
    assert got.g_mean == 0.0
    # its binary example: 25 rows of each class, of which 22 and 17 are found
    true, predicted = [0] * 25 + [1] * 25, [0] * 22 + [1] * 3 + [0] * 8 + [1] * 17
    got = classification_metrics(one_hot(predicted, 2), torch.tensor(true), NAMES[:2])
    sensitivity, specificity = rates(got)
    assert sensitivity == pytest.approx([0.88, 0.68]) == [scores.recall for scores in got.per_class.values()]
    assert specificity == pytest.approx([0.68, 0.88])
    theirs = sensitivity_specificity_support(true, predicted, average=None)
    assert (sensitivity, specificity) == (pytest.approx(theirs[0]), pytest.approx(theirs[1]))


def rates(got) -> tuple[list[float], list[float]]:
    """Sensitivity and specificity of each class, from the confusion matrix of a report."""
    confusion = np.array(got.confusion)
    hits, rows, taken = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    return (hits / rows).tolist(), (1 - (taken - hits) / (confusion.sum() - rows)).tolist()


def test_golden_g_means_of_imbalanced_learn_follow_from_the_report():
    true, predicted = [0, 1, 2, 0, 1, 2], [0, 2, 1, 0, 0, 1]
    sensitivity, specificity = rates(classification_metrics(one_hot(predicted, 3), torch.tensor(true), NAMES[:3]))
    corrected = np.prod([own or 0.001 for own in sensitivity]) ** (1 / 3)
    assert corrected == pytest.approx((0.001**2) ** (1 / 3))
    assert corrected == pytest.approx(geometric_mean_score(true, predicted, correction=0.001))
    by_class = np.sqrt(np.multiply(sensitivity, specificity))
    assert by_class == pytest.approx([0.8660254, 0.0, 0.0])
    assert np.sqrt(np.mean(sensitivity) * np.mean(specificity)) == pytest.approx(0.471, abs=5e-4)


def test_golden_report_of_imbalanced_learn():
    """Its `make_prediction`: iris among 800 columns of noise, half of it to learn from."""
    rows, labels = load_iris(return_X_y=True)
    order = np.arange(150)
    np.random.RandomState(37).shuffle(order)
    rows, labels = rows[order], labels[order]
    rows = np.c_[rows, np.random.RandomState(0).randn(150, 800)]
    predicted = LogisticRegression().fit(rows[:75], labels[:75]).predict(rows[75:])
    got = classification_metrics(one_hot(predicted.tolist(), 3), torch.from_numpy(labels[75:]), NAMES[:3])
    classes = list(got.per_class.values())
    assert [own.support for own in classes] == [24, 31, 20]
    # a row of iris more or less falls to another class with another solver; the golden values have two places
    assert [own.precision for own in classes] == pytest.approx([0.70, 0.29, 0.44], abs=0.02)
    assert [own.recall for own in classes] == pytest.approx([0.79, 0.06, 0.90], abs=0.02)
    assert [own.f1 for own in classes] == pytest.approx([0.75, 0.11, 0.59], abs=0.02)
    assert rates(got)[1] == pytest.approx([0.84, 0.89, 0.58], abs=0.02)
    assert (got.accuracy, got.weighted_f1) == pytest.approx((0.52, 0.44), abs=0.02)


def test_balanced_accuracy_is_the_one_of_scikit_learn_by_name():
    true, predicted = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 2, 2]
    got = classification_metrics(one_hot(predicted, 3), torch.tensor(true), NAMES[:3])
    assert got.balanced_accuracy == pytest.approx(oracle.balanced_accuracy_score(true, predicted))
    assert got.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert got.undefined == {}


def test_a_perfect_classifier_scores_one_everywhere():
    got = classification_metrics(one_hot([0, 1, 0, 1], 2), torch.tensor([0, 1, 0, 1]), NAMES[:2])
    rest = {"log_loss", "ece"}
    assert {getattr(got, name) for name in METRICS if name not in rest} == {1.0}
    assert got.log_loss == pytest.approx(-np.log(0.9), rel=1e-6)
    assert got.ece == pytest.approx(0.1)
    assert list(got.per_class) == ["ok", "scratch"]


def test_accuracy_alone_does_not_hide_a_class_that_is_never_found():
    got = classification_metrics(one_hot([0] * 100, 2), torch.tensor([0] * 98 + [1] * 2), NAMES[:2])
    assert got.accuracy == pytest.approx(0.98)
    assert got.balanced_accuracy == pytest.approx(0.5)
    assert got.per_class["scratch"].recall == 0.0


def test_a_class_without_rows_is_undefined_with_its_reason_and_not_zero():
    got = classification_metrics(one_hot([0, 1, 1, 2], 4), torch.tensor([0, 0, 1, 1]), NAMES[:4])
    crack, hole = got.per_class["crack"], got.per_class["hole"]
    assert (crack.precision, crack.recall, crack.f1, crack.roc_auc, crack.pr_auc) == (0.0, None, 0.0, None, None)
    assert (hole.precision, hole.recall, hole.f1, hole.roc_auc, hole.pr_auc) == (None, None, None, None, None)
    assert (got.g_mean, got.undefined["g_mean"]) == (None, "no row of 'crack', 'hole'")
    assert (got.pr_auc, got.undefined["pr_auc"]) == (None, "undefined for 'crack', 'hole'")
    assert got.undefined["roc_auc of 'crack'"] == "no row of this class"
    assert got.undefined["precision of 'hole'"] == "this class is never predicted"
    assert got.undefined["f1 of 'hole'"] == "no row of this class, and it is never predicted"
    assert got.undefined["macro_recall"] == "counts the undefined recall of 'crack', 'hole' as 0"
    assert got.undefined["balanced_accuracy"] == "mean over the classes that have rows; no row of 'crack', 'hole'"
    assert got.undefined["roc_auc"] == "undefined for 'crack', 'hole'"
    assert got.roc_auc is None


def test_a_class_that_is_never_predicted_has_no_precision():
    got = classification_metrics(one_hot([0, 0, 0], 2), torch.tensor([0, 1, 0]), NAMES[:2])
    scratch = got.per_class["scratch"]
    assert (scratch.precision, scratch.recall, scratch.f1) == (None, 0.0, 0.0)
    assert got.undefined == {
        "precision of 'scratch'": "this class is never predicted",
        "macro_precision": "counts the undefined precision of 'scratch' as 0",
        "mcc": "every row is predicted as 'ok'",
    }
    assert (got.mcc, got.g_mean) == (None, 0.0)
    assert got.macro_precision == pytest.approx(1 / 3)


def test_rows_of_one_class_alone_leave_no_roc_curve():
    got = classification_metrics(one_hot([0, 1], 2), torch.tensor([0, 0]), NAMES[:2])
    assert got.undefined["roc_auc of 'ok'"] == "every row is of this class"
    assert got.undefined["roc_auc of 'scratch'"] == "no row of this class"
    assert (got.mcc, got.undefined["mcc"]) == (None, "every row is of 'ok'")
    assert got.per_class["ok"].pr_auc == 1.0
    assert got.balanced_accuracy == 0.5


def test_constant_probabilities_rank_nothing():
    got = classification_metrics(torch.full((6, 3), 1 / 3), torch.tensor([0, 0, 0, 1, 1, 2]), NAMES[:3])
    assert [scores.roc_auc for scores in got.per_class.values()] == [0.5] * 3
    assert [scores.pr_auc for scores in got.per_class.values()] == pytest.approx([1 / 2, 1 / 3, 1 / 6])
    assert (got.mcc, got.undefined["mcc"]) == (None, "every row is predicted as 'ok'")


def test_the_report_survives_json():
    got = classification_metrics(one_hot([0, 0, 1], 3), torch.tensor([0, 1, 1]), NAMES[:3])
    stored = json.loads(json.dumps(got.to_json(), allow_nan=False))
    assert stored["confusion"] == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
    assert stored["per_class"]["crack"] == {
        "precision": None, "recall": None, "recall_interval": None, "f1": None, "support": 0, "predicted": 0,
        "roc_auc": None, "pr_auc": None,
    }  # fmt: skip
    assert stored["classes"] == ["ok", "scratch", "crack"]
    assert stored["undefined"]["recall of 'crack'"] == "no row of this class"
    assert set(METRICS) < set(stored)
    assert len(stored["calibration"]) == 15
    assert stored["intervals"]["bounds"]["accuracy"] == list(got.intervals.bounds["accuracy"])


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (torch.full((2, 3), 1 / 3), torch.tensor([0, 1]), r"2 classes need probabilities \(N, 2\)"),
        (torch.full((2, 2), 0.5), torch.tensor([0]), r"labels \(N,\), not \(2, 2\) and \(1,\)"),
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), "no rows to score"),
        (torch.full((1, 2), 0.5), torch.tensor([0.0]), "labels must be int64, not torch.float32"),
        (torch.full((1, 2), 0.5), torch.tensor([-1]), "labels must lie in 0 to 1, not -1 to -1"),
        (torch.full((1, 2), 0.5), torch.tensor([2]), "leave rows without a label out"),
        (torch.tensor([[torch.nan, 1.0]]), torch.tensor([0]), "probabilities are not all finite"),
        (torch.tensor([[-0.5, 1.5]]), torch.tensor([0]), "a probability is negative: -0.5"),
        (torch.tensor([[0.5, 0.6]]), torch.tensor([0]), "must sum to 1 over each row; one row is off by 0.1"),
    ],
)
def test_tensors_that_cannot_be_scored_are_refused(probabilities, labels, message):
    with pytest.raises(ValueError, match=message):
        classification_metrics(probabilities, labels, NAMES[:2])


def test_rounding_of_reduced_precision_is_forgiven():
    got = classification_metrics(torch.tensor([[1.0004, 0.0], [0.3, 0.7003]]), torch.tensor([0, 1]), NAMES[:2])
    assert got.roc_auc == 1.0
    assert got.log_loss == pytest.approx(-np.log(0.7003) / 2, rel=1e-5)


def test_scoring_leaves_the_callers_tensors_alone():
    probabilities = torch.tensor([[1.0 + 1e-7, -1e-7]], dtype=torch.float64)
    before = probabilities.clone()
    classification_metrics(probabilities, torch.tensor([0]), NAMES[:2])
    assert torch.equal(probabilities, before)
