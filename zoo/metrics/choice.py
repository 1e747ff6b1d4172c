"""The metric that chooses: its name checked, its value after an epoch, which of two values is better."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.errors import DataError
from zoo.metrics.areas import areas_by_class
from zoo.metrics.calibration import calibration
from zoo.metrics.classification import probabilities_of
from zoo.metrics.names import metric_and_own
from zoo.metrics.scores import averages, check_rows, class_scores, counts_of, log_losses
from zoo.metrics.undefined import by_labels, by_labels_of_class

METRICS = (
    "balanced_accuracy",
    "accuracy",
    "macro_f1",
    "weighted_f1",
    "macro_precision",
    "macro_recall",
    "g_mean",
    "mcc",
    "roc_auc",
    "pr_auc",
    "log_loss",
    "ece",
)
"""What may choose the best epoch; the first is defined wherever a row has a label, and errors recommend it."""

OF_CLASS = ("recall", "precision", "f1", "roc_auc", "pr_auc")
"""What may choose it of one class, named as in `recall(crack)`."""

LOWER_IS_BETTER = frozenset({"log_loss", "ece", "nmse", "rmse", "mae", "rank_mae", "macro_rank_mae"})
"""The metrics of any kind of task of which the smallest value is the best; of all others it is the largest."""


def check_metric(name: str, classes: Sequence[str] | None = None) -> tuple[str, str | None]:
    """Refuse a name that is neither one of `METRICS` nor one of `OF_CLASS` with a class, before anything is trained.

    Args:
        name: as the user wrote it.
        classes: names of the classes; None as long as they are not known, and any class passes.

    Returns:
        The metric, and the class that it is about or None.

    Raises:
        UnknownNameError: naming the choices and close ones.
    """
    return metric_and_own(name, METRICS, OF_CLASS, thing="class", names=classes)


def check_defined(name: str, labels: Tensor, classes: Sequence[str], rows: str = "these rows") -> None:
    """Refuse a metric that these labels leave undefined whatever is predicted.

    Args:
        name: as of `check_metric`.
        labels: int64 (N,), positions in `classes`.
        classes: the K names.
        rows: what the message calls them.

    Raises:
        UnknownNameError: as `check_metric`.
        DataError: it is undefined; the message says why.
    """
    metric, own = check_metric(name, classes)
    support = torch.bincount(labels.to("cpu"), minlength=len(classes)).tolist()
    if own is None:
        reason = by_labels(metric, support, classes)
    else:
        reason = by_labels_of_class(metric, support[classes.index(own)], len(labels))
    if reason is not None:
        raise DataError(f"{name} is undefined on {rows}: {reason}; choose by {METRICS[0]} or bring rows of each class")


def is_better(name: str, new: float, best: float) -> bool:
    """Whether `new` beats `best` under the metric `name`; a tie does not, so the earliest best epoch stays."""
    return new < best if name in LOWER_IS_BETTER else new > best


def epoch_score(logits: Tensor, labels: Tensor, name: str, classes: Sequence[str] = ()) -> float:
    """The metric `name` alone, as the full report of `probabilities_of(logits)` has it, at a fraction of the cost.

    A metric that only the predictions of an epoch leave undefined, such as `mcc` where all rows are taken for one class
    or the precision of a class that is never predicted, counts as 0 here, so that a first, poor epoch ends no training.

    Args:
        logits: float (N, K).
        labels: int64 (N,).
        name: as of `check_metric`.
        classes: the K names; their positions where there are none.

    Raises:
        UnknownNameError, DataError: as `check_defined`.
        ValueError: as `classification_metrics`; logits that are not finite are such a case.
    """
    classes = list(classes) or [str(index) for index in range(logits.shape[-1])]
    metric, own = check_metric(name, classes)
    probabilities, labels = check_rows(probabilities_of(logits), labels, len(classes))
    check_defined(name, labels, classes)
    if own is not None:
        return _of_class(probabilities, labels, metric, classes.index(own))
    if metric == "log_loss":
        return float(log_losses(probabilities, labels).mean())
    if metric == "ece":
        return calibration(probabilities, labels)[0]
    if metric in ("roc_auc", "pr_auc"):
        return float(areas_by_class(probabilities, labels)[metric == "pr_auc"].mean())
    return float(averages(counts_of(probabilities, labels))[metric].nan_to_num(0.0))


def _of_class(probabilities: Tensor, labels: Tensor, metric: str, index: int) -> float:
    if metric in ("roc_auc", "pr_auc"):
        return float(areas_by_class(probabilities, labels)[metric == "pr_auc"][index])
    scores = class_scores(counts_of(probabilities, labels))
    return float(scores[("precision", "recall", "f1").index(metric)][index].nan_to_num(0.0))
