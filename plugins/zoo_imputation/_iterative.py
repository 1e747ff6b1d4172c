"""Chained Bayesian ridge regressions: what scikit-learn's `IterativeImputer` does with its default estimator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from sklearn.linear_model import BayesianRidge

from zoo.specs import CovariateColumns, RowNoise, TrainView
from zoo_imputation._chain import Chain, learn_chain
from zoo_imputation._layout import Arrays, Matrix, learn_layout, load_layout

SWEEPS = 10
"""Rounds of drawing, after one without regard to the rest of the row: each hole given what the others hold by then."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Regression:
    """A linear prediction.

    Attributes:
        weights: float64 (P, K), 0 for numbers that it does not read.
        bias: float64 (K,).
        spread: float64 (K,), deviation of the training values from the prediction.
    """

    weights: Matrix
    bias: Matrix
    spread: Matrix

    def predict(self, rows: Matrix) -> Matrix:
        """From (N, P) to (N, K)."""
        found: Matrix = rows @ self.weights + self.bias
        return found


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Regressions:
    """Fitted chained regressions."""

    chain: Chain[Regression]

    def transform(self, columns: CovariateColumns) -> CovariateColumns:
        """Every hole filled; of a category the one with the largest predicted share.

        Raises:
            ValueError: other columns than those it was fitted on.
        """
        return self.chain.fill(columns)

    def draw(self, columns: CovariateColumns, noise: RowNoise) -> CovariateColumns:
        """Every hole drawn: a number from a normal distribution about its prediction, a category by predicted shares.

        What scikit-learn's `sample_posterior` does, but for how unsure the weights themselves are.
        """
        layout = self.chain.layout

        def drawn(model: Regression, rows: Matrix, index: int, uniform: Matrix) -> Matrix:
            predicted = model.predict(rows)
            if index < len(layout.numeric_names):
                normal: Matrix = ndtri(uniform)[:, None]
                return predicted + model.spread * normal
            shares = np.cumsum(np.maximum(predicted, 0.0) + 1e-9, axis=1)
            chosen: Matrix = np.eye(shares.shape[1])[(uniform[:, None] * shares[:, -1:] < shares).argmax(axis=1)]
            return chosen

        return self.chain.draw(columns, self._sweeps(), drawn, noise)

    def _sweeps(self) -> Sequence[Sequence[Regression]]:
        """From anywhere in each column, or rows of which little is known would all be drawn near the mean; then on."""
        layout, rounds = self.chain.layout, self.chain.rounds
        anywhere = [
            Regression(
                weights=np.zeros((len(layout.start), block.stop - block.start)),
                bias=layout.start[block],
                spread=np.ones(block.stop - block.start),
            )
            for block in (layout.blocks[index] for index in self.chain.order.tolist())
        ]
        return [anywhere, *([rounds[-1]] * SWEEPS if rounds else [])]

    def save(self) -> tuple[Arrays, Mapping[str, Any]]:
        """Arrays and JSON values that `load_regressions` takes back."""
        chain = self.chain
        arrays, values = chain.layout.save()
        size = len(chain.layout.start)
        weights, bias = np.zeros((len(chain.rounds), size, size)), np.zeros((len(chain.rounds), size))
        spread = np.zeros_like(bias)
        for number, models in enumerate(chain.rounds):
            for index, model in zip(chain.order.tolist(), models, strict=True):
                block = chain.layout.blocks[index]
                weights[number][:, block], bias[number][block] = model.weights, model.bias
                spread[number][block] = model.spread
        return {**arrays, "order": chain.order, "weights": weights, "bias": bias, "spread": spread}, values


def fit_regressions(view: TrainView, *, rounds: int, tol: float) -> Regressions:
    """Learn from the training rows until no row's values move by more than `tol` times the largest observed one.

    Raises:
        ValueError: there are no covariates, or a column has no observed value among the training rows.
    """
    layout, columns = learn_layout(view)
    matrix = layout.matrix(columns)
    least = tol * float(np.nanmax(np.abs(matrix), initial=0.0))

    def settled(before: Matrix, after: Matrix) -> bool:
        # scikit-learn's norm is that of a matrix: the largest sum over a row.
        return bool(np.abs(after - before).sum(axis=1).max(initial=0.0) < least)

    return Regressions(chain=learn_chain(layout, columns, _learn, rounds=rounds, settled=settled, undo=False))


def _learn(rows: Matrix, others: NDArray[np.int64], values: Matrix) -> Regression:
    weights, bias = np.zeros((rows.shape[1], values.shape[1])), values.mean(axis=0)
    # What does not vary has no regression but its mean; scikit-learn would divide by its variance.
    for place in np.flatnonzero(np.ptp(values, axis=0) > 0):
        fitted = BayesianRidge().fit(rows[:, others], values[:, place])
        weights[others, place], bias[place] = fitted.coef_, fitted.intercept_
    return Regression(weights=weights, bias=bias, spread=(values - rows @ weights - bias).std(axis=0))


def load_regressions(arrays: Arrays, values: Mapping[str, Any]) -> Regressions:
    """The inverse of `Regressions.save`."""
    layout = load_layout(arrays, values)
    order = arrays["order"].astype(np.int64, copy=False)
    weights, bias = (arrays[name].astype(np.float64, copy=False) for name in ("weights", "bias"))
    # Runs of the first releases have none, and never draw.
    spread = arrays.get("spread", np.zeros_like(bias)).astype(np.float64, copy=False)
    blocks = [layout.blocks[index] for index in order.tolist()]
    rounds = tuple(
        tuple(
            Regression(weights=own[:, block].copy(), bias=beside[block].copy(), spread=around[block].copy())
            for block in blocks
        )
        for own, beside, around in zip(weights, bias, spread, strict=True)
    )
    return Regressions(chain=Chain(layout=layout, order=order, rounds=rounds))
