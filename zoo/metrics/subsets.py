"""How many rows of a class a linear classifier needs to find it: nested subsets, in several random orders."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import DataError

LEAST = 5
"""Rows of a class in the smallest subset."""

SPAN = 32
"""The smallest subset is this part of all rows where that is more: a factor of two between six sizes."""

MIN_ROWS = 20
"""Training rows without which a class has no curve: five sizes would lie too close together."""

MIN_VAL = 5
"""Validation rows without which the recall of a class is a matter of luck."""

MIN_SIZES, MIN_ORDERS = 5, 3

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """What the validation rows say about one class.

    Attributes:
        sizes: rows of the class in training, rising.
        found: bool (sizes, orders, validation rows of the class), whether each is found.
        others: (sizes, orders), the mean recall of the other classes.
    """

    sizes: tuple[int, ...]
    found: NDArray[np.bool_]
    others: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Subset:
    """Training rows, in which order they were drawn (None for all orders), and by class the place of its size."""

    rows: Ints
    order: int | None
    places: Mapping[int, int]


def linear_classifier(width: int, *, balanced: bool = False) -> Any:
    """Logistic regression of standardised features, as strong a prior as `zoo train` puts on a linear head.

    Its L2 penalty on the mean loss is width / (4 x rows); scikit-learn divides by C x rows. Balanced, all classes weigh
    the same: a class is then not missed for being rare, and its curve shows what the features know of it.
    """
    from sklearn.linear_model import LogisticRegression

    weight = "balanced" if balanced else None
    return LogisticRegression(C=4 / width, max_iter=200, tol=1e-3, class_weight=weight)


def fit_quietly(model: Any, features: Floats, codes: Ints) -> Any:
    """Fit; that a solver stopped a little before its minimum is no news to anybody."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(features, codes)


def too_few(train: Ints, val: Ints, classes: Sequence[str]) -> dict[int, str]:
    """Classes without a curve, by code, and why.

    Args:
        train: codes of the training rows.
        val: of the validation rows.
        classes: their names.

    Raises:
        DataError: no class has enough rows.
    """
    refused = {}
    for code, name in enumerate(classes):
        rows, held = int((train == code).sum()), int((val == code).sum())
        if rows < MIN_ROWS:
            refused[code] = f"{name} has {rows} training rows, and a curve needs {MIN_ROWS}"
        elif held < MIN_VAL:
            refused[code] = f"{name} has {held} validation rows, and its recall needs {MIN_VAL}"
    if len(refused) == len(classes):
        raise DataError(
            f"no class has enough rows for a learning curve: {'; '.join(refused.values())}. Label more images, or "
            "choose other shares with --val-fraction and --test-fraction"
        )
    return refused


def sizes_of(rows: int, count: int = 6) -> tuple[int, ...]:
    """Rising sizes of subsets of a class, the last of them all `rows`, each about the same factor above the last."""
    found = np.geomspace(max(LEAST, rows / SPAN), rows, count).round().astype(int)
    return tuple(dict.fromkeys(int(size) for size in found))


def measure(
    train: tuple[Floats, Ints],
    val: tuple[Floats, Ints],
    judged: Sequence[int],
    *,
    sizes: int = 6,
    orders: int = 5,
    seed: int = 0,
    alone: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> dict[int, Measured]:
    """Fit a linear classifier on each subset and see which of the fixed validation rows it finds.

    Args:
        train: features (N, D) and codes (N,) of the training rows.
        val: of the validation rows.
        judged: codes of the classes that get a curve.
        sizes: of subsets, at least 5.
        orders: random orders in which rows join the subsets, at least 3.
        seed: of the orders.
        alone: each class has fewer rows while the others keep all of theirs, as many series of fits as classes; else
            all have fewer at once, one series for all.
        progress: called with fits done and fits to do.
    """
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train[0])
    ready, held = scaler.transform(train[0]), scaler.transform(val[0])
    steps = _steps(train[1], judged, sizes, alone=alone)
    found = {code: _empty(steps[code], orders, int((val[1] == code).sum())) for code in judged}
    subsets = list(_alone(train[1], steps, orders, seed) if alone else _together(train[1], steps, orders, seed))
    for number, subset in enumerate(subsets, 1):
        model = fit_quietly(linear_classifier(ready.shape[1], balanced=True), ready[subset.rows], train[1][subset.rows])
        _note(found, subset, model.predict(held), val[1])
        if progress:
            progress(number, len(subsets))
    return found


def _steps(codes: Ints, judged: Sequence[int], count: int, *, alone: bool) -> dict[int, tuple[int, ...]]:
    """By class the rows in each subset; where all shrink together, of every class, as many steps for each."""
    counts = np.bincount(codes)
    if alone:
        return {code: sizes_of(int(counts[code]), count) for code in judged}
    # In the smallest subset every class that is judged has enough rows; the proportions stay.
    shares = np.geomspace(max(1 / SPAN, LEAST / counts[list(judged)].min()), 1, count)
    own = {code: np.maximum(min(LEAST, rows), (shares * rows).round()) for code, rows in enumerate(counts)}
    return {code: tuple(int(size) for size in sizes) for code, sizes in own.items()}


def _empty(sizes: tuple[int, ...], orders: int, rows: int) -> Measured:
    distinct = tuple(dict.fromkeys(sizes))
    shape = (len(distinct), orders)
    return Measured(sizes=distinct, found=np.zeros((*shape, rows), dtype=bool), others=np.zeros(shape))


def _order(codes: Ints, code: int, seed: int, order: int) -> Ints:
    """The rows of a class in the order in which they join."""
    return np.random.default_rng([seed, order, code]).permutation(np.flatnonzero(codes == code))


def _alone(codes: Ints, steps: Mapping[int, tuple[int, ...]], orders: int, seed: int) -> Iterator[_Subset]:
    for code, sizes in steps.items():
        rest = np.flatnonzero(codes != code)
        for order in range(orders):
            own = _order(codes, code, seed, order)
            for place, size in enumerate(sizes[:-1]):
                yield _Subset(rows=np.concatenate([rest, own[:size]]), order=order, places={code: place})
    last = {code: len(sizes) - 1 for code, sizes in steps.items()}
    yield _Subset(rows=np.arange(len(codes)), order=None, places=last)


def _together(codes: Ints, steps: Mapping[int, tuple[int, ...]], orders: int, seed: int) -> Iterator[_Subset]:
    distinct = {code: tuple(dict.fromkeys(sizes)) for code, sizes in steps.items()}
    count = len(next(iter(steps.values())))
    for step in range(count):
        places = {code: distinct[code].index(sizes[step]) for code, sizes in steps.items()}
        for order in range(orders if step < count - 1 else 1):
            parts = [_order(codes, code, seed, order)[: sizes[step]] for code, sizes in steps.items()]
            yield _Subset(rows=np.concatenate(parts), order=order if step < count - 1 else None, places=places)


def _note(found: Mapping[int, Measured], subset: _Subset, predicted: Ints, truth: Ints) -> None:
    present = np.unique(truth)
    recalls = {int(code): float((predicted[truth == code] == code).mean()) for code in present}
    for code, place in subset.places.items():
        if code in found:
            orders = slice(None) if subset.order is None else subset.order
            others = [recall for other, recall in recalls.items() if other != code]
            found[code].found[place, orders] = predicted[truth == code] == code
            found[code].others[place, orders] = np.mean(others) if others else np.nan
