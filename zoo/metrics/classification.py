"""How good a classifier is on given rows, skewed classes in mind; what cannot be known is None, with its reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoo.errors import DataError, UnknownNameError
from zoo.metrics.scores import (
    AVERAGES,
    averages,
    check_rows,
    class_scores,
    confusion_counts,
    mean_log_loss,
    roc_auc_by_class,
)
from zoo.registry.lookup import suggest

METRICS = (
    "balanced_accuracy",
    "accuracy",
    "macro_f1",
    "weighted_f1",
    "macro_precision",
    "macro_recall",
    "roc_auc",
    "log_loss",
)
"""What may choose the best epoch; the first is defined wherever a row has a label, and errors recommend it."""

LOWER_IS_BETTER = frozenset({"log_loss"})
"""The metrics of which the smallest value is the best; of all others it is the largest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassMetrics:
    """How one class fares; None where a value is undefined.

    Attributes:
        support: rows of this class.
        predicted: rows that were taken for this class.
        roc_auc: of this class against all others.
    """

    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    predicted: int
    roc_auc: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassificationMetrics:
    """The report of one task on one set of rows.

    Attributes:
        rows: number of rows scored.
        classes: names in the order of the confusion matrix.
        balanced_accuracy: mean recall over the classes that have rows here, as scikit-learn has it.
        macro_precision, macro_recall, macro_f1: means over all classes; an undefined part counts as 0, and
            `undefined` says so.
        weighted_f1: mean F1, weighted by support.
        roc_auc: mean over classes of one against the rest; None as soon as one class's is undefined.
        log_loss: mean negative log probability of the true class, in nats.
        per_class: by class name.
        confusion: counts (K, K), rows true, columns predicted.
        undefined: by the name of a value, such as `roc_auc of 'crack'`, why it is None or what it leaves out.
    """

    rows: int
    classes: tuple[str, ...]
    accuracy: float
    balanced_accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    weighted_f1: float
    roc_auc: float | None
    log_loss: float
    per_class: Mapping[str, ClassMetrics]
    confusion: tuple[tuple[int, ...], ...]
    undefined: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values; `undefined` tells why a value is null."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["classes"] = list(self.classes)
        values["per_class"] = {name: dataclasses.asdict(scores) for name, scores in self.per_class.items()}
        values["confusion"] = [list(row) for row in self.confusion]
        values["undefined"] = dict(self.undefined)
        return values


def classification_metrics(probabilities: Tensor, labels: Tensor, classes: Sequence[str]) -> ClassificationMetrics:
    """Score predicted probabilities against true classes.

    Args:
        probabilities: float (N, K), each row sums to 1; on any device.
        labels: int64 (N,), positions in `classes`; rows without a label are left out before.
        classes: the K names in order.

    Raises:
        ValueError: no rows, or tensors that are not what is said above; see `zoo.metrics.scores.check_rows`.
    """
    probabilities, labels = check_rows(probabilities, labels, len(classes))
    confusion = confusion_counts(probabilities, labels)
    areas = roc_auc_by_class(probabilities, labels)
    per_class = _per_class(confusion, areas, classes)
    known = [area for area in areas if area is not None]
    return ClassificationMetrics(
        rows=len(labels),
        classes=tuple(classes),
        **averages(confusion),
        roc_auc=sum(known) / len(known) if len(known) == len(areas) else None,
        log_loss=mean_log_loss(probabilities, labels),
        per_class=per_class,
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        undefined=_reasons(per_class, len(labels)),
    )


def _per_class(confusion: Tensor, areas: Sequence[float | None], classes: Sequence[str]) -> dict[str, ClassMetrics]:
    support, predicted = confusion.sum(dim=1).tolist(), confusion.sum(dim=0).tolist()
    scores = [[None if value != value else value for value in column.tolist()] for column in class_scores(confusion)]
    precision, recall, f1 = scores
    return {
        name: ClassMetrics(
            precision=precision[index],
            recall=recall[index],
            f1=f1[index],
            support=support[index],
            predicted=predicted[index],
            roc_auc=areas[index],
        )
        for index, name in enumerate(classes)
    }


def _reasons(per_class: Mapping[str, ClassMetrics], rows: int) -> dict[str, str]:
    reasons: dict[str, str] = {}
    for name, scores in per_class.items():
        if scores.precision is None:
            reasons[f"precision of {name!r}"] = "this class is never predicted"
        if scores.recall is None:
            reasons[f"recall of {name!r}"] = "no row of this class"
        if scores.f1 is None:
            reasons[f"f1 of {name!r}"] = "no row of this class, and it is never predicted"
        if scores.roc_auc is None:
            reasons[f"roc_auc of {name!r}"] = (
                "no row of this class" if scores.support == 0 else "every row is of this class"
            )
    return reasons | _reasons_of_means(per_class)


def _reasons_of_means(per_class: Mapping[str, ClassMetrics]) -> dict[str, str]:
    reasons: dict[str, str] = {}
    for part in ("precision", "recall", "f1"):
        if names := _without(per_class, part):
            reasons[f"macro_{part}"] = f"counts the undefined {part} of {names} as 0"
    if absent := ", ".join(repr(name) for name, scores in per_class.items() if scores.support == 0):
        reasons["balanced_accuracy"] = f"mean over the classes that have rows; no row of {absent}"
    if names := _without(per_class, "roc_auc"):
        reasons["roc_auc"] = f"undefined for {names}"
    return reasons


def _without(per_class: Mapping[str, ClassMetrics], part: str) -> str:
    return ", ".join(repr(name) for name, scores in per_class.items() if getattr(scores, part) is None)


def check_metric(name: str) -> None:
    """Refuse a name that is not one of `METRICS`, before anything is trained.

    Raises:
        UnknownNameError: naming the choices and close ones.
    """
    if name not in METRICS:
        raise UnknownNameError(f"unknown metric {name!r}; there are {', '.join(METRICS)}{suggest(name, METRICS)}")


def is_better(name: str, new: float, best: float) -> bool:
    """Whether `new` beats `best` under the metric `name`; a tie does not, so the earliest best epoch stays."""
    return new < best if name in LOWER_IS_BETTER else new > best


def value(metrics: ClassificationMetrics, name: str) -> float:
    """The metric of this name.

    Raises:
        UnknownNameError: `name` is not one of `METRICS`.
        DataError: it is undefined on these rows; the message says why.
    """
    check_metric(name)
    return _defined(name, getattr(metrics, name), metrics.undefined.get(name, ""))


def _defined(name: str, found: float | None, reason: str) -> float:
    if found is None:
        raise DataError(
            f"{name} is undefined on these rows: {reason}; choose by {METRICS[0]} or bring rows of each class"
        )
    return found


def probabilities_of(logits: Tensor) -> Tensor:
    """Softmax of logits (N, K) in float64 on the CPU, so that large logits make no ties that float32 would."""
    return logits.detach().to("cpu").to(torch.float64).softmax(dim=1)


def epoch_score(logits: Tensor, labels: Tensor, name: str) -> float:
    """The metric `name` alone, as the full report of `probabilities_of(logits)` has it, at a fraction of the cost.

    Args:
        logits: float (N, K).
        labels: int64 (N,).
        name: one of `METRICS`.

    Raises:
        UnknownNameError, DataError: as `value`.
        ValueError: as `classification_metrics`; logits that are not finite are such a case.
    """
    check_metric(name)
    probabilities, labels = check_rows(probabilities_of(logits), labels, logits.shape[-1])
    if name in AVERAGES:
        return averages(confusion_counts(probabilities, labels))[name]
    if name == "log_loss":
        return mean_log_loss(probabilities, labels)
    areas = roc_auc_by_class(probabilities, labels)
    known = [area for area in areas if area is not None]
    missing = ", ".join(str(index) for index, area in enumerate(areas) if area is None)
    return _defined(name, None if missing else sum(known) / len(known), f"undefined for class {missing}")
