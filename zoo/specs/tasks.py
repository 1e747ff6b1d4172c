"""What is to be learned: tasks, targets and batches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    import torch
    from torch import Tensor

TaskKind = Literal["classification", "multilabel", "regression", "ordinal"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One thing to predict: a column of the table, its kind and, where it has them, its classes in order.

    What is fixed here is fixed once, from the training rows, and saved with the run.

    Attributes:
        name: of the column.
        kind: one class a row, several labels a row, a number, or ranks: classes with an order.
        classes: of a multilabel task its labels; of an ordinal one the ranks, the lowest first; of regression none.
        joined: of a multilabel task, whether each label has a column of its own, of 0 and 1.
        center, scale: of regression, mean and standard deviation of the training rows, in the column's units; heads
            learn the number of deviations from the mean.
        low, high: of regression, the smallest and the largest of the training rows' numbers, between which predictions
            are kept: a linear head that meets a feature as it never was says anything. None for no such end.
    """

    name: str
    kind: TaskKind = "classification"
    classes: tuple[str, ...] = ()
    joined: bool = False
    center: float = 0.0
    scale: float = 1.0
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(TaskKind):
            raise ValueError(f"task {self.name!r}: kind must be one of {', '.join(get_args(TaskKind))}")
        if (self.kind == "regression") == bool(self.classes):
            raise ValueError(
                f"task {self.name!r}: a {self.kind} task has {'no' if self.classes else 'to have'} classes"
            )
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"task {self.name!r}: a class is listed twice: {self.classes}")
        if not (math.isfinite(self.center) and 0 < self.scale < math.inf):
            raise ValueError(f"task {self.name!r}: center {self.center} and scale {self.scale} standardise nothing")

    @property
    def outputs(self) -> int:
        """Number of columns that a head for this task has: of ordinal tasks one for each step between two ranks."""
        return {"regression": 1, "ordinal": len(self.classes) - 1}.get(self.kind, len(self.classes))

    @property
    def hard(self) -> bool:
        """Whether each row has one of the classes: of classification and of ranks."""
        return self.kind in ("classification", "ordinal")

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        own: dict[str, Any] = {"name": self.name, "kind": self.kind, "classes": list(self.classes)}
        more: dict[str, dict[str, Any]] = {
            "multilabel": {"joined": self.joined},
            "regression": {name: getattr(self, name) for name in ("center", "scale", "low", "high")},
        }
        return own | more.get(self.kind, {})

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Task:
        """From `to_json`."""
        return cls(**{**values, "classes": tuple(values["classes"])})


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Labels of one task for some rows, hard or soft, with their holes.

    Attributes:
        value: classification, hard, and ordinal: int64 (N,); classification, soft: float (N, K); multilabel: float
            (N, K) of 0 and 1; regression: float (N, 1), standardised. What stands at a hole means nothing.
        mask: bool, True where the label is known: (N,), or (N, K) for multilabel.
        weight: float (N,), the weight of each row, or None for 1.
    """

    value: Tensor
    mask: Tensor
    weight: Tensor | None = None

    def __post_init__(self) -> None:
        if self.mask.shape != self.value.shape[: self.mask.ndim] or self.mask.ndim == 0:
            raise ValueError(f"mask {tuple(self.mask.shape)} does not fit value {tuple(self.value.shape)}")
        if self.weight is not None and self.weight.shape != self.value.shape[:1]:
            raise ValueError(f"weight {tuple(self.weight.shape)} does not fit value {tuple(self.value.shape)}")

    def __len__(self) -> int:
        return int(self.value.shape[0])

    def take(self, rows: Tensor) -> Target:
        """The target of `rows`, an int64 tensor of positions."""
        weight = None if self.weight is None else self.weight[rows]
        return Target(value=self.value[rows], mask=self.mask[rows], weight=weight)

    def to(self, device: torch.device | str) -> Target:
        """The same target on `device`."""
        weight = None if self.weight is None else self.weight.to(device)
        return replace(self, value=self.value.to(device), mask=self.mask.to(device), weight=weight)


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """What one step sees.

    Attributes:
        rows: int64 (B,), positions in the table.
        inputs: what crosses the boundary, each (B, …): images when nothing is frozen, features when everything is.
        covariates: float (B, C), encoded, or None.
        targets: one `Target` of B rows for each task, by the task's name.
    """

    rows: Tensor
    inputs: tuple[Tensor, ...]
    covariates: Tensor | None
    targets: Mapping[str, Target]
