"""What validation says about logits: loss and metric, corrected as they will be at inference."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from zoo.errors import DataError, UnknownNameError
from zoo.metrics.choice import epoch_score
from zoo.specs import Target, Task
from zoo.training.losses import total_loss
from zoo.training.strategy import Answer


def scores(
    logits: Mapping[str, Tensor],
    targets: Mapping[str, Target],
    tasks: tuple[Task, ...],
    answers: Mapping[str, Answer],
    metric: str,
) -> dict[str, float]:
    """`val_loss`, and `<task>/<metric>` of every task for which it is defined.

    Args:
        logits: float (N, K) by task, on the CPU.
        targets: of the same N rows, on the CPU.
        tasks: the first of them must have a metric, because it chooses the best epoch.
        answers: by task; their biases are added to the logits for the metric, not for the loss.
        metric: as of `zoo.metrics.choice.check_metric`.

    Raises:
        UnknownNameError, DataError, ValueError: the first task has no such class, or its metric is undefined; see
            `epoch_score`.
    """
    found = {"val_loss": float(total_loss(logits, targets, tasks, answers))}
    for position, task in enumerate(tasks):
        mask, bias = targets[task.name].mask, answers[task.name].logit_bias
        corrected = logits[task.name] + torch.tensor(bias) if bias else logits[task.name]
        try:
            score = epoch_score(corrected[mask], targets[task.name].value[mask], metric, task.classes)
        except (DataError, UnknownNameError, ValueError):
            if position == 0:
                raise
            continue  # undefined for a task that does not choose the epoch; the final report says why
        found[f"{task.name}/{metric}"] = score
    return found
