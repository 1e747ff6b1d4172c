"""Where the holes are: counts by column, split and class, and whether they depend on the label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.data.labels import label_strata
from zoo.data.missingness import depends_on_label, sentence
from zoo.data.splits import Splits
from zoo.data.table import Table


def count_holes(
    table: Table, by: str | None, splits: Splits, missing: Mapping[str, NDArray[np.bool_]]
) -> list[dict[str, Any]]:
    """JSON values of each column with a hole: rows in all, in each split, of each class, and what the test says.

    A column's holes are not counted by its own classes, which are not known there.

    The test is on all rows of the table whose label is known: it describes the data, and nothing is learned from it.

    Args:
        table: the table.
        by: the target whose classes (ranges of numbers, rarest labels) the rows with holes are counted by, or none.
        splits: of the rows.
        missing: bool (N,) by column, True at holes.
    """
    texts, names = label_strata(table, by) if by else ([None] * len(table), [])
    index: dict[str | None, int] = {name: place for place, name in enumerate(names)}
    codes = np.array([index.get(text, -1) for text in texts], dtype=np.int64)
    parts = {"train": splits.train, "val": splits.val, "test": splits.test}
    found = []
    for column, holes in missing.items():
        if not holes.any():
            continue
        own = None if column == by else depends_on_label(holes, codes)
        found.append(
            {
                "column": column,
                "by": by,
                "rows": int(holes.sum()),
                "splits": {name: int(holes[rows].sum()) for name, rows in parts.items()},
                "classes": {name: int(holes[codes == place].sum()) for name, place in index.items()},
                "p_value": own.p_value if own else None,
                "said": sentence(
                    column,
                    by or "",
                    own,
                    indicator=column in table.roles.covariates,
                    label=column in table.roles.targets,
                ),
            }
        )
    return found
