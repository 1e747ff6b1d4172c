"""L-BFGS over all training rows at once: the minimum of the objective that the loop's steps approach.

Liu and Nocedal 1989, with a line search that keeps the strong Wolfe conditions, as torch has it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch

from zoo.errors import ZooError
from zoo.model.states import with_versions
from zoo.training.fitters.record import HeadFit
from zoo.training.fitters.slices import FeatureTrainer

ITERATIONS = 500
"""At most; a linear head on standardised features needs 20 to 100."""

CHUNK = 10
"""Iterations between two validations, a row of the history each."""

GRADIENT = 1e-6
"""Converged where no entry of the gradient is larger; scikit-learn's LogisticRegression stops at 1e-4."""

SOLVER: dict[str, Any] = {
    "max_iter": CHUNK,
    "max_eval": 10 * CHUNK,
    "tolerance_grad": GRADIENT,
    "history_size": 20,
    "line_search_fn": "strong_wolfe",
}


class FullBatch(FeatureTrainer):
    """A trainer whose `fit` minimises mean loss plus penalty over all training rows, however many slices they take.

    A linear head has one optimum, and it is kept. Another head has many, on whose way validation may turn: of it the
    weights are kept with which validation was best.
    """

    def fit(self, progress: Callable[[int, int], None] | None = None) -> HeadFit:
        """Minimise, validate every `CHUNK` iterations, and leave the weights that were kept in the heads.

        Args:
            progress: called after each evaluation with rows seen and the most that could be.

        Raises:
            ZooError: the loss is not finite.
        """
        fit, started = HeadFit(fitter="lbfgs", head_l2=self.settings.rates.head_l2), time.perf_counter()
        # Near the minimum float32 losses are all alike, and the line search would stop at gradients of 1e-4.
        self.heads.double()
        moving = [parameter for parameter in self.heads.parameters() if parameter.requires_grad]
        solver = torch.optim.LBFGS(moving, **SOLVER)
        objective = _Objective(self, progress)
        iterations, more, best = 0, True, self._copy()
        while more and iterations < ITERATIONS:
            before, began = iterations, time.perf_counter()
            self.heads.train()
            solver.step(objective)  # type: ignore[no-untyped-call]
            iterations = int(solver.state[moving[0]]["n_iter"])
            more = iterations - before == CHUNK
            row = self._row(len(fit.history) + 1, objective.loss(), began)
            fit.history.append(row)
            value = row[self.chooser.key]
            if self.heads.linear or len(fit.history) == 1 or self.chooser.better(value, fit.best_value):
                fit.best_epoch, fit.best_value, best = len(fit.history), value, self._copy()
        self.model.load_state_dict(with_versions(self.model, best), strict=False)
        self.heads.float()
        fit.seconds = time.perf_counter() - started
        fit.rows_per_second = objective.evaluations * len(self.data.train) / fit.seconds
        fit.remarks = (_remark(iterations, more),)
        return fit

    def _row(self, number: int, loss: float, began: float) -> dict[str, float]:
        row = {"epoch": float(number), "train_loss": loss, **self.validate()}
        return {**row, "seconds": time.perf_counter() - began}


class _Objective:
    """Value and gradient of the objective, for the solver."""

    def __init__(self, trainer: FullBatch, progress: Callable[[int, int], None] | None) -> None:
        self._trainer = trainer
        self._slices = trainer.slices(trainer.data.train)
        self._progress = progress
        self.evaluations = 0

    def __call__(self) -> float:
        heads, rows = self._trainer.heads, len(self._trainer.data.train)
        heads.zero_grad()
        objective = heads.penalty(self._trainer.settings.rates.head_l2)
        if objective.requires_grad:
            objective.backward()  # type: ignore[no-untyped-call]
        objective = objective.detach()
        for part in self._trainer.shares(self._slices):
            part.backward()  # type: ignore[no-untyped-call]
            objective = objective + part.detach()
        self.evaluations += 1
        if self._progress:
            self._progress(min(self.evaluations, ITERATIONS) * rows, ITERATIONS * rows)
        return _finite(float(objective))

    @torch.no_grad()
    def loss(self) -> float:
        """The loss where the solver stands, without the penalty."""
        return sum(float(part) for part in self._trainer.shares(self._slices))


def _finite(objective: float) -> float:
    if not math.isfinite(objective):
        raise ZooError(f"the loss under --fitter lbfgs is {objective}; features, or weights of rows, are not finite")
    return objective


def _remark(iterations: int, more: bool) -> str:
    if more:
        return f"L-BFGS was stopped after {iterations} iterations, before it had converged"
    return f"L-BFGS converged in {iterations} iterations"
