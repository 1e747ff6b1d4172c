"""A conditional Wasserstein GAN of features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo_generators._networks import BATCH, balanced, joined, perceptron, seeded
from zoo_generators.parameters import Gan

CRITIC_STEPS = 5
PENALTY = 10.0


class FittedGan(nn.Module):
    """A network from noise and a class to features."""

    def __init__(self, width: int, classes: int, parameters: Gan) -> None:
        super().__init__()
        self.classes, self.noise = classes, parameters.noise
        self.make = perceptron(parameters.noise + classes, parameters.width, parameters.width, width)

    def drawn(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Features (B, D) of these classes."""
        found: Tensor = self.make(
            joined(torch.randn((len(labels), self.noise), generator=generator), labels, self.classes)
        )
        return found

    @torch.no_grad()
    def sample(self, label: int, count: int, generator: torch.Generator) -> Tensor:
        """New features float32 (count, D)."""
        return self.drawn(torch.full((count,), label), generator)


def fit_gan(features: Tensor, labels: Tensor, classes: int, parameters: Gan, generator: torch.Generator) -> FittedGan:
    """Train it against a critic, every class drawn alike.

    Raises:
        ValueError: the numbers did not stay finite.
    """
    with seeded(generator):
        fitted = FittedGan(features.shape[1], classes, parameters)
        critic = perceptron(features.shape[1] + classes, parameters.width, parameters.width, 1)
    options = {"lr": parameters.lr, "betas": (0.0, 0.9)}
    making, judging = (torch.optim.Adam(each.parameters(), **options) for each in (fitted, critic))  # type: ignore[arg-type]
    size = min(BATCH, max(2, len(features)))
    for _ in range(parameters.steps):
        for _ in range(CRITIC_STEPS):
            chosen = balanced(labels, size, generator)
            own, real = labels[chosen], features[chosen]
            with torch.no_grad():
                made = fitted.drawn(own, generator)
            loss = critic(joined(made, own, classes)).mean() - critic(joined(real, own, classes)).mean()
            loss = loss + PENALTY * _steepness(critic, real, made, own, classes, generator)
            judging.zero_grad()
            loss.backward()
            judging.step()
        own = labels[balanced(labels, size, generator)]
        loss = -critic(joined(fitted.drawn(own, generator), own, classes)).mean()
        making.zero_grad()
        loss.backward()
        making.step()
    if not bool(torch.isfinite(loss)):
        raise ValueError(f"the loss became {float(loss)}; lower lr={parameters.lr:g}")
    return fitted.requires_grad_(False)


def _steepness(
    critic: nn.Module, real: Tensor, made: Tensor, labels: Tensor, classes: int, generator: torch.Generator
) -> Tensor:
    """How far the critic's gradient between real and made rows is from length one."""
    share = torch.rand((len(real), 1), generator=generator)
    between = (share * real + (1 - share) * made).requires_grad_()
    (slope,) = torch.autograd.grad(critic(joined(between, labels, classes)).sum(), between, create_graph=True)
    penalty: Tensor = (slope.norm(dim=1) - 1).square().mean()
    return penalty
