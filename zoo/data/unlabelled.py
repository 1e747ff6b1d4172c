"""Rows without any label: which of them may train by pseudo-labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from zoo.data.draws import Strata
from zoo.data.folders import SPLIT_NAMES
from zoo.data.labels import label_texts
from zoo.data.split_words import Rows
from zoo.data.table import Table


def joining(table: Table, blank: Rows, strata: Strata, parts: Mapping[str, Rows], known: Sequence[str] | None) -> Rows:
    """Of the rows `blank`, which have no label, those that no held-out split has a claim on.

    One that the data mark for another split, that shares a group with a held-out row, or whose image a run before has
    held out, does not train.

    Args:
        table: the table.
        blank: positions of usable rows without any label.
        strata: with the groups.
        parts: labelled rows of each split.
        known: by row the split in which an earlier run had its image, or an empty text; None without such a run.
    """
    mine = np.ones(len(blank), dtype=bool)
    if table.roles.split is not None:
        texts = label_texts(table, table.roles.split)
        stated = [SPLIT_NAMES.get((texts[row] or "").strip().lower()) for row in blank]
        mine &= np.array([name == "train" for name in stated], dtype=bool)
    if strata.groups is not None:
        held = np.concatenate([parts["val"], parts["test"]])
        mine &= ~np.isin(strata.groups[blank], strata.groups[held])
    if known is not None:
        mine &= np.array([known[row] in ("", "train") for row in blank], dtype=bool)
    return blank[mine]
