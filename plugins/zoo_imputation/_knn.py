"""The k nearest training rows fill a hole (Troyanskaya et al. 2001), as scikit-learn's `KNNImputer` does.

Written out rather than delegated: scikit-learn gets distances from one matrix product, whose rounding depends on the
rows that pass together, so that a tie between donors could be decided otherwise for a row alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.specs import CovariateColumns, RowNoise, TrainView
from zoo_imputation._layout import Arrays, Layout, Mask, Matrix, learn_layout, load_layout

_ROWS = 256
"""Rows whose distances to all donors are held at once."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Neighbours:
    """Training rows as donors.

    Attributes:
        layout: how columns become numbers; standardised, so that no column drowns another.
        donors: float64 (M, P), the training rows, NaN at their holes.
        k: number of donors; they give their mean, and of categories what most of them have.
        by_distance: whether donors count by the inverse of their distance.
    """

    layout: Layout
    donors: Matrix
    k: int
    by_distance: bool

    def transform(self, columns: CovariateColumns) -> CovariateColumns:
        """Every hole filled by the k nearest donors that know the column; by its mean where none shares a value.

        Raises:
            ValueError: other columns than those it was fitted on.
        """
        return self._filled(columns, None)

    def draw(self, columns: CovariateColumns, noise: RowNoise) -> CovariateColumns:
        """Every hole filled by one of its k donors, drawn by their weights (hot-deck); by any where none is near.

        A row's holes are filled by donors of the same rank, by one training row where all of them know the columns, so
        that what belongs together stays together.
        """
        return self._filled(columns, noise(1)[:, 0])

    def _filled(self, columns: CovariateColumns, uniform: Matrix | None) -> CovariateColumns:
        """With means of donors, or with the donors to which numbers (N,) in (0, 1) point."""
        matrix, holes = self.layout.matrix(columns), self.layout.holes(columns)
        found = matrix.copy()
        for rows in np.array_split(np.flatnonzero(holes.any(axis=1)), max(1, len(matrix) // _ROWS)):
            distances = squared_distances(matrix[rows], self.donors)
            for index, block in enumerate(self.layout.blocks):
                lacking = holes[rows, index]
                if lacking.any():
                    at = rows[lacking]
                    drawn = None if uniform is None else uniform[at]
                    found[at, block] = self._values(distances[lacking], block, drawn)
        return self.layout.filled(columns, found)

    def _values(self, distances: Matrix, block: slice, uniform: Matrix | None) -> Matrix:
        """Of (N, M) squared distances: the donors' mean of one column, or one donor's value, (N, K)."""
        knows = ~np.isnan(self.donors[:, block.start])
        near, values = distances[:, knows], self.donors[knows][:, block]
        # Stable: of donors at the same distance the first count, whatever else is in the table.
        chosen = np.argsort(near, axis=1, kind="stable")[:, : self.k]
        weights = _weights(np.sqrt(np.take_along_axis(near, chosen, axis=1)), self.by_distance)
        total = weights.sum(axis=1, keepdims=True)
        if uniform is not None:
            reached = uniform[:, None] * total < np.cumsum(weights, axis=1)
            ranks = np.where(reached.any(axis=1), reached.argmax(axis=1), 0)
            anybody = (uniform * len(values)).astype(np.int64)
            one = np.take_along_axis(chosen, ranks[:, None], axis=1)[:, 0]
            return values[np.where(total[:, 0] > 0, one, anybody)]
        mean = (weights[:, :, None] * values[chosen]).sum(axis=1) / np.where(total > 0, total, 1.0)
        return np.where(total > 0, mean, self.layout.start[block])

    def save(self) -> tuple[Arrays, Mapping[str, Any]]:
        """Arrays and JSON values that `load_neighbours` takes back."""
        arrays, values = self.layout.save()
        return {**arrays, "donors": self.donors}, {**values, "k": self.k, "by_distance": self.by_distance}


def _weights(distances: Matrix, by_distance: bool) -> Matrix:
    """Of each donor, 0 where it shares no value with the row; equal rows take all the weight."""
    near = np.isfinite(distances)
    if not by_distance:
        return near.astype(np.float64)
    same = distances == 0
    inverse = np.where(near, 1.0 / np.where(same, 1.0, distances), 0.0)
    return np.where(same.any(axis=1, keepdims=True), same.astype(np.float64), inverse)


def squared_distances(rows: Matrix, donors: Matrix) -> Matrix:
    """Squared Euclidean distances (N, M) over the numbers that both know, scaled up to all P; infinite where none is.

    The same number for a row alone and among others: columns are added one after the other.
    """
    total, shared = np.zeros((len(rows), len(donors))), np.zeros((len(rows), len(donors)))
    for column in range(rows.shape[1]):
        gap = rows[:, column, None] - donors[None, :, column]
        known: Mask = ~np.isnan(gap)
        total += np.where(known, gap, 0.0) ** 2
        shared += known
    return np.where(shared > 0, total * rows.shape[1] / np.maximum(shared, 1), np.inf)


def fit_neighbours(view: TrainView, *, k: int, by_distance: bool) -> Neighbours:
    """Keep the training rows as donors.

    Raises:
        ValueError: there are no covariates, or a column has no observed value among the training rows.
    """
    layout, columns = learn_layout(view)
    return Neighbours(layout=layout, donors=layout.matrix(columns), k=k, by_distance=by_distance)


def load_neighbours(arrays: Arrays, values: Mapping[str, Any]) -> Neighbours:
    """The inverse of `Neighbours.save`."""
    return Neighbours(
        layout=load_layout(arrays, values),
        donors=arrays["donors"].astype(np.float64, copy=False),
        k=int(values["k"]),
        by_distance=bool(values["by_distance"]),
    )
