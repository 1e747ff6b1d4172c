"""Cells that hold several labels: sets such as `crack|spot`, and columns of 0 and 1 that are joined into one of them.

A cell lists the labels that are there, joined by `|`; `|` alone is a row without any; a label behind `?` is unknown; an
empty cell says nothing about the row at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from zoo.errors import DataError
from zoo.registry.lookup import suggest

NONE = "|"
"""A row that has none of the labels."""

_CELLS = {"0": False, "1": True, "false": False, "true": True}


def parse_set(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """Labels that a cell says are there, and those that it says are unknown."""
    parts = {part.strip() for part in text.split("|")} - {""}
    unknown = {part for part in parts if part.startswith("?")}
    return frozenset(parts - unknown), frozenset(part.removeprefix("?").strip() for part in unknown)


def join_columns(frame: pl.DataFrame, target: str, names: Sequence[str]) -> pl.DataFrame:
    """The frame with a column `target` of sets, made of columns of 0 and 1 that are named as their labels.

    Raises:
        DataError: a column that is not there or holds something else, or one that is called `target` already.
    """
    if target in frame.columns:
        raise DataError(
            f"target {target!r} joins columns, and there is a column of that name; call the target otherwise"
        )
    for name in names:
        if name not in frame.columns:
            hint = suggest(name, frame.columns) or "."
            raise DataError(
                f"target {target!r} joins {', '.join(names)}, and there is no column {name!r}{hint} "
                f"There are {', '.join(frame.columns)}"
            )
    known = [_cells(frame[name], target) for name in names]
    sets = [_set_text(names, row) for row in zip(*known, strict=True)]
    return frame.with_columns(pl.Series(target, sets, dtype=pl.String))


def join_lists(column: pl.Series) -> pl.Series:
    """A column of lists as sets."""
    sets = [None if cell is None else "|".join(map(str, cell)) or NONE for cell in column.to_list()]
    return pl.Series(column.name, sets, dtype=pl.String)


def _cells(column: pl.Series, target: str) -> list[bool | None]:
    found: list[bool | None] = []
    for row, cell in enumerate(column.to_list()):
        if cell is None or cell != cell or (isinstance(cell, str) and not cell.strip()):
            found.append(None)
            continue
        text = str(int(cell)) if isinstance(cell, bool | float) and float(cell).is_integer() else str(cell).strip()
        text = text.removesuffix(".0").lower()
        if text not in _CELLS:
            raise DataError(
                f"column {column.name!r} of target {target!r} holds {cell!r} in row {row}; "
                "a column of labels holds 0, 1 or nothing"
            )
        found.append(_CELLS[text])
    return found


def _set_text(names: Sequence[str], row: Sequence[bool | None]) -> str | None:
    if all(cell is None for cell in row):
        return None
    parts = [name if cell else f"?{name}" for name, cell in zip(names, row, strict=True) if cell is not False]
    return "|".join(parts) or NONE


def predicted_sets(present: NDArray[np.bool_], names: Sequence[str]) -> list[str]:
    """Cells of the labels that are there, by row; bool (N, K)."""
    return ["|".join(name for name, own in zip(names, row, strict=True) if own) or NONE for row in present.tolist()]


def set_counts(texts: Iterable[str | None]) -> Counter[str]:
    """In how many cells each label is there."""
    return Counter(label for text in texts if text is not None for label in parse_set(text)[0])


def encode_sets(texts: Sequence[str | None], classes: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Which labels are there, float (N, K) of 0 and 1, and which are known, bool (N, K)."""
    index = {name: place for place, name in enumerate(classes)}
    value = np.zeros((len(texts), len(classes)), dtype=np.float32)
    mask = np.zeros((len(texts), len(classes)), dtype=bool)
    for row, text in enumerate(texts):
        if text is None:
            continue
        present, unknown = parse_set(text)
        mask[row] = True
        mask[row, [index[name] for name in unknown if name in index]] = False
        value[row, [index[name] for name in present if name in index]] = 1.0
    return value, mask


def check_teachable(target: str, classes: Sequence[str], texts: Sequence[str | None]) -> None:
    """Refuse labels that the training rows, whose cells these are, cannot teach.

    Raises:
        DataError: a label that is never there, always there, or never known.
    """
    value, mask = encode_sets(texts, classes)
    there, known = (value * mask).sum(axis=0), mask.sum(axis=0)
    bad = []
    for name, rows, of in zip(classes, there.tolist(), known.tolist(), strict=True):
        if rows in (0, of):
            bad.append(f"{name!r} is {'known of none' if not of else 'there in none' if not rows else 'there in all'}")
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise DataError(
            f"target {target!r}: of the {len(texts)} training rows {', '.join(bad[:5])}{more}; "
            "there is nothing to tell apart. Leave the label out, or add rows"
        )


def rarest_labels(texts: Sequence[str | None]) -> list[str | None]:
    """By row the rarest of its labels, `NONE` where it has none, None where nothing is known of it.

    Draws that keep these in proportion keep rare labels on every side (a stand-in for iterative stratification,
    Sechidis et al. 2011, that keeps groups whole too).
    """
    counts = set_counts(texts)
    found: list[str | None] = []
    for text in texts:
        present = parse_set(text)[0] if text is not None else frozenset[str]()
        rarest = min(present, key=lambda name: (counts[name], name), default=NONE)
        found.append(None if text is None else rarest)
    return found
