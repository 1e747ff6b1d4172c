"""What strategies and imputers may learn from: the training rows, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.specs.images import TrainImages
from zoo.specs.tasks import Task

if TYPE_CHECKING:
    from numpy import float64, int64
    from numpy.typing import NDArray

# Only the splitter holds this; see `TrainView`.
SPLITTERS_SEAL = object()


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassStatistics:
    """How often each class of a task was observed among the training rows.

    Attributes:
        task: without classes, as in regression, there are no counts either.
        counts: rows of each class; of a multilabel task those that have the label.
        known: of a multilabel task, rows that say whether they have the label; by default all that have one.
    """

    task: Task
    counts: tuple[int, ...]
    known: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.task.classes and not self.counts:
            return
        if len(self.counts) != len(self.task.classes):
            raise ValueError(f"{len(self.counts)} counts for the {len(self.task.classes)} classes of {self.task.name}")
        if min(self.counts, default=0) < 1:
            empty = [name for name, count in zip(self.task.classes, self.counts, strict=True) if count < 1]
            raise ValueError(f"{self.task.name}: no training row of class {', '.join(empty) or '(none at all)'}")

    @property
    def log_prior(self) -> tuple[float, ...]:
        """Natural logarithm of each class's share of the training rows; of a multilabel task, of all labels there."""
        total = sum(self.counts)
        return tuple(math.log(count / total) for count in self.counts)

    @property
    def absent(self) -> tuple[int, ...]:
        """Of a multilabel task, rows that are known to lack each label, at least 1."""
        known = self.known or (sum(self.counts),) * len(self.counts)
        return tuple(max(1, rows - count) for rows, count in zip(known, self.counts, strict=True))

    @property
    def imbalance(self) -> tuple[float, ...]:
        """What strategies correct: the log prior less its mean; of a multilabel task the log odds of each label."""
        if self.task.kind == "multilabel":
            return tuple(math.log(count / rows) for count, rows in zip(self.counts, self.absent, strict=True))
        mean = math.fsum(self.log_prior) / max(1, len(self.counts))
        return tuple(value - mean for value in self.log_prior)


@dataclass(frozen=True, kw_only=True, slots=True)
class CovariateColumns:
    """Covariates of N rows in raw units, numeric and categorical apart.

    Attributes:
        numeric_names: names of the D numeric columns.
        numeric: float64 (N, D), NaN at holes.
        categorical_names: names of the E categorical columns.
        categorical: int64 (N, E), codes into `categories`, -1 at holes.
        categories: the categories of each categorical column, fixed from the training rows.
    """

    numeric_names: tuple[str, ...]
    numeric: NDArray[float64]
    categorical_names: tuple[str, ...]
    categorical: NDArray[int64]
    categories: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.numeric)


class TrainView:
    """The training rows of one split, the only thing that a strategy or an imputer is fitted on.

    Only `zoo.data.splits` makes one, after the split; so statistics over validation or test rows cannot be expressed.

    Attributes:
        rows: int64 (N,), positions of the training rows in the table.
        covariates: their covariates in raw units, holes included, or None.
        images: their images in raw units, holes included, or None where nobody asked for them.
    """

    __slots__ = ("_statistics", "covariates", "images", "rows")

    def __init__(
        self,
        seal: object,
        *,
        rows: NDArray[int64],
        statistics: Mapping[str, ClassStatistics],
        covariates: CovariateColumns | None,
        images: TrainImages | None = None,
    ) -> None:
        if seal is not SPLITTERS_SEAL:
            raise TypeError("a TrainView is made by zoo.data.splits alone, so that nothing learns from held-out rows")
        self.rows = rows
        self.covariates = covariates
        self.images = images
        self._statistics: dict[str, ClassStatistics] = dict(statistics)

    def __len__(self) -> int:
        return len(self.rows)

    def __reduce__(self) -> Any:
        raise TypeError("a TrainView is not copied between processes; split again with the same seed")

    def statistics(self, target: str) -> ClassStatistics:
        """Class counts of `target` over the training rows whose label is known."""
        return self._statistics[target]
