"""Losses of each task: computed per row, then weighed, masked and averaged by the trainer alone."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.specs import Target, Task
from zoo.training.strategy import Answer


def cross_entropy(logits: Tensor, target: Target) -> Tensor:
    """Cross-entropy (B,) of logits (B, K) against hard or soft classes; rows without a label give 0."""
    if target.value.ndim == 2:
        return F.cross_entropy(logits, target.value.to(logits.dtype), reduction="none")
    # What stands at a hole may be no class at all: replaced before the loss, because a NaN behind a mask still has a
    # NaN gradient.
    known = torch.where(target.mask, target.value, 0)
    return F.cross_entropy(logits, known, reduction="none")


def task_loss(logits: Tensor, target: Target, answer: Answer) -> Tensor:
    """Mean loss over the rows whose label is known: sum(loss * weights) / number of known rows; 0 where there is none.

    Dividing by the number of rows, not by the sum of weights, keeps a batch of one class from cancelling its weight.
    """
    if answer.criterion is None:
        # Double precision stays: a line search compares losses that float32 cannot tell apart.
        losses = cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), target)
    else:
        losses = answer.criterion(logits.float(), target)
    known = target.mask.to(losses.dtype)
    weights = answer.weights(Target(value=_classes(target), mask=target.mask))
    if weights is not None:
        losses = losses * weights
    if target.weight is not None:
        losses = losses * target.weight
    return (losses * known).sum() / known.sum().clamp_min(1.0)


def _classes(target: Target) -> Tensor:
    return torch.where(target.mask, target.value, 0) if target.value.ndim == 1 else target.value


def total_loss(
    logits: Mapping[str, Tensor], targets: Mapping[str, Target], tasks: tuple[Task, ...], answers: Mapping[str, Answer]
) -> Tensor:
    """Sum over the tasks of their mean losses."""
    losses = [task_loss(logits[task.name], targets[task.name], answers[task.name]) for task in tasks]
    return torch.stack(losses).sum()
