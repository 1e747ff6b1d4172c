"""The losses themselves, one number a row; the trainer weighs, masks and averages."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.specs import Target


def _one_hot(logits: Tensor, target: Target) -> Tensor:
    """Shares float (B, K) of hard or soft labels."""
    if target.value.ndim == 2:
        return target.value.to(logits.dtype)
    return F.one_hot(target.value, logits.shape[1]).to(logits.dtype)


def focal(gamma: float, logits: Tensor, target: Target) -> Tensor:
    """-Σ_c t_c (1 - p_c)^γ log p_c (B,) for logits (B, K) and shares t."""
    logs = logits.log_softmax(dim=1)
    # 1 - p by logarithms keeps its digits, and so its gradient, where p is close to 1.
    others = (-torch.expm1(logs)).clamp_min(torch.finfo(logs.dtype).tiny)
    return -(_one_hot(logits, target) * others.pow(gamma) * logs).sum(dim=1)


def sigmoid_focal(gamma: float, logits: Tensor, target: Target) -> Tensor:
    """The binary focal loss (B, K) of each label."""
    value = torch.where(target.mask, target.value.to(logits.dtype), 0)
    signed = torch.where(value > 0.5, logits, -logits)
    return torch.sigmoid(-signed).pow(gamma) * F.softplus(-signed)


def ldam(margins: tuple[float, ...], logits: Tensor, target: Target) -> Tensor:
    """Cross-entropy (B,) of logits (B, K) less the margin of the row's own class, in units of a logit."""
    table = torch.tensor(margins, dtype=logits.dtype, device=logits.device)
    moved = logits - _one_hot(logits, target) * table
    return F.cross_entropy(moved, target.value, reduction="none")


def prior_added(log_prior: tuple[float, ...], logits: Tensor, target: Target) -> Tensor:
    """Cross-entropy (B,) of logits (B, K) + a log prior."""
    moved = logits + torch.tensor(log_prior, dtype=logits.dtype, device=logits.device)
    return F.cross_entropy(moved, _one_hot(logits, target), reduction="none")


def label_aware(smoothing: tuple[float, ...], logits: Tensor, target: Target) -> Tensor:
    """Cross-entropy (B,), smoothed by the class: the own label has the share 1 - ε_y, each other ε_y / (K - 1)."""
    shares, count = _one_hot(logits, target), logits.shape[1]
    table = torch.tensor(smoothing, dtype=logits.dtype, device=logits.device)
    spread = (shares * table).sum(dim=1, keepdim=True)
    soft = shares * (1 - table) + (spread - shares * table) / (count - 1)
    return -(soft * logits.log_softmax(dim=1)).sum(dim=1)
