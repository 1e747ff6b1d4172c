"""Oversampling of features by imbalanced-learn, tensors in and out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.errors import ZooError
from zoo.specs import Target


def seed_of(generator: torch.Generator) -> int:
    """A seed for what takes numbers instead of generators."""
    return int(torch.randint(2**31 - 1, (), generator=generator))


def oversampled(
    kind: str,
    k: int,
    wanted: tuple[int, ...],
    features: Tensor,
    target: Target,
    generator: torch.Generator,
    one_hot: Sequence[tuple[int, int]] = (),
) -> tuple[Tensor, Target]:
    """The rows given, and behind them those made: features float32 (M, D) and hard labels.

    Raises:
        ZooError: ADASYN finds no row of another class near a class that has to grow; ADASYN with categories.
    """
    if kind == "adasyn" and one_hot:
        raise ZooError("adasyn cannot make rows of covariates that are categories; use smote, or leave them out")
    counts = np.bincount(target.value.numpy(), minlength=len(wanted))
    goals = {index: max(goal, int(counts[index])) for index, goal in enumerate(wanted) if counts[index]}
    if all(goal == counts[index] for index, goal in goals.items()):
        return features, target
    rows, names = _folded(features.numpy(), one_hot)
    labels = target.value.numpy()
    try:
        if kind == "adasyn":
            made, labels = _adaptive(k, goals, rows, labels, seed_of(generator))
        else:
            made, labels = _smote(k, goals, names, seed_of(generator)).fit_resample(rows, labels)
    except (RuntimeError, ValueError) as error:
        raise ZooError(f"{kind} cannot make rows of these features: {str(error).splitlines()[0]}") from None
    found = _unfolded(np.asarray(made, dtype=np.float64), features.shape[1], one_hot)
    value = torch.from_numpy(np.asarray(labels, dtype=np.int64))
    return torch.from_numpy(found.astype(np.float32)), extended(target, value)


def _adaptive(
    k: int, goals: dict[int, int], rows: NDArray[Any], labels: NDArray[Any], seed: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """ADASYN of each class in turn; one that rounding leaves without a new row stays as it is."""
    from imblearn.over_sampling import ADASYN

    made, own = [rows], [labels]
    for index, goal in goals.items():
        if goal == int((labels == index).sum()):
            continue
        try:
            more, _ = ADASYN(sampling_strategy={index: goal}, n_neighbors=k, random_state=seed).fit_resample(
                rows, labels
            )
        except ValueError as error:
            if "No samples will be generated" not in str(error):
                raise
            continue
        made.append(more[len(rows) :])
        own.append(np.full(len(more) - len(rows), index))
    return np.concatenate(made), np.concatenate(own)


def _smote(k: int, goals: dict[int, int], names: list[int], seed: int) -> Any:
    from imblearn.over_sampling import SMOTE, SMOTENC

    if names:
        return SMOTENC(names, sampling_strategy=goals, k_neighbors=k, random_state=seed)
    return SMOTE(sampling_strategy=goals, k_neighbors=k, random_state=seed)


def _folded(rows: NDArray[Any], one_hot: Sequence[tuple[int, int]]) -> tuple[NDArray[Any], list[int]]:
    """Rows with one column of codes for each category behind the numbers, and where those columns are."""
    if not one_hot:
        return rows, []
    hot = {column for first, end in one_hot for column in range(first, end)}
    numbers = rows[:, [column for column in range(rows.shape[1]) if column not in hot]]
    codes = np.stack([_codes(rows[:, first:end]) for first, end in one_hot], axis=1)
    width = numbers.shape[1]
    return np.concatenate([numbers, codes], axis=1), list(range(width, width + len(one_hot)))


def _codes(hot: NDArray[Any]) -> NDArray[Any]:
    """Which of the columns is 1; of a column alone whether it is."""
    return hot.argmax(axis=1) if hot.shape[1] > 1 else (hot[:, 0] > 0.5).astype(np.int64)


def _unfolded(made: NDArray[Any], width: int, one_hot: Sequence[tuple[int, int]]) -> NDArray[Any]:
    if not one_hot:
        return made
    hot = {column for first, end in one_hot for column in range(first, end)}
    plain = [column for column in range(width) if column not in hot]
    found = np.zeros((len(made), width))
    found[:, plain] = made[:, : len(plain)]
    for place, (first, end) in enumerate(one_hot, len(plain)):
        codes = made[:, place].astype(int)
        if end - first == 1:
            found[:, first] = codes
        else:
            found[np.arange(len(made)), first + codes] = 1.0
    return found


def extended(target: Target, value: Tensor) -> Target:
    """Labels of all rows; a row that was made weighs as much as its class in the mean."""
    weight = None
    if target.weight is not None:
        more = value[len(target) :]
        means = torch.stack([target.weight[target.value == index].mean() for index in more.tolist()])
        weight = torch.cat([target.weight, means])
    return Target(value=value, mask=torch.ones(len(value), dtype=torch.bool), weight=weight)
