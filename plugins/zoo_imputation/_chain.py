"""Each column predicted from all others, in turn and over again (chained equations), whatever predicts it.

As scikit-learn's `IterativeImputer`, but by columns of the table: the numbers of one category are learned together and
never from one another, for each is one minus the rest, and would only repeat what stood there at the start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from zoo.specs import CovariateColumns, RowNoise
from zoo_imputation._layout import Layout, Mask, Matrix


class Predictor(Protocol):
    """Predicts the K numbers of one column from all P numbers of a row, of which it reads only the others."""

    def predict(self, rows: Matrix) -> Matrix:
        """From (N, P) to (N, K)."""
        ...


Model = TypeVar("Model", bound=Predictor)
Learn = Callable[[Matrix, NDArray[np.int64], Matrix], Model]
"""`(rows (N, P), the columns to read, values (N, K)) -> predictor`."""

Drawn = Callable[[Model, Matrix, int, Matrix], Matrix]
"""`(predictor, rows (N, P), index of the column, numbers (N,) uniform in (0, 1)) -> values (N, K)`."""

Settled = Callable[[Matrix, Matrix], bool]
"""`(matrix before a round, matrix after it)`: whether that was the last one."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Chain(Generic[Model]):
    """What was learned in each round.

    Attributes:
        layout: how columns become numbers.
        order: int64 (V,), the order in which columns are filled: those with fewest holes in training first.
        rounds: of each round the predictor of each column, in that order.
    """

    layout: Layout
    order: NDArray[np.int64]
    rounds: tuple[tuple[Model, ...], ...]

    def fill(self, columns: CovariateColumns) -> CovariateColumns:
        """Every hole filled by going through the rounds as they were learned; each row for itself.

        Raises:
            ValueError: other columns than those it was fitted on.
        """
        matrix, holes = self.layout.matrix(columns), self.layout.holes(columns)
        found = np.where(np.isnan(matrix), self.layout.start, matrix)
        for models in self.rounds:
            for index, model in zip(self.order.tolist(), models, strict=True):
                _fill_column(found, holes[:, index], self.layout.blocks[index], model)
        return self.layout.filled(columns, found)

    def draw(
        self, columns: CovariateColumns, rounds: Sequence[Sequence[Model]], drawn: Drawn[Model], noise: RowNoise
    ) -> CovariateColumns:
        """Every hole drawn, given what stands in the others of its row, in turn and over again (Gibbs sampling).

        Each of `rounds` has a predictor of each column, in order; holes hold their column's mean before.
        """
        matrix, holes = self.layout.matrix(columns), self.layout.holes(columns)
        found = np.where(np.isnan(matrix), self.layout.start, matrix)
        for models in rounds:
            uniform = noise(len(self.order))
            for index, model in zip(self.order.tolist(), models, strict=True):
                lacking, block = holes[:, index], self.layout.blocks[index]
                if lacking.any():
                    found[lacking, block] = drawn(model, found[lacking], index, uniform[lacking, index])
        return self.layout.filled(columns, found)


def _fill_column(found: Matrix, lacking: Mask, block: slice, model: Predictor) -> None:
    if lacking.any():
        found[lacking, block] = model.predict(found[lacking])


def learn_chain(
    layout: Layout, columns: CovariateColumns, learn: Learn[Model], *, rounds: int, settled: Settled, undo: bool
) -> Chain[Model]:
    """Learn up to `rounds` rounds; begins with every hole filled by its column's mean.

    Args:
        layout: of the training rows.
        columns: the training rows.
        learn: fits the predictor of one column.
        rounds: at most so many.
        settled: asked after each round.
        undo: whether the round after which `settled` says so is left out.
    """
    matrix, holes = layout.matrix(columns), layout.holes(columns)
    order = np.argsort(holes.sum(axis=0), kind="stable")
    found = np.where(np.isnan(matrix), layout.start, matrix)
    learned: list[tuple[Model, ...]] = []
    # Of a single column there is nothing to learn it from.
    for _ in range(rounds if len(layout.blocks) > 1 else 0):
        before = found.copy()
        learned.append(tuple(_round(layout, found, holes, order, learn)))
        if settled(before, found):
            if undo:
                learned.pop()
            break
    return Chain(layout=layout, order=order, rounds=tuple(learned))


def _round(
    layout: Layout, found: Matrix, holes: Mask, order: NDArray[np.int64], learn: Learn[Model]
) -> Sequence[Model]:
    models = []
    every = np.arange(found.shape[1])
    for index in order.tolist():
        block, lacking = layout.blocks[index], holes[:, index]
        others = np.delete(every, block)
        model = learn(found[~lacking], others, found[~lacking, block])
        _fill_column(found, lacking, block, model)
        models.append(model)
    return models
