"""From what heads give to what a task predicts: probabilities of classes, of labels, of ranks, or a number."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.specs import Task

THRESHOLD = 0.5
"""Probability from which a label counts as there, and above which a rank counts as passed."""


def outputs_of(task: Task, logits: Tensor) -> Tensor:
    """What logits (N, outputs) predict, in their dtype and on their device.

    Returns:
        Probabilities (N, K) of classes or ranks, which sum to 1; of labels, each for itself; or numbers (N, 1) in the
        target's own units, within the range of the training rows.
    """
    if task.kind == "multilabel":
        return logits.sigmoid()
    if task.kind == "regression":
        return within(task, logits * task.scale + task.center)
    if task.kind == "ordinal":
        # P(y = r) is the product of the steps passed and of the one that is not: in logarithms, so that it keeps its
        # digits (Shi, Cao & Raschka 2021).
        passed = F.pad(F.logsigmoid(logits).cumsum(dim=1), (1, 0))
        stopped = F.pad(F.logsigmoid(-logits), (0, 1))
        return (passed + stopped).exp()
    return logits.softmax(dim=1)


def within(task: Task, numbers: Tensor) -> Tensor:
    """Numbers of a regression task, kept between its ends."""
    if task.low is None and task.high is None:
        return numbers
    return numbers.clamp(min=task.low, max=task.high)


def predictions_of(task: Task, logits: Tensor) -> Tensor:
    """`outputs_of` in float64 on the CPU, so that large logits make no ties that float32 would."""
    return outputs_of(task, logits.detach().to("cpu").to(torch.float64))


def predicted_ranks(probabilities: Tensor) -> Tensor:
    """Ranks int64 (N,): how many are passed with a probability above one half, the median of (N, K) probabilities."""
    beyond = 1 - probabilities.cumsum(dim=1)
    return (beyond[:, :-1] > THRESHOLD).sum(dim=1)
