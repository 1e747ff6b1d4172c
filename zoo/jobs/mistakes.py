"""The held-out rows that a run got most wrong, for its report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.jobs.data import Prepared
from zoo.metrics.kinds import in_units
from zoo.metrics.predictions import THRESHOLD, predicted_ranks
from zoo.specs import Target, Task

MISTAKES = 12

Told = Callable[[int], tuple[str, str, float | None]]
"""Of a row what is true, what was predicted, and with which probability."""


def worst_mistakes(
    data: Prepared, rows: NDArray[np.int64], predicted: Mapping[str, Tensor], targets: Mapping[str, Target]
) -> Iterator[tuple[dict[str, Any], Tensor]]:
    """Fields of a `Mistake` with pixels uint8 (3, H, W): test rows, or validation rows where there is no test split.

    Of classes and labels these are the most confident wrong predictions, of ranks those that are furthest off, of
    numbers the largest errors; all of the first target.

    Args:
        data: of the run.
        rows: int64 (N,), positions in the table.
        predicted: of the rows by task, see `zoo.metrics.predictions.predictions_of`.
        targets: of the rows by task.
    """
    task = data.tasks[0]
    size, told = _ERRORS[task.kind](task, predicted[task.name], targets[task.name])
    held = data.splits.test if len(data.splits.test) else data.splits.val
    size = torch.where(torch.from_numpy(np.isin(rows, held)), size, 0.0)
    order = size.argsort(descending=True, stable=True)[:MISTAKES]
    worst = order[size[order] > 0]
    pictures = data.images.pixels(rows[worst.numpy()]) if len(worst) else torch.empty(0)
    images = data.table.frame[data.table.roles.image]
    for row, picture in zip(worst.tolist(), pictures, strict=True):
        true, taken, share = told(row)
        yield {"image": images[int(rows[row])], "true": true, "predicted": taken, "probability": share}, picture


def _of_classes(task: Task, predicted: Tensor, target: Target) -> tuple[Tensor, Told]:
    """How bad each row is (N,), 0 where it is right or nothing is known; and its words."""
    best = predicted_ranks(predicted) if task.kind == "ordinal" else predicted.argmax(dim=1)
    sure = predicted.gather(1, best[:, None])[:, 0]
    wrong = target.mask & (best != target.value)
    far = (best - target.value).abs() if task.kind == "ordinal" else torch.zeros_like(best)

    def told(row: int) -> tuple[str, str, float | None]:
        return task.classes[int(target.value[row])], task.classes[int(best[row])], float(sure[row])

    return torch.where(wrong, sure + far, 0.0), told


def _of_labels(task: Task, predicted: Tensor, target: Target) -> tuple[Tensor, Told]:
    off = torch.where(target.mask, (predicted - target.value).abs(), 0.0)
    off = torch.where((predicted >= THRESHOLD) == (target.value > 0.5), 0.0, off)
    worst = off.max(dim=1)

    def told(row: int) -> tuple[str, str, float | None]:
        name, there = task.classes[int(worst.indices[row])], bool(target.value[row, worst.indices[row]] > 0.5)
        words = (name, f"no {name}")
        return words[not there], words[there], float(worst.values[row])

    return worst.values, told


def _of_numbers(task: Task, predicted: Tensor, target: Target) -> tuple[Tensor, Told]:
    truth = in_units(task, target.value[:, 0])
    size = torch.where(target.mask, (predicted[:, 0] - truth).abs(), 0.0)

    def told(row: int) -> tuple[str, str, float | None]:
        return f"{float(truth[row]):.4g}", f"{float(predicted[row, 0]):.4g}", None

    return size, told


_ERRORS: dict[str, Callable[[Task, Tensor, Target], tuple[Tensor, Told]]] = {
    "classification": _of_classes,
    "ordinal": _of_classes,
    "multilabel": _of_labels,
    "regression": _of_numbers,
}
