"""A grid of learning rates and penalties, trained as one batched computation.

Every candidate begins with the same weights and sees the same rows in the same order, those of the loop. Their
weights are stacked, each batch is gathered once, and one matrix product serves all of them.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.chooser import Chooser
from zoo.training.fitters.record import Candidate, HeadFit, Job
from zoo.training.fitters.slices import FeatureTrainer
from zoo.training.fitters.stack import Stack
from zoo.training.optimiser import Rates
from zoo.training.scoring import scores
from zoo.training.seeds import seed_step

RATE_FACTORS = (0.1, 0.3, 1.0, 3.0)
L2_FACTORS = (0.01, 0.1, 1.0, 10.0)
"""The default grid, in multiples of what a run without a sweep would take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """Every learning rate with every strength of the L2 penalty on the heads' weights."""

    learning_rates: tuple[float, ...]
    strengths: tuple[float, ...]

    def __post_init__(self) -> None:
        for rate in self.learning_rates:
            if not (rate > 0 and math.isfinite(rate)):
                raise ZooError(f"--sweep-lr must be positive, not {rate}")
        for strength in self.strengths:
            if not 0 <= strength < math.inf:
                raise ZooError(f"--sweep-l2 must be at least 0, not {strength}")

    @property
    def points(self) -> list[tuple[float, float]]:
        """Learning rate and strength of each candidate."""
        return list(itertools.product(self.learning_rates, self.strengths))


def grid_around(rates: Rates, learning_rates: Sequence[float] = (), strengths: Sequence[float] = ()) -> Grid:
    """The grid of the values given; where there are none, of multiples of what `rates` says.

    Raises:
        ZooError: a learning rate that is not positive, a negative strength.
    """
    return Grid(
        learning_rates=tuple(learning_rates) or tuple(rates.head * factor for factor in RATE_FACTORS),
        # A penalty of 0 has no multiples.
        strengths=tuple(strengths) or tuple(dict.fromkeys(rates.head_l2 * factor for factor in L2_FACTORS)),
    )


class Board:
    """The history of every candidate, and who leads; ties go to who was first."""

    def __init__(self, count: int, chooser: Chooser) -> None:
        self.histories: list[list[dict[str, float]]] = [[] for _ in range(count)]
        self.bests: list[dict[str, float] | None] = [None] * count
        self.leader = -1
        self._chooser, self._key = chooser, chooser.key

    def note(self, index: int, row: dict[str, float]) -> bool:
        """Add the row of an epoch of one candidate; whether it is the best of all so far."""
        self.histories[index].append(row)
        own, first = self.bests[index], self.bests[self.leader] if self.leader >= 0 else None
        if own is None or self._chooser.better(row[self._key], own[self._key]):
            self.bests[index] = row
        if first is not None and not self._chooser.better(row[self._key], first[self._key]):
            return False
        self.leader = index
        return True

    def candidates(self, points: Sequence[tuple[float, float]]) -> tuple[Candidate, ...]:
        """What became of each point of the grid."""
        return tuple(
            Candidate(
                learning_rate=rate,
                head_l2=strength,
                best_epoch=int(best["epoch"]) if best else None,
                value=best[self._key] if best else None,
            )
            for (rate, strength), best in zip(points, self.bests, strict=True)
        )


class Sweep(FeatureTrainer):
    """A trainer whose `fit` trains every point of `grid` and leaves the best candidate's best epoch in the heads."""

    def __init__(self, *job: *Job, grid: Grid) -> None:
        super().__init__(*job)
        self.grid = grid

    def fit(self, progress: Callable[[int, int], None] | None = None) -> HeadFit:
        """Train, and validate every candidate after each epoch.

        Args:
            progress: as of `Trainer.fit`; a row counts once, however many candidates see it.

        Raises:
            ZooError: no candidate's loss stays finite for one epoch.
        """
        points, started, training, rows = self.grid.points, time.perf_counter(), 0.0, 0
        stack = Stack(self.heads, points, self.settings.device)
        board = Board(len(points), self.chooser)
        best: dict[str, Tensor] = {}
        for epoch in range(self.settings.timeline.epochs):
            began = time.perf_counter()
            losses, seen = self._train(stack, epoch, progress)
            training, rows = training + time.perf_counter() - began, rows + seen
            factor = self._factor((epoch + 1) * self.steps_per_epoch)
            for index, found in enumerate(self._scores(stack, losses)):
                if found is None:  # its numbers are finite no more
                    continue
                row = {"epoch": epoch + 1.0, "train_loss": losses[index], **found}
                row |= {"learning_rate": points[index][0] * factor, "seconds": time.perf_counter() - began}
                if board.note(index, row):
                    best = stack.copy(index)
        if board.leader < 0:
            raise ZooError("no candidate of --sweep keeps a finite loss for one epoch; lower the rates (--sweep-lr)")
        self.heads.load_state_dict(best, strict=False)
        return _fit(board, points, time.perf_counter() - started, rows / training)

    def _factor(self, step: int) -> float:
        """The schedule's factor on every rate at `step`, counted from 0."""
        return float(self.schedule.lr_lambdas[0](step))

    def _train(self, stack: Stack, epoch: int, progress: Callable[[int, int], None] | None) -> tuple[list[float], int]:
        """One epoch of all candidates: the mean loss of each, and the rows seen. Rows and draws are the loop's own."""
        self.heads.train()
        order, device = self._order(epoch), self.settings.device
        total, start = torch.zeros(len(self.grid.points), device=device), epoch * self.steps_per_epoch
        shown = time.perf_counter()
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            for step, batch in enumerate(self.read(self._batches(order), epoch), start):
                seed_step(self.settings, epoch, step - start)
                total += stack.losses(batch, self) * len(batch.rows)
                stack.optimiser.step(self._factor(step))
                if progress and time.perf_counter() - shown > 0.1:
                    steps = self.settings.timeline.epochs * self.steps_per_epoch
                    progress(min(step + 1, steps) * self.settings.batch_size, steps * self.settings.batch_size)
                    shown = time.perf_counter()
        return (total / len(order)).tolist(), len(order)

    def _scores(self, stack: Stack, losses: list[float]) -> Iterator[dict[str, float] | None]:
        """Validation of each candidate in turn; None of one whose loss or logits are not finite."""
        self.heads.eval()
        rows = self.data.val
        parts = [stack.logits(batch) for batch in self.read(torch.split(rows, max(self.settings.batch_size, 64)))]
        logits = {task.name: torch.cat([part[task.name] for part in parts], dim=1).cpu() for task in self.tasks}
        for index, loss in enumerate(losses):
            own = {name: values[index].float() for name, values in logits.items()}
            finite = math.isfinite(loss) and all(bool(torch.isfinite(values).all()) for values in own.values())
            yield (
                scores(own, self.held, self.tasks, self.answers, self.chooser, self.settings.task_weights)
                if finite
                else None
            )


def _fit(board: Board, points: Sequence[tuple[float, float]], seconds: float, speed: float) -> HeadFit:
    candidates = board.candidates(points)
    winner, history = candidates[board.leader], board.histories[board.leader]
    return HeadFit(
        history=history,
        best_epoch=winner.best_epoch or 1,
        best_value=float("nan") if winner.value is None else winner.value,
        seconds=seconds,
        rows_per_second=speed,
        learning_rate=winner.learning_rate,
        head_l2=winner.head_l2,
        candidates=candidates,
    )
