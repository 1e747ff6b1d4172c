"""What to do with image files that cannot be read: stop, or leave out a few and say so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zoo.data.labels import label_strata
from zoo.data.table import Table
from zoo.errors import DataError

_SHOWN = 20


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BadFileDecision:
    """What was decided about files that cannot be read.

    Attributes:
        usable: bool (N,), False for the rows left out.
        dropped: row -> reason, for the rows left out.
        sentence: for the report; empty where every file was good.
    """

    usable: NDArray[np.bool_]
    dropped: dict[int, str]
    sentence: str


def apply_bad_files(
    table: Table,
    bad: Mapping[int, str],
    mode: Literal["stop", "drop"],
    *,
    max_share: float = 0.01,
    max_class_share: float = 0.05,
    advice: str = "",
) -> BadFileDecision:
    """Decide about the rows whose image cannot be read, or has holes that nothing fills.

    Args:
        table: the table.
        bad: row -> reason.
        mode: `stop` refuses any; `drop` leaves them out up to the caps.
        max_share: of all rows; one row is always allowed.
        max_class_share: of the rows of each class of each target; one row a class is always allowed.
        advice: what else there is to do, where there are such holes.

    Raises:
        DataError: mode `stop` and a bad file, or more of them than the caps allow; lists files with reasons.
    """
    usable = np.ones(len(table), dtype=bool)
    usable[list(bad)] = False
    if not bad:
        return BadFileDecision(usable=usable, dropped={}, sentence="")
    found = f"{len(bad)} of {len(table)} image files cannot be {'used' if advice else 'read'}"
    if mode == "stop":
        shares = f"up to {max_share:.0%} of the rows and {max_class_share:.0%} of a class, or one of each"
        caps = f" ({shares})" if max_share < 1 else ""
        ways = ["Repair them", *([advice] if advice else []), f"or leave them out with --bad-files drop{caps}"]
        raise DataError(f"{found}:\n{_listed(table, bad)}\n{', '.join(ways)}")
    excess = _excess(table, bad, max_share, max_class_share)
    if excess:
        raise DataError(f"{found}, too many to leave out:\n" + "\n".join(excess) + f"\n{_listed(table, bad)}")
    reasons = ", ".join(f"{count} {reason}" for reason, count in Counter(bad.values()).most_common())
    return BadFileDecision(usable=usable, dropped=dict(bad), sentence=f"{found} and were left out ({reasons})")


def _listed(table: Table, bad: Mapping[int, str]) -> str:
    paths = table.paths
    lines = [f"  {paths[row]}: {reason}" for row, reason in list(bad.items())[:_SHOWN]]
    more = len(bad) - _SHOWN
    return "\n".join(lines + ([f"  and {more} more"] if more > 0 else []))


def _excess(table: Table, bad: Mapping[int, str], max_share: float, max_class_share: float) -> list[str]:
    """A line for each cap that is exceeded, with the flag that raises it."""
    lines = []
    if len(bad) > max(1, int(max_share * len(table))):
        share = len(bad) / len(table)
        lines.append(f"  {share:.2%} of all rows would go, {max_share:.2%} may; --max-bad raises the cap")
    for target in table.roles.targets:
        texts, names = label_strata(table, target)
        rows, gone = Counter(texts), Counter(texts[row] for row in bad)
        for name in names:
            if gone[name] > max(1, int(max_class_share * rows[name])):
                share = gone[name] / rows[name]
                lines.append(
                    f"  {share:.2%} of {target} = {name} would go ({gone[name]} of {rows[name]} rows), "
                    f"{max_class_share:.2%} may; --max-bad-class raises the cap"
                )
    return lines
