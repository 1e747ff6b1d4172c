"""Heads that a strategy fits in its own way, as bagging and boosting do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.specs import Target
from zoo.training.fitters.record import HeadFit
from zoo.training.fitters.slices import FeatureTrainer
from zoo.training.resampling import joined_features
from zoo.training.seeds import generator_for


class Brought(FeatureTrainer):
    """A trainer whose `fit` leaves to the strategy's head fitter what the head of the only target becomes."""

    def fit(self, progress: Callable[[int, int], None] | None = None) -> HeadFit:
        """Fit once, on the labelled training rows.

        Args:
            progress: called once, when all is done.

        Raises:
            ZooError: what the fitter gives is not the head that its plan names.
        """
        fit, started = HeadFit(fitter="strategy", best_epoch=1, head_l2=0.0), time.perf_counter()
        (task,) = self.tasks
        answer, target = self.answers[task.name], self.data.targets[task.name]
        assert answer.head_fitter is not None  # noqa: S101  why this trainer was chosen
        rows = self.data.train[target.mask[self.data.train]]
        own = target.take(rows)
        features = joined_features(self.data, rows, self.heads, self.settings.device)
        weights = _weights(answer.weights(own), own)
        state = answer.head_fitter(features, own, weights, generator_for(self.settings.seed, 0, "fit"))
        load_head(self.heads.heads[0], state, answer.name)
        row = {"epoch": 1.0, **self.validate()}
        fit.seconds = time.perf_counter() - started
        fit.history.append({**row, "seconds": fit.seconds})
        fit.best_value = row[self.chooser.key]
        fit.rows_per_second = len(rows) / fit.seconds
        fit.remarks = (f"{answer.name} fitted the head on {len(rows)} rows of features",)
        if progress:
            progress(len(rows), len(rows))
        return fit


def _weights(by_class: Tensor | None, target: Target) -> Tensor:
    weights = torch.ones(len(target)) if by_class is None else by_class
    return weights if target.weight is None else weights * target.weight


def load_head(head: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Put a fitter's tensors into the head.

    Raises:
        ZooError: they are not those of this head, or not finite.
    """
    try:
        head.load_state_dict(dict(state), strict=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        said = str(error).splitlines()[-1].strip()
        raise ZooError(f"{name} fitted tensors that are not those of the head that it names: {said}") from None
    if not all(bool(torch.isfinite(own).all()) for own in head.parameters()):
        raise ZooError(f"{name} fitted a head whose numbers are not finite")
