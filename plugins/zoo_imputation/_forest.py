"""Chained random forests: MissForest (Stekhoven and Bühlmann 2012).

A forest is kept as the arrays of its trees, so that a run holds numbers alone. scikit-learn grows the trees; of a
category they are grown on its one-hot numbers together, whose summed variance is the Gini impurity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor

from zoo.specs import CovariateColumns, TrainView
from zoo_imputation._chain import Chain, learn_chain
from zoo_imputation._layout import Arrays, Matrix, learn_layout, load_layout

Places = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Forest:
    """T trees of M nodes in all; a leaf is its own child.

    Attributes:
        roots: int64 (T,).
        feature: int64 (M,), the number of the row that a node looks at.
        threshold: float64 (M,); a row whose number, as float32, is at most this goes left.
        left, right: int64 (M,).
        value: float64 (M, K), mean of the training values in the node.
    """

    roots: Places
    feature: Places
    threshold: Matrix
    left: Places
    right: Places
    value: Matrix

    def predict(self, rows: Matrix) -> Matrix:
        """Mean over the trees, from (N, P) to (N, K)."""
        seen = rows.astype(np.float32)  # as scikit-learn does
        at = np.broadcast_to(self.roots, (len(rows), len(self.roots)))
        each = np.arange(len(rows))[:, None]
        while True:
            goes_left = seen[each, self.feature[at]] <= self.threshold[at]
            below = np.where(goes_left, self.left[at], self.right[at])
            if np.array_equal(below, at):
                found: Matrix = self.value[at].mean(axis=1)
                return found
            at = below


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Forests:
    """Fitted chained forests."""

    chain: Chain[Forest]

    def transform(self, columns: CovariateColumns) -> CovariateColumns:
        """Every hole filled; of a category the one that most votes are for.

        Raises:
            ValueError: other columns than those it was fitted on.
        """
        return self.chain.fill(columns)

    def save(self) -> tuple[Arrays, Mapping[str, Any]]:
        """Arrays and JSON values that `load_forests` takes back."""
        arrays, values = self.chain.layout.save()
        forests = [forest for models in self.chain.rounds for forest in models]
        packed = _pack(forests)
        return {**arrays, "order": self.chain.order, **packed}, {**values, "rounds": len(self.chain.rounds)}


def fit_forests(view: TrainView, *, trees: int, rounds: int, leaf: int, generator: np.random.Generator) -> Forests:
    """Learn from the training rows until the filled values change more than they did in the round before.

    The change is the sum of squares over that of the values, numbers standardised and categories one-hot; the round in
    which it rises is left out.

    Raises:
        ValueError: there are no covariates, or a column has no observed value among the training rows.
    """
    layout, columns = learn_layout(view)
    last = np.inf

    def settled(before: Matrix, after: Matrix) -> bool:
        nonlocal last
        change = float(np.square(after - before).sum() / max(np.square(after).sum(), 1e-300))
        rises, last = change >= last, change
        return rises

    def learn(rows: Matrix, others: Places, values: Matrix) -> Forest:
        grown = RandomForestRegressor(
            n_estimators=trees,
            min_samples_leaf=leaf,
            max_features="sqrt",
            random_state=int(generator.integers(2**31)),
        )
        grown.fit(rows[:, others], values if values.shape[1] > 1 else values[:, 0])
        return _joined([tree.tree_ for tree in grown.estimators_], others)

    return Forests(chain=learn_chain(layout, columns, learn, rounds=rounds, settled=settled, undo=True))


def _joined(trees: Sequence[Any], others: Places) -> Forest:
    """The trees of scikit-learn as one set of nodes, which look at the numbers that `others` names."""
    counts = [tree.node_count for tree in trees]
    roots = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
    inner = np.concatenate([tree.children_left for tree in trees]) >= 0
    own = np.arange(len(inner))
    starts = np.repeat(roots, counts)
    left, right = (np.concatenate([getattr(tree, f"children_{side}") for tree in trees]) for side in ("left", "right"))
    feature = np.concatenate([tree.feature for tree in trees])
    return Forest(
        roots=roots,
        feature=np.where(inner, others[np.where(inner, feature, 0)], 0),
        threshold=np.concatenate([tree.threshold for tree in trees]),
        left=np.where(inner, left + starts, own),
        right=np.where(inner, right + starts, own),
        value=np.concatenate([tree.value[:, :, 0] for tree in trees]),
    )


def _pack(forests: Sequence[Forest]) -> dict[str, NDArray[np.generic]]:
    """The arrays of all forests end to end, and how long each is."""
    sizes = [(len(each.roots), *each.value.shape) for each in forests]
    packed = {"sizes": np.array(sizes, dtype=np.int64).reshape(len(sizes), 3)}
    for name, kind in _PARTS.items():
        parts = [getattr(each, name).astype(kind).reshape(-1) for each in forests]
        packed[name] = np.concatenate([np.empty(0, dtype=kind), *parts])
    return dict(packed)


_PARTS = {
    "roots": np.int32,
    "feature": np.int32,
    "threshold": np.float64,
    "left": np.int32,
    "right": np.int32,
    "value": np.float64,
}
"""Nodes are counted in 32 bits on disk: half the room, and a forest of two billion nodes fits into no memory."""


def _unpack(arrays: Arrays) -> list[Forest]:
    sizes = arrays["sizes"].astype(np.int64)
    trees, nodes, widths = sizes[:, 0], sizes[:, 1], sizes[:, 2]

    def places(name: str, counts: Places) -> list[Places]:
        return np.split(arrays[name].astype(np.int64), np.cumsum(counts)[:-1])

    def numbers(name: str, counts: Places) -> list[Matrix]:
        return np.split(arrays[name].astype(np.float64), np.cumsum(counts)[:-1])

    parts = zip(
        places("roots", trees),
        places("feature", nodes),
        numbers("threshold", nodes),
        places("left", nodes),
        places("right", nodes),
        numbers("value", nodes * widths),
        widths.tolist(),
        strict=False,  # no forest at all splits into one empty part
    )
    return [
        Forest(
            roots=roots, feature=feature, threshold=threshold, left=left, right=right, value=value.reshape(-1, width)
        )
        for roots, feature, threshold, left, right, value, width in parts
    ]


def load_forests(arrays: Arrays, values: Mapping[str, Any]) -> Forests:
    """The inverse of `Forests.save`."""
    layout, forests = load_layout(arrays, values), _unpack(arrays)
    order = arrays["order"].astype(np.int64, copy=False)
    rounds = tuple(tuple(forests[at * len(order) : (at + 1) * len(order)]) for at in range(int(values["rounds"])))
    return Forests(chain=Chain(layout=layout, order=order, rounds=rounds))
