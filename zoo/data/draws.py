"""Draws of held-out rows: stratified by class, groups kept whole, every class on both sides."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedShuffleSplit

from zoo.errors import DataError

Rows = NDArray[np.int64]
_FOLDS = 10  # each costs time for every group; tenths are near enough to any share
_SHUFFLES = 5


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Strata:
    """What a draw has to respect, for all N rows of a table.

    Attributes:
        target: the column that the classes come from.
        names: of the classes.
        codes: int64 (N,), index of each row's class, -1 where it has none.
        group: the column that the groups come from, or None.
        groups: int64 (N,), number of each row's group, or None.
        hint: ends the message about classes that have too few rows.
        cells: int64 (N,), a finer division of the classes to keep in proportion where no groups are kept whole, or
            None; see `fine_cells`.
    """

    target: str
    names: tuple[str, ...]
    codes: Rows
    group: str | None = None
    groups: Rows | None = None
    cells: Rows | None = None
    hint: str = ""


def fine_cells(codes: Rows, values: Rows) -> Rows:
    """Cells of class and value, int64 (N,); a cell of fewer than four rows joins the largest of its class."""
    pairs, cells, counts = np.unique(np.stack([codes, values]), axis=1, return_inverse=True, return_counts=True)
    cells = cells.reshape(-1)
    for cell in np.flatnonzero(counts < 4):
        siblings = np.flatnonzero(pairs[0] == pairs[0][cell])
        cells[cells == cell] = siblings[np.argmax(counts[siblings])]
    return np.asarray(cells, dtype=np.int64)


def too_few(rows: Rows, strata: Strata, later: int) -> Rows:
    """Those of `rows` whose class has too few of them, or of groups, for `later` splits and training.

    Groups stay whole: what shares one with such a row comes with it.
    """
    left = rows
    while True:
        counts = _counts(left, strata)
        few = left[np.isin(strata.codes[left], np.flatnonzero((counts > 0) & (counts < later + 1)))]
        if not len(few):
            return np.setdiff1d(rows, left)
        gone = few if strata.groups is None else left[np.isin(strata.groups[left], strata.groups[few])]
        left = np.setdiff1d(left, gone)


def draw(rows: Rows, strata: Strata, part: str, share: float, later: int, seed: int) -> tuple[Rows, Rows]:
    """Divide `rows` into those that stay and the split `part`, about `share` of them.

    Args:
        rows: positions to divide.
        strata: classes and groups.
        part: name of the split, for errors.
        share: of the rows, in (0, 1).
        later: how many splits are still to be drawn, this one included; every class needs a row, or a group, for each
            of them and one for training.
        seed: the same seed gives the same rows.

    Raises:
        DataError: a class has too few rows or groups to stand on both sides.
    """
    _check_enough(rows, strata, later)
    if strata.groups is not None:
        return _draw_groups(rows, strata, strata.groups[rows], part, share, later, seed)
    rng = np.random.default_rng(seed)
    known, blank = rows[strata.codes[rows] >= 0], rows[strata.codes[rows] < 0]
    stay, held = _draw_stratified(known, strata, share, later, seed)
    blank = rng.permutation(blank)
    cut = round(len(blank) * share)
    return np.concatenate([stay, blank[cut:]]), np.concatenate([held, blank[:cut]])


def _counts(rows: Rows, strata: Strata) -> Rows:
    """Rows of each class, or groups where there are groups; int64 (K,)."""
    rows = rows[strata.codes[rows] >= 0]
    codes = strata.codes[rows]
    if strata.groups is not None:
        codes = np.unique(np.stack([codes, strata.groups[rows]]), axis=1)[0]
    return np.bincount(codes, minlength=len(strata.names))


def _check_enough(rows: Rows, strata: Strata, later: int) -> None:
    needed = later + 1
    unit = "rows" if strata.group is None else f"groups of {strata.group!r}"
    counts = {name: count for name, count in zip(strata.names, _counts(rows, strata).tolist(), strict=True) if count}
    few = {name: count for name, count in counts.items() if count < needed}
    if few or not counts:
        shown = [f"{name!r} has {count}" for name, count in list(few.items())[:5]]
        shown += [f"and {len(few) - 5} more classes are as small"] if len(few) > 5 else []
        listed = ", ".join(shown) or "no row has a label"
        raise DataError(
            f"too few {unit} to split by {strata.target!r}: {listed}; each class needs {needed}, one in each of "
            f"{needed} splits. Add rows, take the class out, or give a split column of your own{strata.hint}"
        )


def _draw_stratified(rows: Rows, strata: Strata, share: float, later: int, seed: int) -> tuple[Rows, Rows]:
    codes = strata.codes[rows]
    classes = len(np.unique(codes))
    size = min(max(int(np.ceil(share * len(rows))), classes), len(rows) - classes * later)
    cells = codes if strata.cells is None else strata.cells[rows]
    counts = np.unique(cells, return_counts=True)[1]
    if counts.min() < 2 or len(counts) > min(size, len(rows) - size):
        cells = codes  # too few rows for the finer cells; the classes come first
    splitter = StratifiedShuffleSplit(n_splits=1, test_size=size, random_state=seed)
    stay, held = next(iter(splitter.split(rows, cells)))
    stay, held = _evened_out(codes, stay, held, later)
    return rows[stay], rows[held]


def _evened_out(codes: Rows, stay: Rows, held: Rows, later: int) -> tuple[Rows, Rows]:
    """Move rows of rare classes, so that each has one row held and `later` rows left; proportions alone may give 0."""
    left, gone = (np.bincount(codes[side], minlength=codes.max() + 1) for side in (stay, held))
    out = [stay[codes[stay] == code][:1] for code in np.flatnonzero((gone == 0) & (left > 0))]
    back = [held[codes[held] == code][: later - left[code]] for code in np.flatnonzero((left < later) & (gone > 0))]
    moved_out, moved_back = (np.concatenate([np.empty(0, dtype=np.int64), *moved]) for moved in (out, back))
    stay = np.concatenate([np.setdiff1d(stay, moved_out), moved_back])
    held = np.concatenate([np.setdiff1d(held, moved_back), moved_out])
    return stay, held


def _draw_groups(
    rows: Rows, strata: Strata, groups: Rows, part: str, share: float, later: int, seed: int
) -> tuple[Rows, Rows]:
    """The division by whole groups that comes closest to `share` of every class."""
    for shuffle in range(_SHUFFLES):
        found = [
            held
            for held in _group_candidates(strata.codes[rows], groups, share, seed + 1000 * shuffle)
            if _each_class_stands(rows[~held], rows[held], strata, later)
        ]
        if found:
            best = min(found, key=lambda held: _distance(rows, rows[held], strata, share))
            return rows[~best], rows[best]
    raise DataError(
        f"no {part} split of about {share:.0%} was found that keeps the groups of {strata.group!r} whole and every "
        f"class of {strata.target!r} on both sides; give a split column of your own, or take rare classes out"
    )


def _group_candidates(codes: Rows, groups: Rows, share: float, seed: int) -> Iterator[NDArray[np.bool_]]:
    """Masks of rows to hold out: unions of as many folds as make up the share."""
    most = min(_FOLDS, len(np.unique(groups)), int(np.unique(codes, return_counts=True)[1].max()))
    part = max(Fraction(share).limit_denominator(most), Fraction(1, most))
    folds, take = (part.denominator, part.numerator) if part < 1 else (most, most - 1)
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    fold_of = np.empty(len(codes), dtype=np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class rarer than the folds; checked on the result
        for fold, (_, inside) in enumerate(splitter.split(codes, codes, groups)):
            fold_of[inside] = fold
    for first in range(folds):
        yield (fold_of - first) % folds < take


def _each_class_stands(stay: Rows, held: Rows, strata: Strata, later: int) -> bool:
    left, gone = _counts(stay, strata), _counts(held, strata)
    present = left + gone > 0
    return bool((gone[present] >= 1).all() and (left[present] >= later).all())


def _distance(rows: Rows, held: Rows, strata: Strata, share: float) -> float:
    """Mean gap between the share asked for and the held share of each class (-1, no class, is one of them)."""
    whole = np.bincount(strata.codes[rows] + 1, minlength=len(strata.names) + 1)
    part = np.bincount(strata.codes[held] + 1, minlength=len(strata.names) + 1)
    there = whole > 0
    return float(np.abs(part[there] / whole[there] - share).mean() + abs(len(held) / len(rows) - share))
