"""Losses of each task: computed per row, then weighed, masked and averaged by the trainer alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.specs import Target, Task, TaskKind
from zoo.training.strategy import Answer


def row_losses(kind: TaskKind, logits: Tensor, target: Target, smoothing: float = 0.0) -> Tensor:
    """The loss (B,) of each row, or (B, K) of each label of a multilabel task; what stands at holes counts for nothing.

    Cross-entropy of classes; binary cross-entropy of labels; half the squared error of numbers, in units of the
    training rows' variance; of ranks the negative log probability that the steps between them give (`rank_losses`).

    Args:
        kind: of the task.
        logits: (B, outputs).
        target: of the same rows, hard or soft classes.
        smoothing: the share of each class label that is spread evenly over all classes (Szegedy et al. 2016); of each
            of several labels half of it goes to the other side.
    """
    # What stands at a hole may be no class at all, or NaN: replaced before the loss, because a NaN behind a mask still
    # has a NaN gradient.
    known = _filled(target)
    if kind == "multilabel":
        soft = known.to(logits.dtype) * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, soft, reduction="none")
    if kind == "regression":
        return 0.5 * (logits[:, 0] - known[:, 0].to(logits.dtype)).square()
    if kind == "ordinal":
        return rank_losses(logits, known)
    if known.ndim == 2:
        known = known.to(logits.dtype)
    return F.cross_entropy(logits, known, reduction="none", label_smoothing=smoothing)


def rank_losses(logits: Tensor, ranks: Tensor) -> Tensor:
    """The loss (B,) of ranks int64 (B,) under the conditional steps that logits (B, K - 1) give.

    Shi, Cao and Raschka 2021, "Deep Neural Networks for Rank-Consistent Ordinal Regression Based On Conditional
    Probabilities" (CORN): logit k is of y > k given y ≥ k, so that the steps up to the row's own are its negative log
    probability. Their code divides by the number of steps, `coral_pytorch.losses.corn_loss`; here it is that of rows.
    """
    steps = torch.arange(logits.shape[1], device=logits.device)
    passed = (ranks[:, None] > steps).to(logits.dtype)
    losses = F.binary_cross_entropy_with_logits(logits, passed, reduction="none")
    return (losses * (ranks[:, None] >= steps)).sum(dim=1)


def task_loss(
    logits: Tensor,
    target: Target,
    answer: Answer,
    *,
    kind: TaskKind = "classification",
    smoothing: float = 0.0,
    known_rows: float | None = None,
) -> Tensor:
    """Mean loss over the labels that are known: sum(loss * weights) / number of them; 0 where there is none.

    Dividing by the number of labels, not by the sum of weights, keeps a batch of one class from cancelling its weight.
    Of K labels a row it is the mean over those known, times K: the negative log probability of the whole set.

    Args:
        logits: (B, outputs).
        target: of the same rows.
        answer: to imbalance.
        kind: of the task.
        smoothing: of labels; a criterion of `answer` has none.
        known_rows: what is divided by, where these rows are part of a larger batch; by default their own number.
    """
    if answer.criterion is None:
        # Double precision stays: a line search compares losses that float32 cannot tell apart.
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        losses = row_losses(kind, wide, target, smoothing)
    else:
        losses = answer.criterion(logits.float(), replace(target, value=_filled(target)))
    known = target.mask.to(losses.dtype)
    weights = answer.weights(Target(value=_filled(target), mask=target.mask))
    if weights is not None:
        losses = losses * weights
    if target.weight is not None:
        losses = losses * (target.weight if losses.ndim == 1 else target.weight[:, None])
    count = known.sum() if known_rows is None else known.new_tensor(known_rows)
    labels = losses.shape[1] if losses.ndim == 2 else 1
    return labels * (losses * known).sum() / count.clamp_min(1.0)


def _filled(target: Target) -> Tensor:
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
    weights: Mapping[str, Tensor | float] | None = None,
) -> Tensor:
    """Sum over the tasks of their mean losses; the options as of `task_loss`, `known_rows` by task.

    `weights` are factors on the tasks' losses, 1 by default.
    """
    losses = [
        (1.0 if weights is None else weights[task.name])
        * task_loss(
            logits[task.name],
            targets[task.name],
            answers[task.name],
            kind=task.kind,
            smoothing=smoothing,
            known_rows=None if known_rows is None else known_rows[task.name],
        )
        for task in tasks
    ]
    return torch.stack(losses).sum()
