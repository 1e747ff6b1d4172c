"""What the networks of the generators share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH = 128


@contextmanager
def seeded(generator: torch.Generator) -> Iterator[None]:
    """Within, layers begin with weights that the generator decides; the process's own random numbers stay."""
    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def perceptron(*widths: int) -> nn.Sequential:
    """Linear layers of these widths with leaky rectifiers between."""
    layers: list[nn.Module] = []
    for number, (before, behind) in enumerate(pairwise(widths)):
        layers += [nn.LeakyReLU(0.2)] if number else []
        layers.append(nn.Linear(before, behind))
    return nn.Sequential(*layers)


def joined(numbers: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Rows with their class beside them, one of `classes` columns being 1."""
    return torch.cat([numbers, F.one_hot(labels, classes).to(numbers.dtype)], dim=1)


def balanced(labels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Positions int64 (count,) of rows, each class that there is as likely as the others."""
    shares = 1.0 / torch.bincount(labels).clamp(min=1).double()[labels]
    return torch.multinomial(shares, count, replacement=True, generator=generator)
