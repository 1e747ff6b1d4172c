"""One factor that makes scores logits: temperature scaling (Guo et al. 2017, arXiv:1706.04599, section 4.2).

The factor is the inverse of their temperature. Every score is multiplied, so the order of the classes stays.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.specs import Target
from zoo.training.losses import task_loss
from zoo.training.strategy import Answer

BOUNDS = (1e-2, 1e4)
"""Between these the factor lies; scores of ridge against one-hot targets mostly want 3 to 30."""

GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


def fitted_scale(scores: Tensor, target: Target, answer: Answer) -> float:
    """The factor with the smallest log loss of `softmax(factor * scores)`, weighed as in training.

    Scores that separate the rows would want an infinite factor. Therefore each row's target is mixed with one pseudo
    row of every class, N parts to K (Platt 1999, "Probabilistic outputs for support vector machines", section 2.2).

    Args:
        scores: float (N, K), higher for more probable classes.
        target: hard or soft classes of the N rows.
        answer: whose class weights count here too.
    """
    smooth = _smoothed(target, scores.shape[1])

    def loss(logarithm: float) -> float:
        return float(task_loss(scores * math.exp(logarithm), smooth, answer))

    # The loss is convex in the factor, so in its logarithm it has one valley: golden section finds the bottom.
    low, high = (math.log(bound) for bound in BOUNDS)
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = loss(left), loss(right)
    while high - low > 1e-3:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - GOLDEN * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + GOLDEN * (high - low)
            at_right = loss(right)
    return math.exp((low + high) / 2)


def _smoothed(target: Target, classes: int) -> Target:
    soft = soft_classes(target, classes)
    rows = int(target.mask.sum())
    return Target(value=(rows * soft + 1.0) / (rows + classes), mask=target.mask, weight=target.weight)


def soft_classes(target: Target, classes: int) -> Tensor:
    """Float (N, K): one-hot where classes are hard, as they are where soft; what stands at a hole means nothing."""
    if target.value.ndim == 2:
        return target.value.float()
    return F.one_hot(torch.where(target.mask, target.value, 0), classes).float()
