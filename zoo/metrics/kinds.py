"""One door to the metrics of every kind of task: what there is, what a report says, what an epoch scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from zoo.errors import UnknownNameError
from zoo.metrics import choice, multilabel, ordinal, regression
from zoo.metrics.classification import classification_metrics
from zoo.metrics.predictions import predictions_of
from zoo.specs import Target, Task, TaskKind

DEFAULTS: dict[TaskKind, str] = {
    "classification": "log_loss",
    "multilabel": multilabel.METRICS[0],
    "ordinal": ordinal.METRICS[0],
    "regression": regression.METRICS[0],
}
"""What chooses where nobody says otherwise: smooth where the accuracy of a few hundred rows jumps."""


def check_metric_name(name: str, kinds: Iterable[TaskKind]) -> None:
    """Refuse a metric that no task of these kinds has, before classes are known.

    Raises:
        UnknownNameError: naming the choices of the first kind, and close ones.
    """
    checks: dict[TaskKind, Callable[[str], object]] = {
        "classification": choice.check_metric,
        "multilabel": multilabel.check_name,
        "ordinal": ordinal.check_name,
        "regression": regression.check_name,
    }
    refused: list[UnknownNameError] = []
    for kind in kinds:
        try:
            checks[kind](name)
        except UnknownNameError as error:
            refused.append(error)
        else:
            return
    raise refused[0]


def check_metric(task: Task, name: str) -> None:
    """Refuse a metric that tasks of this kind do not have, or that is about a class that this one has not.

    Raises:
        UnknownNameError: naming the choices and close ones.
    """
    match task.kind:
        case "classification":
            choice.check_metric(name, task.classes)
        case "multilabel":
            multilabel.check_name(name, task.classes)
        case "ordinal":
            ordinal.check_name(name)
        case "regression":
            regression.check_name(name)


def check_defined(task: Task, name: str, target: Target, rows: str) -> None:
    """Refuse a metric that the labels of some rows leave undefined whatever is predicted.

    Args:
        task: whose labels.
        name: one that `check_metric` knows.
        target: of the rows, one of them labelled.
        rows: what the message calls them.

    Raises:
        DataError: it is undefined; the message says why.
    """
    match task.kind:
        case "classification":
            choice.check_defined(name, target.value[target.mask], task.classes, rows)
        case "multilabel":
            multilabel.check_values(name, target, task.classes, rows)
        case "ordinal":
            ordinal.check_values(name, target.value[target.mask], rows)
        case "regression":
            regression.check_values(name, target.value[target.mask], rows)


def epoch_score(task: Task, name: str, logits: Tensor, target: Target) -> float:
    """A metric alone, of rows one of which at least is labelled, as the full report has it.

    Args:
        task: of the rows.
        name: one that `check_metric` knows.
        logits: float (N, outputs).
        target: of the same rows.

    Raises:
        DataError: as `check_defined`, of classes.
        ValueError: logits that are not finite.
    """
    if task.kind == "classification":
        return choice.epoch_score(logits[target.mask], target.value[target.mask], name, task.classes)
    predicted = predictions_of(task, logits)
    if task.kind == "multilabel":
        return multilabel.epoch_value(predicted, target, task.classes, name)
    predicted, truth = predicted[target.mask], target.value[target.mask]
    if task.kind == "ordinal":
        return ordinal.epoch_value(predicted, truth, name)
    return regression.epoch_value(predicted, in_units(task, truth), task, name)


def report(task: Task, predicted: Tensor, target: Target) -> dict[str, Any]:
    """The full report as JSON values, of rows one of which at least is labelled.

    Args:
        task: of the rows.
        predicted: float64, as of `predictions_of`.
        target: of the same rows.

    Raises:
        ValueError: predictions that are not finite.
    """
    if task.kind == "multilabel":
        return multilabel.multilabel_metrics(predicted, target, task.classes).to_json()
    predicted, truth = predicted[target.mask], target.value[target.mask]
    if task.kind == "ordinal":
        return ordinal.ordinal_metrics(predicted, truth, task.classes).to_json()
    if task.kind == "regression":
        return regression.regression_metrics(predicted, in_units(task, truth), task).to_json()
    return {"kind": "classification", **classification_metrics(predicted, truth, task.classes).to_json()}


def in_units(task: Task, value: Tensor) -> Tensor:
    """Standardised numbers in the target's own units, float64."""
    return value.double() * task.scale + task.center
