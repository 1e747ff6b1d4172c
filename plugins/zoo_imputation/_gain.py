"""GAIN: a generator fills holes, a discriminator guesses which values were filled (Yoon et al. 2018).

After the authors' code (github.com/jsyoon0823/GAIN, gain.py), which hints with `m * b` where the paper adds
`0.5 * (1 - b)`. Other than there: only training rows are learned from and scaled by; one-hot numbers of a category
share their mask; and in filling, the noise of 0 to 0.01 that stands in a hole is its mean, so that the same row always
gets the same values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.specs import CovariateColumns, TrainView
from zoo_imputation._layout import Arrays, Layout, Matrix, learn_layout, load_layout
from zoo_imputation._networks import (
    Layers,
    draw_layers,
    forward,
    from_arrays,
    frozen,
    parameters,
    to_arrays,
    torch_generator,
)

_NOISE = 0.01
_RATE = 1e-3


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Generator:
    """A fitted generator.

    Attributes:
        layout: how columns become numbers.
        low, span: float64 (P,), least and largest minus least of the observed training numbers; a span of 0 became 1.
        network: from scaled numbers, 0.005 at holes, and the mask of what is observed, to logits of scaled numbers.
    """

    layout: Layout
    low: Matrix
    span: Matrix
    network: Layers

    def transform(self, columns: CovariateColumns) -> CovariateColumns:
        """Every hole filled within the range of the training values.

        Raises:
            ValueError: other columns than those it was fitted on.
        """
        matrix = self.layout.matrix(columns)
        seen = torch.from_numpy(~np.isnan(matrix)).double()
        scaled = torch.from_numpy(np.nan_to_num((matrix - self.low) / self.span))
        found = _generate(self.network, seen * scaled + (1 - seen) * (_NOISE / 2), seen).numpy()
        return self.layout.filled(columns, found * self.span + self.low)

    def save(self) -> tuple[Arrays, Mapping[str, Any]]:
        """Arrays and JSON values that `load_generator` takes back."""
        arrays, values = self.layout.save()
        return {**arrays, "low": self.low, "span": self.span, **to_arrays("network", self.network)}, values


def _generate(network: Layers, given: Tensor, seen: Tensor) -> Tensor:
    return torch.sigmoid(forward(network, torch.cat([given, seen], dim=1), torch.relu))


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """How GAIN is trained: steps of both networks, rows of each, share of hints, and weight of the squared error."""

    steps: int
    batch: int
    hint: float
    alpha: float


def fit_generator(view: TrainView, *, training: Training, generator: np.random.Generator) -> Generator:
    """Train both networks on the training rows and keep the generator.

    Raises:
        ValueError: there are no covariates, or a column has no observed value among the training rows.
    """
    layout, columns = learn_layout(view)
    matrix = layout.matrix(columns)
    low = np.nanmin(matrix, axis=0)
    span = np.nanmax(matrix, axis=0) - low
    span = np.where(span > 0, span, 1.0)
    seen = torch.from_numpy(~np.isnan(matrix)).float()
    scaled = torch.from_numpy(np.nan_to_num((matrix - low) / span)).float()
    network = _train(scaled, seen, training, torch_generator(generator))
    return Generator(layout=layout, low=low, span=span, network=frozen(network))


def _train(scaled: Tensor, seen: Tensor, training: Training, draws: torch.Generator) -> Layers:
    size = scaled.shape[1]
    maker, judge = (draw_layers((2 * size, size, size, size), draws) for _ in range(2))
    of_maker, of_judge = (torch.optim.Adam(parameters(each), lr=_RATE) for each in (maker, judge))
    for _ in range(training.steps):
        rows = torch.randperm(len(scaled), generator=draws)[: training.batch]
        mask = seen[rows]
        noise = torch.rand(mask.shape, generator=draws) * _NOISE
        given = mask * scaled[rows] + (1 - mask) * noise
        hint = mask * (torch.rand(mask.shape, generator=draws) < training.hint)
        made = _generate(maker, given, mask)
        judged = _judge(judge, mask * given + (1 - mask) * made.detach(), hint)
        _step(of_judge, F.binary_cross_entropy_with_logits(judged, mask))
        judged = _judge(judge, mask * given + (1 - mask) * made, hint)
        fooled = -((1 - mask) * F.logsigmoid(judged)).mean()
        error = (mask * (scaled[rows] - made)).square().mean() / mask.mean().clamp_min(1e-6)
        _step(of_maker, fooled + training.alpha * error)
    return maker


def _judge(network: Layers, values: Tensor, hint: Tensor) -> Tensor:
    """Logit that each value was observed."""
    return forward(network, torch.cat([values, hint], dim=1), torch.relu)


def _step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()


def load_generator(arrays: Arrays, values: Mapping[str, Any]) -> Generator:
    """The inverse of `Generator.save`."""
    return Generator(
        layout=load_layout(arrays, values),
        low=arrays["low"].astype(np.float64, copy=False),
        span=arrays["span"].astype(np.float64, copy=False),
        network=from_arrays("network", arrays),
    )
