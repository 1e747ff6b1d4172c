"""What comes out of an exported file for each kind of task, and what that means."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from zoo.metrics.predictions import outputs_of, within
from zoo.specs import Task

_LOGITS = {
    "classification": "corrected as the run's strategy wants; the softmax of them gives the run's probabilities",
    "multilabel": "corrected as the run's strategy wants; the sigmoid of each gives the run's probability",
    "ordinal": "of the steps between ranks: the probability of more than rank k is the product of the sigmoids of the "
    "first k + 1 of them",
}
_SHARES = {
    "classification": "of the classes, which sum to 1",
    "multilabel": "of each label for itself; the run predicts those of at least one half",
    "ordinal": "of the ranks, which sum to 1; the run predicts their median",
}


def kind_of_output(task: Task, *, softmax: bool) -> str:
    """`probabilities` or `logits`; of numbers `value` always."""
    if task.kind == "regression":
        return "value"
    return "probabilities" if softmax else "logits"


def describe_output(task: Task, *, softmax: bool, batch: int | None) -> dict[str, Any]:
    """What stands about one output in the description, JSON values."""
    gives = kind_of_output(task, softmax=softmax)
    columns = len(task.classes) if gives == "probabilities" else task.outputs
    means = _value(task, softmax) if gives == "value" else (_SHARES if softmax else _LOGITS)[task.kind]
    shape = [batch or "batch", columns]
    return {"gives": gives, "kind": task.kind, "shape": shape, "classes": list(task.classes), "means": means}


def _value(task: Task, softmax: bool) -> str:
    if task.low is None or task.high is None:
        return "in the target's own units"
    ends = f"between {task.low:g} and {task.high:g}, the ends of the training rows"
    return f"in the target's own units, {ends}" if softmax else f"in the target's own units; the run keeps it {ends}"


def served_output(task: Task, logits: Tensor, *, softmax: bool) -> Tensor:
    """What comes out for corrected logits (B, outputs): float32 (B, columns)."""
    if softmax:
        return outputs_of(task, logits)
    return logits * task.scale + task.center if task.kind == "regression" else logits


def comparable(task: Task, given: Tensor, *, softmax: bool) -> Tensor:
    """What comes out as numbers about 1, so that two of them may be compared: probabilities, or standard deviations."""
    if task.kind == "regression":
        return (within(task, given.double()) - task.center) / task.scale
    return given.double() if softmax else outputs_of(task, given.double())
