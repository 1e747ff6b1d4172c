"""Training rows with holes, left out: within caps, in total and of each class."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoo.data.labels import label_strata
from zoo.data.table import Table
from zoo.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class DropRows:
    """Largest shares of the training rows, and of those of each class, that may go."""

    max: float = 0.05
    max_class: float = 0.05

    def __post_init__(self) -> None:
        for name in ("max", "max_class"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in (0, 1], not {getattr(self, name)}")


def drop_rows(
    table: Table,
    train: NDArray[np.int64],
    holed: NDArray[np.bool_],
    caps: DropRows,
    what: str = "covariates",
    mend: str = "Fill them with --impute covariates=NAME, or raise the caps: rows=drop(max=0.2, max_class=0.2)",
) -> tuple[NDArray[np.int64], str]:
    """The training rows that stay, and a sentence about those that go; held-out rows are never dropped.

    Args:
        table: the table.
        train: int64 (M,), positions of the training rows.
        holed: bool (M,), True for those with a hole.
        caps: shares that may go; one row, and one of each class, always may.
        what: the holes are in, in words.
        mend: what to do where too many would go, a sentence.

    Raises:
        DataError: more would go than may; names each cap that is exceeded.
    """
    if not holed.any():
        return train, f"no training row has a hole in its {what}"
    count = int(holed.sum())
    excess = []
    if count > max(1, int(caps.max * len(train))):
        excess.append(f"  {count / len(train):.2%} of the training rows would go, {caps.max:.2%} may (max)")
    for target in table.roles.targets:
        texts, names = label_strata(table, target)
        rows, gone = Counter(texts[row] for row in train), Counter(texts[row] for row in train[holed])
        excess += [
            f"  {gone[name] / rows[name]:.2%} of {target} = {name} would go ({gone[name]} of {rows[name]} rows), "
            f"{caps.max_class:.2%} may (max_class)"
            for name in names
            if gone[name] > max(1, int(caps.max_class * rows[name]))
        ]
    if excess:
        raise DataError(
            f"{count} of {len(train)} training rows have holes in their {what}, too many to leave out:\n"
            + "\n".join(excess)
            + f"\n{mend}"
        )
    return train[~holed], f"{count} of {len(train)} training rows have holes in their {what} and were left out"
