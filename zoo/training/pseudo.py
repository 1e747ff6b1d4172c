"""Pseudo-labels: which predictions on rows without a label are sure enough to be learned from, class by class.

FlexMatch (Zhang, Wang, Hou, Wu, Wang, Okumura and Shinozaki 2021, "FlexMatch: Boosting Semi-Supervised Learning with
Curriculum Pseudo Labeling", arXiv:2110.08263): a class of which few rows pass the threshold tau is one that the model
knows little of, and its own threshold is lower; with one threshold for all the frequent classes alone would grow. With
beta, the rows of a class that pass as a share of those of the class with most, its threshold is tau beta / (2 - beta),
as there. Their warm-up is left out, which is for a network that knows nothing yet, and a floor is added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from zoo.data.label_policy import Pseudo
from zoo.metrics.predictions import predictions_of
from zoo.specs import Target, Task

Marks = Mapping[str, Any]
"""Pseudo-labels of one target as JSON values: `rows` in the table, `labels` (positions among the classes) and, where a
row has several labels, whether each is `there`; how many `candidates` there were; `thresholds` and `taken` by class.
"""


def thresholds(probabilities: Tensor, policy: Pseudo) -> Tensor:
    """The threshold (K,) of each class on unlabelled rows with probabilities (N, K)."""
    sure, best = probabilities.max(dim=1)
    passed = torch.bincount(best[sure > policy.tau], minlength=probabilities.shape[1]).double()
    beta = passed / passed.max().clamp_min(1.0)
    return (policy.tau * beta / (2 - beta)).clamp_min(policy.floor)


def takes(task: Task) -> bool:
    """Whether missing labels of a task may be filled in: those of classes, ranks and labels."""
    return task.kind != "regression"


def mark(task: Task, logits: Tensor, target: Target, rows: Tensor, policy: Pseudo) -> Marks:
    """The pseudo-labels of some rows.

    Args:
        task: one that `takes` says may have them.
        logits: float (N, outputs) of the rows, as the heads give them.
        target: of the same rows; what is known of them is left alone.
        rows: int64 (N,), positions in the table.
        policy: says how sure is sure enough.
    """
    predicted = predictions_of(task, logits)
    if task.kind == "multilabel":
        return _mark_labels(task, predicted, target, rows, policy)
    open_ = ~target.mask
    shares, own = predicted[open_], rows[open_]
    limits = thresholds(shares, policy) if len(own) else torch.ones(len(task.classes))
    sure, best = shares.max(dim=1) if len(own) else (torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    kept = sure > limits[best]
    taken = torch.bincount(best[kept], minlength=len(task.classes)).tolist()
    return {
        "rows": own[kept].tolist(),
        "labels": best[kept].tolist(),
        "candidates": len(own),
        "thresholds": dict(zip(task.classes, limits.tolist(), strict=True)),
        "taken": dict(zip(task.classes, taken, strict=True)),
    }


def _mark_labels(task: Task, predicted: Tensor, target: Target, rows: Tensor, policy: Pseudo) -> Marks:
    """Each label for itself: there or not there are its two classes."""
    found: dict[str, Any] = {"rows": [], "labels": [], "there": [], "thresholds": {}, "taken": {}}
    found["candidates"] = int((~target.mask).sum())
    for index, name in enumerate(task.classes):
        open_ = ~target.mask[:, index]
        share, own = predicted[open_, index], rows[open_]
        if not len(own):
            continue
        shares = torch.stack([1 - share, share], dim=1)
        limits = thresholds(shares, policy)
        sure, best = shares.max(dim=1)
        kept = sure > limits[best]
        found["rows"] += own[kept].tolist()
        found["labels"] += [index] * int(kept.sum())
        found["there"] += (best[kept] == 1).tolist()
        found["thresholds"] |= {name: float(limits[1]), f"no {name}": float(limits[0])}
        found["taken"] |= {name: int((best[kept] == 1).sum()), f"no {name}": int((best[kept] == 0).sum())}
    return found


def filled(target: Target, marks: Marks) -> Target:
    """The target with its pseudo-labels, which stand in holes alone."""
    rows, labels = torch.tensor(marks["rows"], dtype=torch.int64), torch.tensor(marks["labels"], dtype=torch.int64)
    value, mask = target.value.clone(), target.mask.clone()
    if mask.ndim == 2:
        value[rows, labels] = torch.tensor(marks["there"], dtype=value.dtype)
        mask[rows, labels] = True
    else:
        value[rows], mask[rows] = labels, True
    return replace(target, value=value, mask=mask)
