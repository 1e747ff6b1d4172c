"""Training, validation and test rows: taken from the data where they say, drawn by class and by group where not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.data.draws import Strata, draw, fine_cells, too_few
from zoo.data.folders import SPLIT_NAMES
from zoo.data.images import Images
from zoo.data.labels import label_holes, label_strata, label_texts, natural_order
from zoo.data.numbers import measured_hint
from zoo.data.split_words import EMPTY, NAMES, Rows, sentence, sentence_of_kept
from zoo.data.table import Table
from zoo.data.tasks import count_classes
from zoo.data.training_images import TrainingImages
from zoo.data.unlabelled import joining
from zoo.errors import DataError
from zoo.registry.lookup import suggest
from zoo.specs import CovariateColumns, Task, TrainView
from zoo.specs.training import SPLITTERS_SEAL


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Splits:
    """Sorted positions of the rows of each split, int64, and a sentence that says how they came about."""

    train: Rows
    val: Rows
    test: Rows
    how: str


def make_splits(
    table: Table,
    usable: NDArray[np.bool_],
    *,
    test: float = 0.25,
    val: float = 0.15,
    seed: int = 0,
    known: Sequence[str] | None = None,
    keep_unlabelled: bool = False,
) -> Splits:
    """Split the usable rows that have at least one label.

    A split column is kept as it is; what it lacks is drawn from its training rows (the test split only where there is
    no validation split either). Draws are stratified by the first target (`zoo.data.labels.label_strata`) and keep
    groups whole.

    Args:
        table: the table; its first target decides the strata.
        usable: bool (N,), False for rows that no split may hold.
        test: share of the rows for testing.
        val: share for validation of what testing leaves.
        seed: the same seed gives the same rows.
        known: by row the split in which an earlier run had its image, or an empty text. Such a row stays there,
            whatever the data say, and so do new rows of its group; the others are drawn among themselves.
        keep_unlabelled: whether rows without any label train too, those that no held-out split has a claim on.

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
    kept = _kept(given, known, strata) if known is not None else dict.fromkeys(NAMES, EMPTY)
    parts = {part: np.setdiff1d(rows, np.concatenate(list(kept.values()))) for part, rows in given.items()}
    shares = {"test": test, "val": val}
    to_draw = [part for part in ("test", "val") if _is_drawn(part, given) and shares[part] > 0]
    aside = _aside(parts["train"], kept["train"], strata, len(to_draw))
    free = np.setdiff1d(parts["train"], aside)
    if known is not None and not len(free):
        to_draw = []
    for done, part in enumerate(to_draw):
        free, parts[part] = draw(free, strata, part, shares[part], len(to_draw) - done, seed + done)
    parts["train"] = np.concatenate([free, aside])
    parts = {part: np.concatenate([parts.get(part, EMPTY), kept[part]]) for part in NAMES}
    _check_groups(table, strata, parts, kept)
    blank = np.flatnonzero(usable & unlabelled)
    joined = joining(table, blank, strata, parts, known) if keep_unlabelled else EMPTY
    left = (int((~usable).sum()), len(blank) - len(joined), len(joined))
    how = sentence(table, given, to_draw, parts, seed, left) + sentence_of_kept(table, given, kept)
    parts["train"] = np.concatenate([parts["train"], joined])
    return Splits(**{part: np.sort(parts[part]) for part in NAMES}, how=how)


def _kept(given: dict[str, Rows], known: Sequence[str], strata: Strata) -> dict[str, Rows]:
    """The rows of each split that an earlier run knows, and those of their groups."""
    eligible, own = np.sort(np.concatenate(list(given.values()))), np.array(known, dtype=object)
    if strata.groups is not None:
        homes = {group: part for part in NAMES for group in strata.groups[eligible[own[eligible] == part]].tolist()}
        own = np.array([own[row] or homes.get(group, "") for row, group in enumerate(strata.groups.tolist())])
    return {part: eligible[own[eligible] == part] for part in NAMES}


def _aside(rows: Rows, trained: Rows, strata: Strata, later: int) -> Rows:
    """Of the rows to draw from, those too few of a class that an earlier run has in training: they all train."""
    few = too_few(rows, strata, later) if later and len(trained) else EMPTY
    aside = few[np.isin(strata.codes[few], strata.codes[trained])]
    if strata.groups is not None:
        aside = rows[np.isin(strata.groups[rows], strata.groups[aside])]
    # Without any class there is nothing to draw by.
    left = np.setdiff1d(rows, aside)
    return aside if (strata.codes[left] >= 0).any() or not len(trained) else rows


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
    texts, names = label_strata(table, target)
    index = {name: position for position, name in enumerate(names)}
    codes = np.array([-1 if text is None else index[text] for text in texts], dtype=np.int64)
    if group is not None and table.roles.stratify is not None and table.roles.stratify != target:
        raise DataError(
            f"rows are kept whole by {group!r} or in proportion by {table.roles.stratify!r}, not both: leave out one"
        )
    hint = "" if target in table.kinds else measured_hint(target, names)
    if group is None:
        return Strata(target=target, names=tuple(names), codes=codes, cells=_cells(table, codes), hint=hint)
    cells = label_texts(table, group)
    keys = [(0, str(row)) if cell is None else (1, cell) for row, cell in enumerate(cells)]
    numbers = {key: position for position, key in enumerate(dict.fromkeys(keys))}
    groups = np.array([numbers[key] for key in keys], dtype=np.int64)
    return Strata(target=target, names=tuple(names), codes=codes, group=group, groups=groups, hint=hint)


def _cells(table: Table, codes: Rows) -> Rows | None:
    """Cells of the class and of the column that is to be kept in proportion too; a hole there is a value of its own."""
    column = table.roles.stratify
    if column is None:
        return None
    texts = label_texts(table, column)
    numbers = {text: position for position, text in enumerate(dict.fromkeys(texts))}
    return fine_cells(codes, np.array([numbers[text] for text in texts], dtype=np.int64))


def _check_groups(table: Table, strata: Strata, parts: dict[str, Rows], kept: dict[str, Rows]) -> None:
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
        mend = f"Correct the column {table.roles.split!r}, or leave it out to have the groups split whole"
        if any(len(rows) for rows in kept.values()):
            mend = "The run before had their images in these splits; begin anew, without --from, to have groups whole"
        raise DataError(
            f"{len(crossing)} groups of {strata.group!r} stand in more than one split, such as "
            f"{table.frame[strata.group][first]!r} in {held}; figures would be too good. {mend}"
        )


def training_view(
    table: Table,
    splits: Splits,
    tasks: Sequence[Task],
    covariates: CovariateColumns | None,
    images: Images | None = None,
) -> TrainView:
    """What strategies and imputers may learn from: training rows, their observed labels, their covariates and images.

    Args:
        table: the table that was split.
        splits: the split.
        tasks: tasks whose classes were fixed from these training rows.
        covariates: of the training rows alone, in the order of `splits.train`, or None.
        images: of all rows, of which the view gives those of the training rows; None where nobody asks for them.

    Raises:
        DataError: a class of a task has no training row.
    """
    if covariates is not None and len(covariates) != len(splits.train):
        raise ValueError(f"covariates of {len(covariates)} rows for {len(splits.train)} training rows")
    statistics = {}
    for task in tasks:
        try:
            statistics[task.name] = count_classes(table, task, splits.train)
        except ValueError as error:
            raise DataError(f"target {error}") from None
    own = None if images is None else TrainingImages(images, splits.train)
    return TrainView(SPLITTERS_SEAL, rows=splits.train, statistics=statistics, covariates=covariates, images=own)
