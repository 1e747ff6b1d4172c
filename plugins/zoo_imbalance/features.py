"""Rows made of features that stand still: SMOTE and ADASYN, by imbalanced-learn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

from zoo.specs import ClassStatistics, Plan


@dataclass(frozen=True, kw_only=True, slots=True)
class Oversample:
    """Parameters of `smote` and `adasyn`.

    Attributes:
        k: neighbours of the same class (for `adasyn` of any class, too) that rows are made between.
        ratio: each class is filled up to this share of the most frequent one, in (0, 1].
    """

    k: int = 5
    ratio: float = 1.0

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k must be at least 1, not {self.k}")
        if not 0.0 < self.ratio <= 1.0:
            raise ValueError(f"ratio must lie in (0, 1], not {self.ratio}")


def oversample_plan(kind: Literal["smote", "adasyn"], statistics: ClassStatistics, parameters: Oversample) -> Plan:
    """Rows between neighbours of a class, in the space of standardised features.

    SMOTE: Chawla et al. 2002; ADASYN (He et al. 2008) makes more of them where other classes are near.

    Raises:
        ValueError: a class that has to grow has no `k` neighbours.
    """
    from zoo_imbalance._features import oversampled

    wanted = tuple(max(count, int(parameters.ratio * max(statistics.counts))) for count in statistics.counts)
    for name, count, goal in zip(statistics.task.classes, statistics.counts, wanted, strict=True):
        if count < goal and count <= parameters.k:
            raise ValueError(
                f"class {name} has {count} training rows, and k={parameters.k} neighbours need {parameters.k + 1}; "
                f"{f'say k={count - 1}' if count > 1 else 'one row has no neighbour: join the class to another'}"
            )
    shift = tuple(math.log(goal / count) for goal, count in zip(wanted, statistics.counts, strict=True))
    return Plan(strategy=kind, resamplers=(partial(oversampled, kind, parameters.k, wanted),), shift=shift)
