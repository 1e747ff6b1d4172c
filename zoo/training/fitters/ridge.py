"""Ridge regression on numbers or one-hot classes, its strength chosen on validation rows, its outputs made logits.

Numbers are what they are. Of classes, outputs of least squares lie about 0 and 1 and are no logits: one factor a task,
fitted on validation rows, makes probabilities of them (`zoo.training.fitters.temperature`); biases are scaled with the
weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.model.network import NUMBERS_PRIOR
from zoo.specs import Batch, Target, Task
from zoo.training.fitters.record import Candidate, HeadFit, Job
from zoo.training.fitters.slices import FeatureTrainer, Slices
from zoo.training.fitters.spectrum import RidgePath, Rows, ridge_path
from zoo.training.fitters.temperature import fitted_scale, soft_classes
from zoo.training.scoring import scores

STRENGTHS = tuple(10.0 ** (power / 2) for power in range(-8, 7))
"""Two a decade from 1e-4 to 1e3; standardised features have eigenvalues of 1 in the mean."""


class Ridge(FeatureTrainer):
    """A trainer whose `fit` solves for every linear head in closed form.

    Attributes:
        strengths: of which validation chooses one.
    """

    def __init__(self, *job: *Job, strengths: tuple[float, ...] = STRENGTHS) -> None:
        super().__init__(*job)
        self.strengths = strengths

    @torch.no_grad()
    def fit(self, progress: Callable[[int, int], None] | None = None) -> HeadFit:
        """Solve for every strength and keep the one whose validation is best, for all tasks alike.

        Args:
            progress: called once, when all is done, with rows seen and rows to see.

        Raises:
            ZooError: features or weights of rows are not finite.
        """
        fit, started = HeadFit(fitter="ridge", best_epoch=1), time.perf_counter()
        self.model.eval()
        train = self.slices(self.data.train)
        paths = {task.name: self._path(task, train) for task in self.tasks}
        held = torch.cat([self._joined(batch) for batch in self.slices(self.data.val)])
        fit.candidates = tuple(self._candidate(strength, paths, held) for strength in self.strengths)
        fit.head_l2 = self._best(fit.candidates).head_l2
        for task, head in zip(self.tasks, self.heads.heads, strict=True):
            weight, bias, fit.scales[task.name] = self._calibrated(task, paths[task.name], fit.head_l2, held)
            self._put(head, weight, bias)
        loss = sum(float(part) for part in self.shares(train))
        row = {"epoch": 1.0, "train_loss": loss, **self.validate()}
        fit.seconds = time.perf_counter() - started
        fit.history.append({**row, "seconds": fit.seconds})
        fit.best_value = row[self.chooser.key]
        fit.rows_per_second = len(self.data.train) / fit.seconds
        if progress:
            progress(len(self.data.train), len(self.data.train))
        return fit

    def _best(self, candidates: tuple[Candidate, ...]) -> Candidate:
        best = candidates[0]
        for candidate in candidates[1:]:
            if self.chooser.better(float(candidate.value or 0.0), float(best.value or 0.0)):
                best = candidate
        return best

    def _path(self, task: Task, train: Slices) -> RidgePath:
        rows = int(self.data.targets[task.name].mask[self.data.train].sum())
        return ridge_path(self._rows(task, train), rows, self.heads.width + self.heads.covariates)

    def _rows(self, task: Task, train: Slices) -> Iterator[Rows]:
        """Features, targets and weights of the rows whose label is known."""
        for batch in train:
            target, features = batch.targets[task.name], self._joined(batch)
            weights = self.answers[task.name].weights(_filled(target))
            own = torch.ones_like(target.mask, dtype=features.dtype) if weights is None else weights.double()
            if target.weight is not None:
                own = own * target.weight.double()
            if not bool(torch.isfinite(features).all() and torch.isfinite(own).all()):
                raise ZooError("--fitter ridge cannot solve: features, or weights of rows, are not finite")
            yield (
                features[target.mask],
                _wanted(task, target).double()[target.mask],
                own[target.mask],
            )

    @property
    def _stretch(self) -> float:
        """By what covariates are multiplied, so that one strength holds all columns as `TaskHeads.penalty` does."""
        return math.sqrt(self.heads.width / self.heads.covariates) if self.heads.covariates else 1.0

    def _joined(self, batch: Batch) -> Tensor:
        """Standardised features and stretched covariates (B, D), float64."""
        features: Tensor = self.heads.standardise(batch.inputs[0]).double()
        if batch.covariates is None or not self.heads.covariates:
            return features
        return torch.cat([features, batch.covariates.double() * self._stretch], dim=1)

    def _calibrated(self, task: Task, path: RidgePath, strength: float, held: Tensor) -> tuple[Tensor, Tensor, float]:
        """Weights (K, D), biases (K,) and the factor that is in both."""
        weight, bias = path.solve(strength * (NUMBERS_PRIOR if task.kind == "regression" else 1.0))
        target = self.held[task.name].to(held.device)
        # Numbers are no scores; and without a known row to calibrate on, scores stay what they are.
        known = task.kind == "classification" and bool(target.mask.any())
        scale = fitted_scale((held @ weight.T + bias).float(), target, self.answers[task.name]) if known else 1.0
        return weight * scale, bias * scale, scale

    def _candidate(self, strength: float, paths: dict[str, RidgePath], held: Tensor) -> Candidate:
        logits = {}
        for task in self.tasks:
            weight, bias, _ = self._calibrated(task, paths[task.name], strength, held)
            logits[task.name] = (held @ weight.T + bias).float().cpu()
        value = scores(logits, self.held, self.tasks, self.answers, self.chooser)[self.chooser.key]
        return Candidate(learning_rate=None, head_l2=strength, best_epoch=1, value=value)

    def _put(self, head: nn.Module, weight: Tensor, bias: Tensor) -> None:
        layer = next(part for part in head.modules() if isinstance(part, nn.Linear))
        layer.weight.copy_(weight)
        layer.weight[:, self.heads.width :] *= self._stretch
        if layer.bias is not None:
            layer.bias.copy_(bias)


def _wanted(task: Task, target: Target) -> Tensor:
    """What is solved for, (N, outputs)."""
    return target.value if task.kind == "regression" else soft_classes(target, task.outputs)


def _filled(target: Target) -> Target:
    """The target with class 0 at its holes, where nothing may be looked up."""
    value = torch.where(target.mask, target.value, 0) if target.value.ndim == 1 else target.value
    return Target(value=value, mask=target.mask)
