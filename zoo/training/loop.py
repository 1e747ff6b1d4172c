"""The loop, cut in four: run, epoch, step, evaluation. One code path; autocast may do nothing.

Numbers stay on the device and are read once an epoch. The best epoch by a metric on validation rows is copied.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.metrics.classification import is_better
from zoo.model.network import TaskHeads
from zoo.specs import Batch, Target, Task, Timeline
from zoo.training.inputs import Inputs
from zoo.training.losses import total_loss
from zoo.training.optimiser import Rates, begin_phase, build_optimiser, build_schedule
from zoo.training.scoring import scores
from zoo.training.strategy import Answer


@dataclass(frozen=True, kw_only=True)
class Data:
    """Everything that the loop reads.

    Attributes:
        inputs: what crosses the boundary, by row.
        covariates: encoded covariates float (N, C) of every row of the table, or None.
        targets: targets of every row of the table, by task.
        train, val: int64 positions in the table.
    """

    inputs: Inputs
    covariates: Tensor | None
    targets: Mapping[str, Target]
    train: Tensor
    val: Tensor


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the loop runs.

    Attributes:
        timeline: what trains when.
        phase: number of the phase that a trainer runs.
        rates: learning rates and weight decay.
        batch_size: rows of one step.
        metric: chooses the best epoch, on validation rows and the first task.
        seed: every random draw is a function of it, the epoch and the purpose.
        autocast: bf16 autocast of the forward pass.
        device: where it trains.
    """

    timeline: Timeline
    rates: Rates
    batch_size: int
    metric: str
    seed: int
    autocast: bool
    device: torch.device
    phase: int = 0


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


Suffix = Callable[[tuple[Tensor, ...], Tensor | None], dict[str, Tensor]]
"""From what crosses the boundary, and covariates, to logits by task."""

PURPOSES = {"order": 1, "step": 2}


def generator_for(seed: int, epoch: int, purpose: str) -> torch.Generator:
    """A generator that depends on nothing but the seed, the epoch and the purpose."""
    mixed = (seed * 1_000_003 + epoch) * 31 + PURPOSES[purpose]
    return torch.Generator().manual_seed(mixed % (2**63))


class Trainer:
    """Trains `model` through `suffix` for one phase of the timeline; of the last one it keeps the best epoch's weights.

    Args:
        model: what trains, and all whose modes follow.
        heads: its heads.
        suffix: from what crosses the boundary to logits.
        data: what is read.
        tasks: the first chooses the best epoch.
        answers: to imbalance, by task.
        settings: how.
        optimiser: over the parameters of `model` and perhaps more, from the phase before; by default a new one.
    """

    def __init__(
        self,
        model: nn.Module,
        heads: TaskHeads,
        suffix: Suffix,
        data: Data,
        tasks: tuple[Task, ...],
        answers: Mapping[str, Answer],
        settings: Settings,
        optimiser: torch.optim.Optimizer | None = None,
    ) -> None:
        self.model, self.heads, self.suffix, self.data = model, heads, suffix, data
        self.tasks, self.answers, self.settings = tasks, answers, settings
        self.phase = settings.timeline.phases[settings.phase]
        self.optimiser = optimiser or build_optimiser(model, heads, settings.rates)
        begin_phase(self.optimiser, settings.rates, self.phase.rate)
        order = self._order(self.phase.start)
        self.steps_per_epoch = len(self._batches(order))
        first, end = settings.timeline.span(settings.phase)
        self.schedule = build_schedule(
            self.optimiser,
            (end - first) * self.steps_per_epoch,
            settings.rates.warmup,
            (self.phase.start - first) * self.steps_per_epoch,
        )

    def fit(self, progress: Callable[[int, int], None] | None = None) -> Fit:
        """Run every epoch and validate after each; leave the best epoch's weights in the model, if no phase follows.

        Args:
            progress: called about ten times a second with rows seen and rows to see.
        """
        fit, started = Fit(), time.perf_counter()
        best: dict[str, Tensor] | None = None
        training = 0.0
        rows = 0
        last = self.phase is self.settings.timeline.phases[-1]
        for epoch in range(self.phase.start, self.phase.stop):
            began = time.perf_counter()
            loss, seen = self._epoch(epoch, progress)
            training, rows = training + time.perf_counter() - began, rows + seen
            row = {"epoch": epoch + 1.0, "train_loss": loss, **self.validate()}
            row["learning_rate"] = float(self.schedule.get_last_lr()[0])
            row["seconds"] = time.perf_counter() - began
            fit.history.append(row)
            value = row[f"{self.tasks[0].name}/{self.settings.metric}"]
            if fit.best_epoch < 0 or is_better(self.settings.metric, value, fit.best_value):
                fit.best_epoch, fit.best_value = epoch + 1, value
                best = self._copy() if last else None
        if best is not None:
            self.model.load_state_dict(best, strict=False)
        fit.seconds = time.perf_counter() - started
        fit.rows_per_second = rows / training if training else 0.0
        return fit

    def _copy(self) -> dict[str, Tensor]:
        """A copy of what may move: trainable parameters and every buffer."""
        moving = {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        moving |= {name for name, _ in self.model.named_buffers()}
        return {name: tensor.clone() for name, tensor in self.model.state_dict().items() if name in moving}

    def _order(self, epoch: int) -> Tensor:
        """Rows of one epoch, shuffled, or as the strategy's sampler draws them."""
        generator = generator_for(self.settings.seed, epoch, "order")
        train = self.data.train
        sampler = self.answers[self.tasks[0].name].sampler
        if sampler is None:
            return train[torch.randperm(len(train), generator=generator)]
        target = self.data.targets[self.tasks[0].name].take(train)
        return train[sampler(torch.where(target.mask, target.value, -1), epoch, generator)]

    def _batches(self, order: Tensor) -> list[Tensor]:
        """The rows of each step; a last one that would stand alone joins the step before: BatchNorm needs two."""
        parts = list(torch.split(order, self.settings.batch_size))
        if len(parts) > 1 and len(parts[-1]) == 1:
            parts[-2:] = [torch.cat(parts[-2:])]
        return parts

    def _epoch(self, epoch: int, progress: Callable[[int, int], None] | None) -> tuple[float, int]:
        self.model.train()
        order = self._order(epoch)
        total = torch.zeros((), device=self.settings.device)
        shown = time.perf_counter()
        all_steps = self.steps_per_epoch * self.settings.timeline.epochs
        with torch.random.fork_rng(devices=[self.settings.device] if self.settings.device.type == "cuda" else []):
            torch.manual_seed(int(generator_for(self.settings.seed, epoch, "step").initial_seed()))
            for step, (rows, inputs) in enumerate(self._given(self._batches(order), epoch)):
                total += self._step(rows, inputs) * len(rows)
                now = time.perf_counter()
                if progress and now - shown > 0.1:
                    done = epoch * self.steps_per_epoch + min(step + 1, self.steps_per_epoch)
                    progress(done * self.settings.batch_size, all_steps * self.settings.batch_size)
                    shown = now
        loss = float(total) / len(order)
        if loss != loss or loss in (float("inf"), float("-inf")):
            raise ZooError(f"the loss of epoch {epoch + 1} is {loss}; lower the learning rate (--lr, --backbone-lr)")
        return loss, len(order)

    def _given(self, parts: Sequence[Tensor], epoch: int | None) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
        """Each part's rows with what crosses the boundary for them."""
        with closing(self.data.inputs.batches(parts, epoch)) as given:
            yield from zip(parts, given, strict=True)

    def _step(self, rows: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
        batch = self._batch(rows, inputs)
        loss = total_loss(self._forward(batch), batch.targets, self.tasks, self.answers)
        (loss + self.heads.penalty(self.settings.rates.head_l2)).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.schedule.step()
        return loss.detach()

    def _batch(self, rows: Tensor, inputs: tuple[Tensor, ...]) -> Batch:
        device, data = self.settings.device, self.data
        return Batch(
            rows=rows,
            inputs=inputs,
            covariates=None if data.covariates is None else data.covariates[rows].to(device),
            targets={name: target.take(rows).to(device) for name, target in data.targets.items()},
        )

    def _forward(self, batch: Batch) -> dict[str, Tensor]:
        with torch.autocast(self.settings.device.type, dtype=torch.bfloat16, enabled=self.settings.autocast):
            return self.suffix(batch.inputs, batch.covariates)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Loss and metric on validation rows, logits corrected as they will be at inference."""
        self.model.eval()
        rows, size = self.data.val, max(self.settings.batch_size, 64)
        given = self._given(torch.split(rows, size), None)
        parts = [self._forward(self._batch(part, inputs)) for part, inputs in given]
        logits = {task.name: torch.cat([part[task.name].float() for part in parts]).cpu() for task in self.tasks}
        targets = {name: target.take(rows) for name, target in self.data.targets.items()}
        return scores(logits, targets, self.tasks, self.answers, self.settings.metric)
