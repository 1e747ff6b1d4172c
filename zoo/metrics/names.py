"""Names of metrics as users write them, refused with the choices and close ones where there is no such thing."""

from __future__ import annotations

import re
from collections.abc import Sequence

from zoo.errors import UnknownNameError
from zoo.registry.near import suggest


def check_name(name: str, metrics: Sequence[str], *, of: str) -> None:
    """Refuse a metric that is not among `metrics`, which are those of what `of` says.

    Raises:
        UnknownNameError: naming the choices and close ones.
    """
    if name not in metrics:
        raise UnknownNameError(
            f"unknown metric {name!r} of {of}; there are {', '.join(metrics)}{suggest(name, metrics)}"
        )


def metric_and_own(
    name: str,
    metrics: Sequence[str],
    single: Sequence[str],
    *,
    thing: str,
    names: Sequence[str] | None,
    of: str = "",
) -> tuple[str, str | None]:
    """A metric, and the class or label that it is about, as in `recall(crack)`, or None.

    Args:
        name: as the user wrote it.
        metrics: of all together.
        single: of one; the first serves as the example.
        thing: what one is called, `class` or `label`.
        names: of the classes or labels; None as long as they are not known, and any passes.
        of: what the metrics are of, where that has to be said.

    Raises:
        UnknownNameError: naming the choices and close ones.
    """
    found = re.fullmatch(r"([^()]+)\((.+)\)", name)
    metric, own = (found[1], found[2]) if found else (name, None)
    known = single if found else metrics
    if metric not in known:
        kinds = f"{', '.join(metrics)}; of one {thing}, as in {single[0]}(NAME): {', '.join(single)}"
        whose = f" of {of}" if of else ""
        raise UnknownNameError(f"unknown metric {name!r}{whose}; there are {kinds}{suggest(metric, known)}")
    if own is not None and names is not None and own not in names:
        raise UnknownNameError(f"unknown {thing} {own!r} in {name}; there are {', '.join(names)}{suggest(own, names)}")
    return metric, own
