"""Targets that are numbers: cells read, and divided into ranges where rows are counted or drawn by them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from zoo.errors import DataError

LARGEST = 1e30
"""Beyond it squares overflow in float32."""

RANGES, ROWS_OF_A_RANGE = 10, 10
"""At most so many ranges, and at least so many rows in each."""

MANY = 10
"""Classes that are numbers, beyond which a message asks whether they are meant to be classes."""

_DECIMAL = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")


def read_numbers(column: pl.Series, target: str) -> NDArray[np.float64]:
    """The numbers of a column, float64 (N,), NaN at holes.

    Raises:
        DataError: a cell that is no number, or too large a one.
    """
    if column.dtype == pl.Boolean or column.dtype.is_nested() or column.dtype.is_temporal():
        raise DataError(f"target {target!r} is to be a number, and its column is of type {column.dtype}")
    found = [_number(cell) for cell in column.to_list()]
    bad = [row for row, value in enumerate(found) if value is None]
    if bad:
        raise DataError(
            f"target {target!r} is to be a number, and {len(bad)} rows hold none, the first is row {bad[0]} with "
            f"{column[bad[0]]!r}; leave such cells empty, or say --task {target}=classification"
        )
    numbers = np.array(found, dtype=np.float64)
    large = np.flatnonzero(~(np.abs(numbers) <= LARGEST) & ~np.isnan(numbers))
    if large.size:
        row = int(large[0])
        raise DataError(f"target {target!r}: row {row} holds {column[row]!r}, beyond the largest number ({LARGEST:g})")
    return numbers


def _number(cell: Any) -> float | None:
    """A cell as a number, NaN where it is a hole; None where it is no number."""
    if cell is None:
        return float("nan")
    if isinstance(cell, str) and _DECIMAL.fullmatch(cell) is None and cell.strip().lower() not in ("inf", "-inf"):
        return None
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None


def are_numbers(names: Sequence[str]) -> bool:
    """Whether every name is a decimal number."""
    return all(_DECIMAL.fullmatch(name) for name in names)


def measured_hint(target: str, names: Sequence[str]) -> str:
    """What ends a message about classes that are so many numbers that they may be no classes; else nothing."""
    return f". If they are measured, say --task {target}=regression" if len(names) > MANY and are_numbers(names) else ""


def are_measured(names: Sequence[str]) -> bool:
    """Whether the classes of a column look like measurements: all of them decimals, and one of them not whole."""
    return are_numbers(names) and any(not float(name).is_integer() for name in names)


def ranges(numbers: NDArray[np.float64]) -> tuple[list[str | None], list[str]]:
    """The range of each number, of equally many rows, None at holes; and the names of the ranges in their order."""
    known = ~np.isnan(numbers)
    count = max(1, min(RANGES, int(known.sum()) // ROWS_OF_A_RANGE))
    if not known.any():
        return [None] * len(numbers), []
    edges = np.unique(np.quantile(numbers[known], np.linspace(0, 1, count + 1)))
    places = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, max(0, len(edges) - 2))
    pairs = list(itertools.pairwise(edges)) or [(edges[0], edges[0])]
    names = [f"{low:.6g} to {high:.6g}" for low, high in pairs]
    filled = sorted({int(place) for place in places[known]})
    found = [names[place] if own else None for place, own in zip(places.tolist(), known.tolist(), strict=True)]
    return found, list(dict.fromkeys(names[place] for place in filled))
