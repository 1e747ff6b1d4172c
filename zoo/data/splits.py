"""Training, validation and test rows: taken from the data where they say, drawn by class and by group where not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.data.draws import Strata, draw, fine_cells
from zoo.data.folders import SPLIT_NAMES
from zoo.data.labels import label_holes, label_texts, natural_order
from zoo.data.table import Table
from zoo.errors import DataError
from zoo.registry.lookup import suggest
from zoo.specs import ClassStatistics, CovariateColumns, Task, TrainView
from zoo.specs.training import SPLITTERS_SEAL

Rows = NDArray[np.int64]
NAMES = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Splits:
    """Sorted positions of the rows of each split, int64, and a sentence that says how they came about."""

    train: Rows
    val: Rows
    test: Rows
    how: str


def make_splits(
    table: Table, usable: NDArray[np.bool_], *, test: float = 0.25, val: float = 0.15, seed: int = 0
) -> Splits:
    """Split the usable rows that have at least one label.

    A split column is kept as it is; what it lacks is drawn from its training rows (the test split only where there is
    no validation split either). Draws are stratified by the first target and keep groups whole.

    Args:
        table: the table; its first target decides the strata.
        usable: bool (N,), False for rows that no split may hold.
        test: share of the rows for testing.
        val: share for validation of what testing leaves.
        seed: the same seed gives the same rows.

    Raises:
        DataError: shares outside [0, 1), unknown split names, groups on both sides of a given split, or too few rows
            or groups of a class.
    """
    for flag, share in (("--test-fraction", test), ("--val-fraction", val)):
        if not 0 <= share < 1:
            raise DataError(f"{flag} must lie in [0, 1), not {share}")
    unlabelled = label_holes(table).all(axis=1)
    eligible = np.flatnonzero(usable & ~unlabelled)
    if table.roles.split is None:
        given: dict[str, Rows] = {"train": eligible}
    else:
        given = _given(table, table.roles.split, eligible)
    strata = _strata(table)
    parts, shares = dict(given), {"test": test, "val": val}
    to_draw = [part for part in ("test", "val") if _is_drawn(part, given) and shares[part] > 0]
    for done, part in enumerate(to_draw):
        later = len(to_draw) - done
        parts["train"], parts[part] = draw(parts["train"], strata, part, shares[part], later, seed + done)
    _check_groups(table, strata, parts)
    how = _how(table, given, to_draw, parts, seed, (int((~usable).sum()), int((usable & unlabelled).sum())))
    empty = np.empty(0, dtype=np.int64)
    return Splits(**{part: np.sort(parts.get(part, empty)) for part in NAMES}, how=how)


def _is_drawn(part: str, given: dict[str, Rows]) -> bool:
    return part not in given and not (part == "test" and "val" in given)


def _given(table: Table, column: str, eligible: Rows) -> dict[str, Rows]:
    """The eligible rows by the split that the data state."""
    texts = label_texts(table, column)
    unknown = natural_order(text for text in texts if text is not None and text.strip().lower() not in SPLIT_NAMES)
    if unknown:
        raise DataError(
            f"column {column!r} names the splits {', '.join(unknown[:20])}; a split is one of "
            f"{', '.join(SPLIT_NAMES)}{suggest(unknown[0], SPLIT_NAMES)}"
        )
    rows: dict[str, list[int]] = {}
    for row in eligible.tolist():
        text = texts[row]
        if text is not None:
            rows.setdefault(SPLIT_NAMES[text.strip().lower()], []).append(row)
    if "train" not in rows:
        there = ", ".join(f"{len(held)} in {part}" for part, held in rows.items()) or "none in any split"
        raise DataError(f"no usable row is marked for training in {column!r}; there are {there}")
    return {part: np.array(held, dtype=np.int64) for part, held in rows.items()}


def _strata(table: Table) -> Strata:
    """Class and group of every row; a row without a group is a group of its own."""
    target, group = table.roles.targets[0], table.roles.group
    texts = label_texts(table, target)
    names = natural_order(text for text in texts if text is not None)
    index = {name: position for position, name in enumerate(names)}
    codes = np.array([-1 if text is None else index[text] for text in texts], dtype=np.int64)
    if group is not None and table.roles.stratify is not None and table.roles.stratify != target:
        raise DataError(
            f"rows are kept whole by {group!r} or in proportion by {table.roles.stratify!r}, not both: leave out one"
        )
    if group is None:
        return Strata(target=target, names=tuple(names), codes=codes, cells=_cells(table, codes))
    cells = label_texts(table, group)
    keys = [(0, str(row)) if cell is None else (1, cell) for row, cell in enumerate(cells)]
    numbers = {key: position for position, key in enumerate(dict.fromkeys(keys))}
    groups = np.array([numbers[key] for key in keys], dtype=np.int64)
    return Strata(target=target, names=tuple(names), codes=codes, group=group, groups=groups)


def _cells(table: Table, codes: Rows) -> Rows | None:
    """Cells of the class and of the column that is to be kept in proportion too; a hole there is a value of its own."""
    column = table.roles.stratify
    if column is None:
        return None
    texts = label_texts(table, column)
    numbers = {text: position for position, text in enumerate(dict.fromkeys(texts))}
    return fine_cells(codes, np.array([numbers[text] for text in texts], dtype=np.int64))


def _check_groups(table: Table, strata: Strata, parts: dict[str, Rows]) -> None:
    if strata.groups is None or strata.group is None:
        return
    homes: dict[int, set[str]] = {}
    for part, rows in parts.items():
        for group in np.unique(strata.groups[rows]).tolist():
            homes.setdefault(group, set()).add(part)
    crossing = [group for group, held in homes.items() if len(held) > 1]
    if crossing:
        first = int(np.flatnonzero(strata.groups == crossing[0])[0])
        held = " and ".join(part for part in NAMES if part in homes[crossing[0]])
        raise DataError(
            f"{len(crossing)} groups of {strata.group!r} stand in more than one split, such as "
            f"{table.frame[strata.group][first]!r} in {held}; figures would be too good. "
            f"Correct the column {table.roles.split!r}, or leave it out to have the groups split whole"
        )


def _how(
    table: Table, given: dict[str, Rows], drawn: Sequence[str], parts: dict[str, Rows], seed: int, left: tuple[int, int]
) -> str:
    sizes = ", ".join(f"{len(parts.get(part, ()))} {part}" for part in NAMES)
    how = [f"{sizes} rows"]
    if table.roles.split is not None:
        how.append(f"{' and '.join(part for part in NAMES if part in given)} as column {table.roles.split!r} states")
    if table.roles.split is not None and not len(parts.get("test", ())):
        how.append("no test split is given, so figures are of the validation rows that choose the epoch")
    if drawn:
        whole = f", groups of {table.roles.group!r} kept whole" if table.roles.group else ""
        too = f" and by {table.roles.stratify!r}" if table.roles.stratify and not table.roles.group else ""
        how.append(f"{' and '.join(drawn)} drawn by class of {table.roles.targets[0]!r}{too} with seed {seed}{whole}")
    reasons = [(left[0], "that cannot be used"), (left[1], "without any label")]
    reasons.append((len(table) - sum(left) - sum(map(len, parts.values())), "that are marked for no split"))
    how += [f"{count} rows {reason} left out" for count, reason in reasons if count]
    if table.roles.group and (alone := table.frame[table.roles.group].null_count()):
        how.append(f"{alone} rows name no group and count as one each")
    return "; ".join(how)


def training_view(
    table: Table, splits: Splits, tasks: Sequence[Task], covariates: CovariateColumns | None
) -> TrainView:
    """What strategies and imputers may learn from: the training rows, their observed labels, their covariates.

    Args:
        table: the table that was split.
        splits: the split.
        tasks: tasks whose classes were fixed from these training rows.
        covariates: of the training rows alone, in the order of `splits.train`, or None.

    Raises:
        DataError: a class of a task has no training row.
    """
    if covariates is not None and len(covariates) != len(splits.train):
        raise ValueError(f"covariates of {len(covariates)} rows for {len(splits.train)} training rows")
    statistics = {}
    for task in tasks:
        texts = label_texts(table, task.name)
        seen = Counter(texts[row] for row in splits.train)
        try:
            statistics[task.name] = ClassStatistics(task=task, counts=tuple(seen[name] for name in task.classes))
        except ValueError as error:
            raise DataError(f"target {error}") from None
    return TrainView(SPLITTERS_SEAL, rows=splits.train, statistics=statistics, covariates=covariates)
