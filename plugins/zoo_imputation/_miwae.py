"""MIWAE: a variational autoencoder of what is observed; a hole gets its mean by importance sampling (Mattei 2019).

After the authors' notebook (github.com/pamattei/miwae): a normal code, a decoder of Student's t, the bound of `k`
importance samples over observed numbers alone. Numbers are standardised, and those of a category are taken for numbers
too. The draws of the code that filling needs are drawn once and kept, the same for every row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor
from torch.distributions import StudentT
from torch.nn import functional as F

from zoo.specs import CovariateColumns, RowNoise, TrainView
from zoo_imputation._layout import Arrays, Layout, learn_layout, load_layout
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

_RATE = 1e-3
_BATCH = 64
_ROWS = 64
"""Rows that are filled at once: each brings all draws."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Autoencoder:
    """A fitted MIWAE.

    Attributes:
        layout: how columns become numbers.
        encoder: from P numbers, 0 at holes, to mean and log deviation of the code (2 d).
        decoder: from a code (d) to location, scale and degrees of freedom of each number (3 P).
        draws: float64 (L, d), standard normal.
    """

    layout: Layout
    encoder: Layers
    decoder: Layers
    draws: Tensor

    def transform(self, columns: CovariateColumns) -> CovariateColumns:
        """Every hole filled with its mean given what is observed in the row.

        Raises:
            ValueError: other columns than those it was fitted on.
        """
        matrix = torch.from_numpy(self.layout.matrix(columns))
        parts = [self._means(part) for part in torch.split(matrix, _ROWS)] if len(matrix) else [matrix]
        return self.layout.filled(columns, torch.cat(parts).numpy())

    def draw(self, columns: CovariateColumns, noise: RowNoise) -> CovariateColumns:
        """Every hole drawn by sampling importance resampling: one code by its weight, then what it decodes to."""
        matrix = torch.from_numpy(self.layout.matrix(columns))
        uniform = torch.from_numpy(noise(1 + matrix.shape[1]))
        pairs = zip(torch.split(matrix, _ROWS), torch.split(uniform, _ROWS), strict=True)
        parts = [self._drawn(part, own) for part, own in pairs] if len(matrix) else [matrix]
        return self.layout.filled(columns, torch.cat(parts).numpy())

    def _means(self, rows: Tensor) -> Tensor:
        shares, density = self._decoded(rows)
        return (shares.unsqueeze(2) * density.loc).sum(dim=0)

    def _drawn(self, rows: Tensor, uniform: Tensor) -> Tensor:
        """From (B, P) and numbers in (0, 1), (B, 1 + P), to (B, P)."""
        shares, density = self._decoded(rows)
        reached = uniform[:, 0] * shares.sum(dim=0) < shares.cumsum(dim=0)
        one = reached.to(torch.uint8).argmax(dim=0)
        own = (one, torch.arange(len(rows)))
        freedom, location, scale = (part[own].numpy() for part in (density.df, density.loc, density.scale))
        return torch.from_numpy(location + scale * student.ppf(uniform[:, 1:].numpy(), freedom))

    def _decoded(self, rows: Tensor) -> tuple[Tensor, StudentT]:
        """Shares (L, B) of the kept codes given what is observed in (B, P), and the densities (L, B, P) they mean."""
        seen = ~torch.isnan(rows)
        draws = self.draws.unsqueeze(1).expand(-1, len(rows), -1)
        weights, density = _bounds(self.encoder, self.decoder, rows.nan_to_num(0.0), seen, draws)
        return weights.softmax(dim=0), density

    def save(self) -> tuple[Arrays, Mapping[str, Any]]:
        """Arrays and JSON values that `load_autoencoder` takes back."""
        arrays, values = self.layout.save()
        networks = {**to_arrays("encoder", self.encoder), **to_arrays("decoder", self.decoder)}
        return {**arrays, **networks, "draws": self.draws.numpy()}, values


def _bounds(encoder: Layers, decoder: Layers, rows: Tensor, seen: Tensor, draws: Tensor) -> tuple[Tensor, StudentT]:
    """Log importance weights (L, B) of codes drawn by `draws` (L, B, d), and the densities (L, B, P) they decode to."""
    mean, log_std = forward(encoder, rows, torch.tanh).chunk(2, dim=1)
    log_std = log_std.clamp(-8.0, 8.0)
    code = mean + log_std.exp() * draws
    location, scale, freedom = forward(decoder, code, torch.tanh).chunk(3, dim=2)
    density = StudentT(F.softplus(freedom) + 3.0, location, F.softplus(scale) + 1e-3, validate_args=False)
    observed = (density.log_prob(rows) * seen).sum(dim=2)  # type: ignore[no-untyped-call]
    constant = 0.5 * math.log(2 * math.pi)
    prior = (-0.5 * code.square() - constant).sum(dim=2)
    drawn = (-0.5 * draws.square() - constant - log_std).sum(dim=2)
    return observed + prior - drawn, density


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """How MIWAE is trained: `steps`, widths of code and hidden layers, samples of the bound, draws for filling."""

    steps: int
    latent: int
    hidden: int
    samples: int
    draws: int


def fit_autoencoder(view: TrainView, *, training: Training, generator: np.random.Generator) -> Autoencoder:
    """Train on the training rows.

    Raises:
        ValueError: there are no covariates, or a column has no observed value among the training rows.
    """
    layout, columns = learn_layout(view)
    random = torch_generator(generator)
    rows = torch.from_numpy(layout.matrix(columns)).float()
    encoder, decoder = _train(rows, training, random)
    draws = torch.randn(training.draws, training.latent, generator=random).double()
    return Autoencoder(layout=layout, encoder=frozen(encoder), decoder=frozen(decoder), draws=draws)


def _train(rows: Tensor, training: Training, random: torch.Generator) -> tuple[Layers, Layers]:
    size, latent, hidden = rows.shape[1], training.latent, training.hidden
    encoder = draw_layers((size, hidden, hidden, 2 * latent), random)
    decoder = draw_layers((latent, hidden, hidden, 3 * size), random)
    optimiser = torch.optim.Adam(parameters(encoder, decoder), lr=_RATE)
    seen, whole = ~torch.isnan(rows), rows.nan_to_num(0.0)
    for _ in range(training.steps):
        chosen = torch.randperm(len(rows), generator=random)[:_BATCH]
        draws = torch.randn(training.samples, len(chosen), latent, generator=random)
        weights, _ = _bounds(encoder, decoder, whole[chosen], seen[chosen], draws)
        bound = (weights.logsumexp(dim=0) - math.log(training.samples)).mean()
        optimiser.zero_grad(set_to_none=True)
        (-bound).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return encoder, decoder


def load_autoencoder(arrays: Arrays, values: Mapping[str, Any]) -> Autoencoder:
    """The inverse of `Autoencoder.save`."""
    return Autoencoder(
        layout=load_layout(arrays, values),
        encoder=from_arrays("encoder", arrays),
        decoder=from_arrays("decoder", arrays),
        draws=torch.from_numpy(np.array(arrays["draws"], dtype=np.float64)),
    )
