"""How splits came about, in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from zoo.data.table import Table

Rows = NDArray[np.int64]
NAMES = ("train", "val", "test")
EMPTY = np.empty(0, dtype=np.int64)

BY = {"regression": "range", "multilabel": "rarest label", "ordinal": "rank"}
"""What the rows of each kind of target are drawn by, where not by class."""


def sentence(
    table: Table,
    given: Mapping[str, Rows],
    drawn: Sequence[str],
    parts: Mapping[str, Rows],
    seed: int,
    left: tuple[int, int, int],
) -> str:
    """How the rows were divided.

    Args:
        table: the table.
        given: rows by the split that the data state.
        drawn: splits that were drawn.
        parts: labelled rows of each split.
        seed: of the draws.
        left: rows that cannot be used, rows without a label that are left out, and such that train all the same.
    """
    sizes = {part: len(parts.get(part, ())) + (left[2] if part == "train" else 0) for part in NAMES}
    how = [f"{', '.join(f'{size} {part}' for part, size in sizes.items())} rows"]
    if left[2]:
        how.append(f"{left[2]} train rows have no label and may get pseudo-labels")
    if table.roles.split is not None:
        how.append(f"{' and '.join(part for part in NAMES if part in given)} as column {table.roles.split!r} states")
    if table.roles.split is not None and not len(parts.get("test", ())):
        how.append("no test split is given, so figures are of the validation rows that choose the epoch")
    if drawn:
        whole = f", groups of {table.roles.group!r} kept whole" if table.roles.group else ""
        too = f" and by {table.roles.stratify!r}" if table.roles.stratify and not table.roles.group else ""
        what = BY.get(table.kind(table.roles.targets[0]).kind, "class")
        how.append(f"{' and '.join(drawn)} drawn by {what} of {table.roles.targets[0]!r}{too} with seed {seed}{whole}")
    reasons = [(left[0], "that cannot be used"), (left[1], "without any label")]
    reasons.append((len(table) - sum(left) - sum(map(len, parts.values())), "that are marked for no split"))
    how += [f"{count} rows {reason} left out" for count, reason in reasons if count]
    if table.roles.group and (alone := table.frame[table.roles.group].null_count()):
        how.append(f"{alone} rows name no group and count as one each")
    return "; ".join(how)


def sentence_of_kept(table: Table, given: Mapping[str, Rows], kept: Mapping[str, Rows]) -> str:
    """What is added where a run before knows some rows, `kept` by split; empty where it knows none."""
    count = sum(map(len, kept.values()))
    if not count:
        return ""
    beside = f", or share a group of {table.roles.group!r} with such a one," if table.roles.group else ""
    said = f"; {count} rows whose image the run before knows{beside} stay in the split in which it had them"
    if table.roles.split is not None:
        moved = sum(len(np.setdiff1d(rows, given.get(part, EMPTY))) for part, rows in kept.items())
        said += f", {moved} of them against column {table.roles.split!r}" if moved else ""
    return said
