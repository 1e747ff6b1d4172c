"""Losses of each task: computed per row, then weighed, masked and averaged by the trainer alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.specs import Target, Task
from zoo.training.strategy import Answer


def cross_entropy(logits: Tensor, target: Target, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy (B,) of logits (B, K) against hard or soft classes; rows without a label count for nothing.

    `smoothing` is the share of each label that is spread evenly over all classes (Szegedy et al. 2016).
    """
    if target.mask.ndim == 2:
        return _mean_of_labels(logits, target)
    if target.value.ndim == 2:
        return F.cross_entropy(logits, target.value.to(logits.dtype), reduction="none", label_smoothing=smoothing)
    # What stands at a hole may be no class at all: replaced before the loss, because a NaN behind a mask still has a
    # NaN gradient.
    known = torch.where(target.mask, target.value, 0)
    return F.cross_entropy(logits, known, reduction="none", label_smoothing=smoothing)


def _mean_of_labels(logits: Tensor, target: Target) -> Tensor:
    """Binary cross-entropy (B,) of each row's known labels in the mean; 0 where none is known."""
    known = torch.where(target.mask, target.value, 0).to(logits.dtype)
    losses = F.binary_cross_entropy_with_logits(logits, known, reduction="none") * target.mask
    return losses.sum(dim=1) / target.mask.sum(dim=1).clamp_min(1)


def task_loss(
    logits: Tensor, target: Target, answer: Answer, *, smoothing: float = 0.0, known_rows: float | None = None
) -> Tensor:
    """Mean loss over the rows whose label is known: sum(loss * weights) / number of known rows; 0 where there is none.

    Dividing by the number of rows, not by the sum of weights, keeps a batch of one class from cancelling its weight.

    Args:
        logits: (B, K).
        target: of the same rows.
        answer: to imbalance.
        smoothing: of labels; a criterion of `answer` has none.
        known_rows: what is divided by, where these rows are part of a larger batch; by default their own number.
    """
    if answer.criterion is None:
        # Double precision stays: a line search compares losses that float32 cannot tell apart.
        losses = cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), target, smoothing)
    else:
        losses = answer.criterion(logits.float(), replace(target, value=_classes(target)))
    known = (target.mask if target.mask.ndim == 1 else target.mask.any(dim=1)).to(losses.dtype)
    weights = answer.weights(Target(value=_classes(target), mask=target.mask))
    if weights is not None:
        losses = losses * weights
    if target.weight is not None:
        losses = losses * target.weight
    count = known.sum() if known_rows is None else known.new_tensor(known_rows)
    return (losses * known).sum() / count.clamp_min(1.0)


def _classes(target: Target) -> Tensor:
    """What may be looked up and has no NaN: 0 stands where nothing is known."""
    same = target.value.ndim == target.mask.ndim
    return torch.where(target.mask if same else target.mask[:, None], target.value, 0)


def total_loss(
    logits: Mapping[str, Tensor],
    targets: Mapping[str, Target],
    tasks: tuple[Task, ...],
    answers: Mapping[str, Answer],
    *,
    smoothing: float = 0.0,
    known_rows: Mapping[str, float] | None = None,
) -> Tensor:
    """Sum over the tasks of their mean losses; the options as of `task_loss`, `known_rows` by task."""
    losses = [
        task_loss(
            logits[task.name],
            targets[task.name],
            answers[task.name],
            smoothing=smoothing,
            known_rows=None if known_rows is None else known_rows[task.name],
        )
        for task in tasks
    ]
    return torch.stack(losses).sum()
