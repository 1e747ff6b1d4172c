"""What validation says about logits: loss and metric, corrected as they will be at inference."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from zoo.errors import DataError
from zoo.metrics.chooser import Chooser
from zoo.metrics.kinds import epoch_score
from zoo.specs import Target, Task
from zoo.training.losses import total_loss
from zoo.training.strategy import Answer


def scores(
    logits: Mapping[str, Tensor],
    targets: Mapping[str, Target],
    tasks: tuple[Task, ...],
    answers: Mapping[str, Answer],
    chooser: Chooser,
    weights: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """`val_loss`, `<task>/<metric>` of every task for which it is defined, and `mean` where several of them choose.

    Args:
        logits: float (N, K) by task, on the CPU.
        targets: of the same N rows, on the CPU.
        tasks: in the order of the heads.
        answers: by task; their biases are added to the logits for the metric, not for the loss.
        chooser: says which metric each task has, and which of them must be defined because they choose the best epoch.
        weights: factors on the tasks' losses that were given, 1 by default; learned ones are left out of `val_loss`,
            which could not be compared from epoch to epoch.

    Raises:
        DataError, ValueError: a metric that chooses is undefined; see `epoch_score`.
    """
    factors = {task.name: (weights or {}).get(task.name, 1.0) for task in tasks}
    found = {"val_loss": float(total_loss(logits, targets, tasks, answers, weights=factors))}
    metrics = {}
    for task in tasks:
        bias = answers[task.name].logit_bias
        corrected = logits[task.name] + torch.tensor(bias) if bias else logits[task.name]
        try:
            score = epoch_score(task, chooser.metrics[task.name], corrected, targets[task.name])
        except (DataError, ValueError):
            if task.name in chooser.counts:
                raise
            continue  # undefined for a task that does not choose the epoch; the final report says why
        metrics[chooser.column(task.name)] = score
    return found | chooser.with_mean(metrics)
