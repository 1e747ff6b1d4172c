"""The mixers themselves: rows of a batch in, the same rows mixed and soft labels out."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.specs import Target

Tensors = tuple[Tensor, ...]


def _shares(a: float, b: float, rows: int, generator: torch.Generator) -> Tensor:
    """Draws float32 (rows,) of Beta(a, b)."""
    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    return torch.from_numpy(np.random.default_rng(seed).beta(a, b, rows).astype(np.float32))


def _mixed(inputs: Tensors, partner: Tensor, share: Tensor) -> Tensors:
    """Each row by its share, the rest of its partner; what is no floating-point number stays."""
    found = []
    for part in inputs:
        own = share.to(part.device).view(-1, *[1] * (part.ndim - 1)).to(part.dtype)
        found.append(own * part + (1 - own) * part[partner.to(part.device)] if part.is_floating_point() else part)
    return tuple(found)


def _target(target: Target, partner: Tensor, share: Tensor, classes: int) -> Target:
    device = target.value.device
    hot = F.one_hot(target.value, classes).float()
    own = share.to(device)[:, None]
    weight = target.weight
    if weight is not None:
        weight = share.to(device) * weight + (1 - share.to(device)) * weight[partner.to(device)]
    return Target(value=own * hot + (1 - own) * hot[partner.to(device)], mask=target.mask, weight=weight)


def label_shares(share: Tensor, own: Tensor, other: Tensor, kappa: float, tau: float) -> Tensor:
    """Remix's share (B,) of the own label, from that of the inputs and both classes' counts."""
    ratio = own.double() / other.double()
    found = torch.where((ratio >= kappa) & (share < tau), torch.zeros_like(share), share)
    return torch.where((ratio <= 1 / kappa) & (1 - share < tau), torch.ones_like(share), found)


def remix(
    alpha: float,
    kappa: float,
    tau: float,
    counts: tuple[int, ...],
    inputs: Tensors,
    target: Target,
    generator: torch.Generator,
) -> tuple[Tensors, Target]:
    """Each row mixed with another of the batch by a share of its own; labels lean towards the rarer class."""
    rows = len(target)
    partner = torch.randperm(rows, generator=generator)
    share = _shares(alpha, alpha, rows, generator)
    labels, table = target.value.cpu(), torch.tensor(counts)
    own = label_shares(share, table[labels], table[labels[partner]], kappa, tau)
    return _mixed(inputs, partner, share), _target(target, partner, own, len(counts))


def balanced_mixup(
    alpha: float, classes: int, inputs: Tensors, target: Target, generator: torch.Generator
) -> tuple[Tensors, Target]:
    """Each row mixed with one drawn class-balanced from the batch; the partner's share is of Beta(alpha, 1)."""
    labels = target.value.cpu()
    weights = 1.0 / torch.bincount(labels, minlength=classes).double()[labels]
    partner = torch.multinomial(weights, len(labels), replacement=True, generator=generator)
    share = 1 - _shares(alpha, 1.0, len(labels), generator)
    return _mixed(inputs, partner, share), _target(target, partner, share, classes)


def plain_mixup(
    alpha: float, classes: int, inputs: Tensors, target: Target, generator: torch.Generator
) -> tuple[Tensors, Target]:
    """Each row mixed with another of the batch by a share of Beta(alpha, alpha) of its own (Zhang et al. 2018)."""
    partner = torch.randperm(len(target), generator=generator)
    share = _shares(alpha, alpha, len(target), generator)
    return _mixed(inputs, partner, share), _target(target, partner, share, classes)
