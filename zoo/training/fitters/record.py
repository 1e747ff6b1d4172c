"""What the fitting of heads on features says about itself, beyond what the loop says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from zoo.model.network import TaskHeads
from zoo.specs import Task
from zoo.training.settings import Data, Fit, Settings
from zoo.training.shared import Suffix
from zoo.training.strategy import Answer

Fitter = Literal["adamw", "lbfgs", "ridge", "strategy"]

Job = tuple[nn.Module, TaskHeads, Suffix, Data, tuple[Task, ...], Mapping[str, Answer], Settings]
"""What a `Trainer` is made from, in order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """One point of a grid of hyperparameters.

    Attributes:
        learning_rate: of the head, or None where the fitter has none.
        head_l2: strength of the penalty on the heads' weights.
        best_epoch: counted from 1.
        value: the metric on validation rows after that epoch. Both are None where no epoch ended with finite numbers.
    """

    learning_rate: float | None
    head_l2: float
    best_epoch: int | None
    value: float | None


@dataclass
class HeadFit(Fit):
    """A `Fit` with what was chosen on the way.

    Attributes:
        fitter: how the heads were fitted.
        learning_rate: of the head that was kept, or None where the fitter has none.
        head_l2: strength of its penalty.
        candidates: all that were tried, in the order of the grid; empty where there was no choice.
        scales: of ridge, by task, the factor that made its outputs logits.
        remarks: sentences that the record should show.
    """

    fitter: Fitter = "adamw"
    learning_rate: float | None = None
    head_l2: float = float("nan")
    candidates: tuple[Candidate, ...] = ()
    scales: dict[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
