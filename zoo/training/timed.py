"""A trainer whose steps are timed in their parts; what it takes are the steps that a run takes."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count, pairwise
from typing import Any

import torch
from torch import Tensor

from zoo.specs import Batch
from zoo.training.loop import Given, Trainer
from zoo.training.work import Watch, Work

PARTS = ("data", "forward", "backward", "optimiser")
"""What a step is made of: getting the batch, logits and loss, gradients, and the step of the optimiser."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTime:
    """One step.

    Attributes:
        rows: that it had.
        seconds: by part.
    """

    rows: int
    seconds: Mapping[str, float]

    @property
    def total(self) -> float:
        """Seconds of all parts."""
        return sum(self.seconds.values())


Mark = float | torch.cuda.Event


class TimedTrainer(Trainer):
    """A trainer that takes steps for as long as it is asked to, epoch after epoch, and validates nothing.

    On a GPU events are recorded between the kernels and read when all steps are over, so that timing makes nothing
    wait.

    Args:
        arguments, options: as of `Trainer`.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._marks: list[Mark] = []
        self._coming: Generator[tuple[list[Tensor], Given], None, None] = self._endless()
        self.optimiser.register_step_pre_hook(lambda *_: self._mark())

    def take(self, steps: int, seconds: float = float("inf"), least: int = 3) -> list[StepTime]:
        """Take steps and time them.

        Args:
            steps: at most.
            seconds: after which no other step begins.
            least: steps that are taken however long they take.
        """
        taken: list[tuple[int, list[Mark]]] = []
        began = time.perf_counter()
        for number in range(steps):
            if number >= least and time.perf_counter() - began > seconds:
                break
            self._marks = []
            rows = self._one()
            taken.append((rows, self._marks))
        if self.settings.device.type == "cuda":
            torch.cuda.synchronize(self.settings.device)
        return [_time(rows, marks) for rows, marks in taken]

    def watched(self) -> tuple[Work, int]:
        """What one step has to do, and its rows; the suffix must not be compiled."""
        watch = Watch()
        with watch:
            rows = self._one()
        return watch.work, rows

    def close(self) -> None:
        """Let go of what reads ahead."""
        self._coming.close()

    def _one(self) -> int:
        parts, given = next(self._coming)
        self._mark()
        self._step(parts, given)
        self._mark()
        return sum(map(len, parts))

    def _loss(self, batch: Batch, known: Mapping[str, float] | None) -> Tensor:
        self._mark()
        loss = super()._loss(batch, known)
        self._mark()
        return loss

    def _mark(self) -> None:
        if self.settings.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter())

    def _endless(self) -> Generator[tuple[list[Tensor], Given], None, None]:
        """The batches of each step with what their rows are read from, epoch after epoch."""
        self.model.train()
        for epoch in count():
            steps: Sequence[list[Tensor]] = self._steps(self._order(epoch))
            with closing(self._given([part for step in steps for part in step], epoch)) as given:
                for parts in steps:
                    yield parts, given


def _time(rows: int, marks: Sequence[Mark]) -> StepTime:
    seconds = [_between(first, then) for first, then in pairwise(marks)]
    return StepTime(rows=rows, seconds=dict(zip(PARTS, seconds, strict=True)))


def _between(first: Mark, then: Mark) -> float:
    if isinstance(first, float) and isinstance(then, float):
        return then - first
    assert isinstance(first, torch.cuda.Event)  # noqa: S101 - marks of one device are of one kind
    assert isinstance(then, torch.cuda.Event)  # noqa: S101
    return float(first.elapsed_time(then)) / 1000
