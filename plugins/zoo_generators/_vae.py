"""A conditional variational autoencoder of features."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from zoo_generators._networks import BATCH, balanced, joined, perceptron, seeded
from zoo_generators.parameters import Vae

REMEMBERED = 0.05
"""Weight of the last batch in the variances that are kept."""

LEAST = 1e-3
"""Of a feature's variance about what is decoded: one that never varies would drown all others."""


class FittedVae(nn.Module):
    """Encoder and decoder, both told the class; each feature has a variance of its own about what is decoded.

    That variance is the best one for what is decoded, in closed form (Rybkin, Daniilidis & Levine 2021).
    """

    variance: Tensor

    def __init__(self, width: int, classes: int, parameters: Vae) -> None:
        super().__init__()
        self.classes, self.latent = classes, parameters.latent
        self.encode = perceptron(width + classes, parameters.width, parameters.width, 2 * parameters.latent)
        self.decode = perceptron(parameters.latent + classes, parameters.width, parameters.width, width)
        self.register_buffer("variance", torch.ones(width))

    def loss(self, rows: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """The negative evidence bound of rows (B, D), the mean over them."""
        mean, log_variance = self.encode(joined(rows, labels, self.classes)).chunk(2, dim=1)
        drawn = mean + torch.exp(0.5 * log_variance) * torch.randn(mean.shape, generator=generator)
        variance = (rows - self.decode(joined(drawn, labels, self.classes))).square().mean(dim=0).clamp(min=LEAST)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)
        self.variance.lerp_(variance.detach(), REMEMBERED)
        loss: Tensor = 0.5 * variance.log().sum() + divergence.mean()
        return loss

    @torch.no_grad()
    def sample(self, label: int, count: int, generator: torch.Generator) -> Tensor:
        """New features float32 (count, D), with the variance that the decoder leaves."""
        code = torch.randn((count, self.latent), generator=generator)
        mean: Tensor = self.decode(joined(code, torch.full((count,), label), self.classes))
        return mean + self.variance.sqrt() * torch.randn(mean.shape, generator=generator)


def fit_vae(features: Tensor, labels: Tensor, classes: int, parameters: Vae, generator: torch.Generator) -> FittedVae:
    """Train it, every class drawn alike, with Adam whose rate falls to nothing.

    Raises:
        ValueError: the loss did not stay finite.
    """
    with seeded(generator):
        fitted = FittedVae(features.shape[1], classes, parameters)
    size = min(BATCH, max(8, len(features) // 8))
    steps = parameters.epochs * math.ceil(len(features) / size)
    optimiser = torch.optim.Adam(fitted.parameters(), lr=parameters.lr)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        chosen = balanced(labels, size, generator)
        loss = fitted.loss(features[chosen], labels[chosen], generator)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(fitted.parameters(), 100.0)
        optimiser.step()
        falling.step()
    if not bool(torch.isfinite(loss)):
        raise ValueError(f"the loss became {float(loss)}; lower lr={parameters.lr:g}")
    return fitted.requires_grad_(False)
