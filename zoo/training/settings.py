"""What the loop is given, and what it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from zoo.group import ALONE, Group
from zoo.specs import Target, Timeline
from zoo.training.inputs import Inputs
from zoo.training.optimiser import ADAMW, OptimiserChoice, Rates
from zoo.training.schedule import Cosine, Curve


@dataclass(frozen=True, kw_only=True)
class Absence:
    """Covariates that training leaves out now and then.

    Attributes:
        share: of the rows of each epoch, all of whose covariates are left out.
        columns: float (C,), what stands for them then.
    """

    share: float
    columns: Tensor


@dataclass(frozen=True, kw_only=True)
class Data:
    """Everything that the loop reads.

    Attributes:
        inputs: what crosses the boundary, by row.
        covariates: encoded covariates float (N, C) of every row of the table, or None.
        targets: targets of every row of the table, by task.
        train, val: int64 positions in the table.
        absence: covariates that training leaves out; None for none.
        completions: covariates float (m, N, C) with holes drawn m times, of which each epoch of training sees another;
            None where holes are filled once.
    """

    inputs: Inputs
    covariates: Tensor | None
    targets: Mapping[str, Target]
    train: Tensor
    val: Tensor
    absence: Absence | None = None
    completions: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the loop runs.

    Attributes:
        timeline: what trains when.
        phase: number of the phase that a trainer runs.
        rates: learning rates and weight decay.
        optimiser: which one, where a trainer builds its own.
        curve: of the learning rates over the steps.
        batch_size: rows that pass at once.
        accumulate: how many such batches make one step; their gradients add up to that of one batch of all their rows.
        clip_norm: the gradient is scaled down to this norm where it is larger, over all parameters; None for never.
        ema: decay of the exponential moving average of the weights that is validated and kept; None for none.
        smoothing: of labels in training, in [0, 1).
        mixup, cutmix: alphas of `zoo.training.mixing.Mixer`; inputs are images where one is not 0.
        task_weights: factors on the losses of the tasks, by name, 1 by default.
        patience: a run ends when validation has not improved for so many epochs; None for never.
        metric: chooses the best epoch, on validation rows; see `zoo.metrics.chooser.make_chooser`.
        seed: every random draw is a function of it, the epoch and the purpose.
        autocast: dtype of the forward pass's autocast, or None; float16 has its loss scaled.
        device: where it trains.
        group: the processes that train together; batch sizes and losses are those of all of them.
    """

    timeline: Timeline
    rates: Rates
    batch_size: int
    metric: str | None
    seed: int
    autocast: torch.dtype | None
    device: torch.device
    phase: int = 0
    optimiser: OptimiserChoice = ADAMW
    curve: Curve = field(default_factory=Cosine)
    accumulate: int = 1
    clip_norm: float | None = None
    ema: float | None = None
    smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    patience: int | None = None
    task_weights: Mapping[str, float] = field(default_factory=dict)
    group: Group = ALONE


@dataclass
class Fit:
    """What training gave.

    Attributes:
        history: one row an epoch.
        best_epoch: counted from 1.
        best_value: of the metric, on validation rows.
        seconds: of training and validating.
        rows_per_second: training rows seen by the loop per second of training, validation not counted.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = -1
    best_value: float = float("nan")
    seconds: float = 0.0
    rows_per_second: float = 0.0
