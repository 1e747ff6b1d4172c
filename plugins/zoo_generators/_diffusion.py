"""A small conditional diffusion model of pictures.

Ho, Jain and Abbeel 2020 (arXiv:2006.11239), with the cosine schedule of Nichol and Dhariwal 2021 (arXiv:2102.09672),
the velocity as what is learned (Salimans and Ho 2022, arXiv:2202.00512), and draws without noise on the way (Song, Meng
and Ermon 2021, arXiv:2010.02502).
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_generators._networks import balanced, seeded
from zoo_generators.parameters import Diffusion

FREQUENCIES = 32
"""Sines and cosines, each, by which the network knows how much noise there is."""

PICTURES = 64
"""Pictures that are drawn at once."""


class Block(nn.Module):
    """Two convolutions beside what comes in, told the noise and the class between them."""

    def __init__(self, before: int, behind: int, told: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(8, before), nn.SiLU(), nn.Conv2d(before, behind, 3, padding=1))
        self.second = nn.Sequential(nn.GroupNorm(8, behind), nn.SiLU(), nn.Conv2d(behind, behind, 3, padding=1))
        self.told = nn.Linear(told, 2 * behind)
        self.beside = nn.Conv2d(before, behind, 1) if before != behind else nn.Identity()

    def forward(self, given: Tensor, told: Tensor) -> Tensor:
        """From (B, before, H, W) to (B, behind, H, W)."""
        scale, shift = self.told(told)[:, :, None, None].chunk(2, dim=1)
        found: Tensor = self.beside(given) + self.second(self.first(given) * (1 + scale) + shift)
        return found


class Network(nn.Module):
    """From a noisy picture, the noise in it and its class to the velocity: three levels, down and up again."""

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        told = 4 * width
        self.classes = nn.Embedding(classes, told)
        self.noise = nn.Sequential(nn.Linear(2 * FREQUENCIES, told), nn.SiLU(), nn.Linear(told, told))
        self.begin = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.ModuleList([Block(width, width, told), Block(width, 2 * width, told)])
        self.middle = Block(2 * width, 2 * width, told)
        self.up = nn.ModuleList([Block(4 * width, 2 * width, told), Block(3 * width, width, told)])
        last = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(last.weight)
        self.end = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), last)

    def forward(self, given: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        """From pictures (B, C, S, S), times (B,) in [0, 1] and labels (B,)."""
        angles = time[:, None] * torch.exp(torch.linspace(0, math.log(1000.0), FREQUENCIES))
        told = F.silu(self.noise(torch.cat([angles.sin(), angles.cos()], dim=1)) + self.classes(labels))
        found, passed = self.begin(given), []
        for block in self.down:
            found = block(found, told)
            passed.append(found)
            found = F.avg_pool2d(found, 2)
        found = self.middle(found, told)
        for block in self.up:
            found = block(torch.cat([F.interpolate(found, scale_factor=2.0), passed.pop()], dim=1), told)
        velocity: Tensor = self.end(found)
        return velocity


def shares(time: Tensor) -> tuple[Tensor, Tensor]:
    """How much of the picture and of the noise there is at a time in [0, 1], both (B, 1, 1, 1): a quarter circle."""
    angle = (time * math.pi / 2)[:, None, None, None]
    return angle.cos(), angle.sin()


class FittedDiffusion:
    """A trained network and the shape of what it draws."""

    def __init__(self, network: Network, shape: tuple[int, int, int], draws: int) -> None:
        self.network, self.shape, self.draws = network.eval().requires_grad_(False), shape, draws

    @torch.no_grad()
    def sample(self, label: int, count: int, generator: torch.Generator) -> Tensor:
        """New pictures float32 (count, C, side, side) in [0, 1]."""
        parts = [self._drawn(label, min(PICTURES, count - at), generator) for at in range(0, count, PICTURES)]
        return torch.cat(parts)

    def _drawn(self, label: int, count: int, generator: torch.Generator) -> Tensor:
        labels = torch.full((count,), label)
        found = torch.randn((count, *self.shape), generator=generator)
        times = torch.linspace(1.0, 0.0, self.draws + 1)
        for now, then in itertools.pairwise(times):
            picture, noise = shares(now.expand(count))
            velocity = self.network(found, now.expand(count), labels)
            clean = (picture * found - noise * velocity).clamp(-1.0, 1.0)
            left = (found - picture * clean) / noise
            picture, noise = shares(then.expand(count))
            found = picture * clean + noise * left
        return (found.clamp(-1.0, 1.0) + 1) / 2


def fit_diffusion(
    pictures: Tensor, labels: Tensor, classes: int, parameters: Diffusion, generator: torch.Generator
) -> FittedDiffusion:
    """Train it, every class drawn alike.

    Raises:
        ValueError: the loss did not stay finite.
    """
    with seeded(generator):
        network = Network(pictures.shape[1], classes, parameters.width)
    average = {name: own.detach().clone() for name, own in network.named_parameters()}
    optimiser = torch.optim.AdamW(network.parameters(), lr=parameters.lr, weight_decay=1e-4)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, parameters.steps)
    size = min(parameters.batch, max(2, len(pictures)))
    for step in range(parameters.steps):
        chosen = balanced(labels, size, generator)
        clean, time = pictures[chosen] * 2 - 1, torch.rand(size, generator=generator)
        noise, (much, little) = torch.randn(clean.shape, generator=generator), shares(time)
        wanted = much * noise - little * clean
        loss = F.mse_loss(network(much * clean + little * noise, time, labels[chosen]), wanted)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        falling.step()
        decay = min(parameters.ema, (1 + step) / (10 + step))  # at first it follows
        with torch.no_grad():
            for name, own in network.named_parameters():
                average[name].lerp_(own, 1 - decay)
    if not bool(torch.isfinite(loss)):
        raise ValueError(f"the loss became {float(loss)}; lower lr={parameters.lr:g}")
    network.load_state_dict(average)
    return FittedDiffusion(network, (pictures.shape[1], parameters.side, parameters.side), parameters.draws)
