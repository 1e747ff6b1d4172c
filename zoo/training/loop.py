"""The loop, cut in four: run, epoch, step, evaluation. One code path; autocast may do nothing.

Numbers stay on the device and are read once an epoch. The best epoch by a metric on validation rows is copied.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from zoo.metrics.chooser import Chooser, make_chooser
from zoo.model.network import TaskHeads
from zoo.model.states import with_versions
from zoo.specs import Batch, Target, Task
from zoo.training.average import Average
from zoo.training.checkpoint import Keeper, Position, moving, state_of
from zoo.training.finite import refuse_non_finite
from zoo.training.first_step import FirstStep
from zoo.training.mixed_loss import known_labels, mixed_loss
from zoo.training.mixing import Mixer
from zoo.training.optimiser import begin_phase, build_optimiser
from zoo.training.order import order_of, steps_of
from zoo.training.schedule import Schedule
from zoo.training.scoring import scores
from zoo.training.seeds import covariates_of, seed_step
from zoo.training.settings import Data, Fit, Settings
from zoo.training.shared import Shared, Suffix, shared
from zoo.training.strategy import Answer
from zoo.training.task_weights import clamp, learned_weights, regulariser, weights_of

CHECKED_STEPS = 64
"""After so many steps the loop looks whether their losses are finite: reading them makes a GPU wait."""


Given = Generator[tuple[Tensor, tuple[Tensor, ...]], None, None]
"""Rows, and what crosses the boundary for them, batch by batch."""


class Trainer:
    """Trains `model` through `suffix` for one phase of the timeline; of the last one it keeps the best epoch's weights.

    Args:
        model: what trains, and all whose modes follow.
        heads: its heads.
        suffix: from what crosses the boundary to logits.
        data: what is read.
        tasks: in the order of the heads.
        answers: to imbalance, by task.
        settings: how.
        optimiser: over the parameters of `model` and perhaps more, from the phase before; by default a new one.
        wrapped: `suffix` as several processes train it; by default as `zoo.training.shared.shared` has it.

    Attributes:
        keeper: is offered the state after every step and every epoch; None for nobody.
        first: what the first step that is made is held against; None for nothing.
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
        wrapped: Shared | None = None,
    ) -> None:
        self.model, self.heads, self.data = model, heads, data
        self.tasks, self.answers, self.settings = tasks, answers, settings
        self.phase = settings.timeline.phases[settings.phase]
        self.optimiser = optimiser or build_optimiser(model, heads, settings.rates, settings.optimiser)
        begin_phase(self.optimiser, settings.rates, self.phase.rate)
        self.steps_per_epoch = len(self._steps(self._order(self.phase.start)))
        first, end = settings.timeline.span(settings.phase)
        self.schedule = Schedule(
            self.optimiser,
            settings.curve,
            (end - first) * self.steps_per_epoch,
            settings.rates.warmup,
            (self.phase.start - first) * self.steps_per_epoch,
        )
        scaled = settings.autocast is torch.float16
        # Each process's loss is multiplied by their number; what is halved is as large as in one process nevertheless.
        scale = 2.0**16 / settings.group.size
        self.scaler = torch.amp.GradScaler(settings.device.type, init_scale=scale, enabled=scaled)
        self.shared = wrapped or shared(model, suffix, settings.group)
        self.keeper: Keeper | None = None
        self.first: FirstStep | None = None
        self.found, self.at = Fit(), Position(epoch=self.phase.start)
        self.best: dict[str, Tensor] | None = None
        self.covariates = data.covariates  # as the epoch under way has them
        self.average = Average(model, settings.ema) if settings.ema is not None else None
        self.mixer = Mixer(settings.mixup, settings.cutmix) if settings.mixup or settings.cutmix else None

    @cached_property
    def held(self) -> Mapping[str, Target]:
        """Targets of the validation rows, by task."""
        return {name: target.take(self.data.val) for name, target in self.data.targets.items()}

    @cached_property
    def chooser(self) -> Chooser:
        """Which metrics choose the best epoch."""
        return make_chooser(self.settings.metric, self.tasks, self.held)

    def fit(self, progress: Callable[[int, int], None] | None = None) -> Fit:
        """Run every epoch and validate after each; leave the best epoch's weights in the model, if no phase follows.

        Args:
            progress: called about ten times a second with rows seen and rows to see.
        """
        fit, started, chooser = self.found, time.perf_counter(), self.chooser
        training = 0.0
        rows = 0
        last = self.phase is self.settings.timeline.phases[-1]
        while self.at.epoch < self.phase.stop:
            epoch, began = self.at.epoch, time.perf_counter()
            loss, seen = self._epoch(progress)
            training, rows = training + time.perf_counter() - began, rows + seen
            row = {"epoch": epoch + 1.0, "train_loss": loss, **self.validate()}
            row["learning_rate"] = float(self.schedule.get_last_lr()[0])
            row["seconds"] = time.perf_counter() - began
            fit.history.append(row)
            value = row[chooser.key]
            self.schedule.note(chooser.metric, value)
            if fit.best_epoch < 0 or chooser.better(value, fit.best_value):
                fit.best_epoch, fit.best_value = epoch + 1, value
                self.best = self._copy() if last else None
            patience = self.settings.patience if last else None
            over = patience is not None and epoch + 1 - fit.best_epoch >= patience
            self.at = Position(epoch=self.phase.stop if over else epoch + 1)
            self._offer()
        if self.best is not None:
            self.model.load_state_dict(with_versions(self.model, self.best), strict=False)
        fit.seconds += time.perf_counter() - started
        fit.rows_per_second = rows / training if training else 0.0
        return fit

    def _offer(self) -> None:
        due = self.keeper is not None and self.keeper.due()
        if self.shared.divided:  # all gather what one of them keeps
            due = self.settings.group.told(due)
        if due:
            state = state_of(self)
            if self.keeper:
                self.keeper.save(state)

    def _copy(self) -> dict[str, Tensor]:
        """A copy of what may move, of averages where they are kept."""
        with self._averaged():
            return {name: tensor.clone() for name, tensor in moving(self).items()}

    def _averaged(self) -> AbstractContextManager[None]:
        """The model has the averaged weights inside, where an average is kept."""
        return self.average.used() if self.average else nullcontext()

    def _order(self, epoch: int) -> Tensor:
        """Rows of one epoch, shuffled, or as the strategy's sampler draws them."""
        return order_of(self.data, self.answers, self.settings.seed, epoch)

    def _batches(self, order: Tensor) -> list[Tensor]:
        """The rows that pass at once."""
        return [part for step in self._steps(order) for part in step]

    def _steps(self, order: Tensor) -> list[list[Tensor]]:
        """The batches of each step of the optimiser."""
        return steps_of(order, self.settings)

    def _epoch(self, progress: Callable[[int, int], None] | None) -> tuple[float, int]:
        """The rest of the epoch that is under way; its mean loss and how many rows that rest had."""
        self.model.train()
        epoch, done, device = self.at.epoch, self.at.step, self.settings.device
        steps = self._steps(self._order(epoch))
        sizes = [sum(map(len, parts)) for parts in steps]
        losses = torch.zeros(len(steps), device=device)
        if self.at.losses is not None:
            losses[:done] = self.at.losses
        self.at.losses = losses
        shown = time.perf_counter()
        self.covariates = covariates_of(self.data, self.settings.seed, epoch)
        coming = [self.settings.group.part(part) for step in steps[done:] for part in step]
        random = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
        with random, closing(self._given(coming, epoch)) as given:
            for number, parts in enumerate(steps[done:], done):
                seed_step(self.settings, epoch, number)
                losses[number] = self._step(parts, given)
                if number % CHECKED_STEPS == 0 or number == len(steps) - 1:
                    refuse_non_finite(losses[: number + 1], steps, epoch)
                now = time.perf_counter()
                if progress and now - shown > 0.1:
                    whole = sum(sizes)
                    progress(epoch * whole + sum(sizes[: number + 1]), self.settings.timeline.epochs * whole)
                    shown = now
                self.at.step = number + 1
                if number < len(steps) - 1:  # after the last one comes validation, and then another offer
                    self._offer()
        total = (losses * torch.tensor(sizes, device=device)).sum()
        return float(total) / sum(sizes), sum(sizes[done:])

    def _given(self, parts: Sequence[Tensor], epoch: int | None) -> Given:
        """Each part's rows with what crosses the boundary for them."""
        with closing(self.data.inputs.batches(parts, epoch)) as given:
            yield from zip(parts, given, strict=True)

    def _step(self, parts: Sequence[Tensor], given: Given) -> Tensor:
        """One step of the optimiser over all its batches; returns their mean loss, without the penalty."""
        group, rates = self.settings.group, self.settings.rates
        alone = len(parts) == 1 and group.size == 1 and self.heads.log_variances is None
        known = None if alone else known_labels(self.data.targets, self.tasks, parts)
        total = torch.zeros((), device=self.settings.device)
        for number, (rows, inputs) in enumerate(itertools.islice(given, len(parts))):
            with self.shared.apart() if number < len(parts) - 1 else nullcontext():
                loss = self._loss(self._batch(rows, inputs, self.covariates), known)
                penalty = 0.0 if number else self.heads.penalty(rates.head_l2) + regulariser(self.heads, known or {})
                # Gradients are averaged over the processes, and losses add up to that of all rows.
                self.scaler.scale(group.size * loss + penalty).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        group.add(total)
        first, self.first = self.first, None
        if first:
            first.check_gradients(self.model, self.optimiser)
        if self.settings.clip_norm is not None:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if first:
            first.verify()
        self.optimiser.zero_grad(set_to_none=True)
        clamp(self.heads)
        self.schedule.step()
        if self.average:
            self.average.update()
        return total

    def _loss(self, batch: Batch, known: Mapping[str, float] | None) -> Tensor:
        options: dict[str, Any] = {"smoothing": self.settings.smoothing, "known_rows": known}
        weights = partial(weights_of, self.heads, self.settings.task_weights)
        return mixed_loss(batch, self._forward, self.tasks, self.answers, self.mixer, weights, **options)

    def _batch(self, rows: Tensor, inputs: tuple[Tensor, ...], covariates: Tensor | None) -> Batch:
        device, data = self.settings.device, self.data
        return Batch(
            rows=rows,
            inputs=inputs,
            covariates=None if covariates is None else covariates[rows].to(device),
            targets={name: target.take(rows).to(device) for name, target in data.targets.items()},
        )

    def _forward(self, batch: Batch) -> dict[str, Tensor]:
        cast = self.settings.autocast
        with torch.autocast(self.settings.device.type, dtype=cast or torch.bfloat16, enabled=bool(cast)):
            return self.shared(batch.inputs, batch.covariates)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Loss and metrics on validation rows, logits corrected as at inference; and task weights that are learned."""
        found = scores(self.predict(), self.held, self.tasks, self.answers, self.chooser, self.settings.task_weights)
        return found | {f"weight({name})": weight for name, weight in learned_weights(self.heads).items()}

    @torch.no_grad()
    def predict(self, rows: Tensor | None = None, epoch: int | None = None) -> dict[str, Tensor]:
        """Logits float32 (N, outputs) of `rows` by task, on the CPU, as the heads give them.

        Args:
            rows: int64 (N,), positions in the table; the validation rows by default.
            epoch: whose augmented views are seen; None for images as they are.
        """
        self.model.eval()
        group, size = self.settings.group, max(self.settings.batch_size, 64)
        rows = self.data.val if rows is None else rows
        group.copy(self.model.buffers())  # statistics that moved did so by each process's own rows
        own = group.part(rows)
        batches = list(torch.split(own, size)) if len(own) else []
        # All make as many passes, because what is divided is gathered in each; a row more than one's own is forgotten.
        most = math.ceil(math.ceil(len(rows) / group.size) / size)
        given = self._given([*batches, *[rows[:1]] * (most - len(batches))], epoch)
        with self._averaged():
            parts = [self._forward(self._batch(part, inputs, self.data.covariates)) for part, inputs in given]
        logits = {}
        for task in self.tasks:
            found = [part[task.name].float() for part in parts]
            logits[task.name] = group.join(torch.cat(found)[: len(own)] if found else torch.zeros((0, task.outputs)))
        return logits
