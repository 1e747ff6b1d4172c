"""Suggestions for names that are not there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MOST = 3
"""Names that are suggested at once."""


def close_names(name: str, known: Iterable[str]) -> list[str]:
    """At most three of the known names that are close to `name`, whatever the case of either, each once."""
    spelled: dict[str, str] = {}
    for each in known:
        spelled.setdefault(each.lower(), each)
    return [spelled[each] for each in difflib.get_close_matches(name.lower(), list(spelled), n=MOST, cutoff=0.6)]


def suggest(name: str, known: Iterable[str]) -> str:
    """`; did you mean a or b?` for close names, or an empty string."""
    close = close_names(name, known)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def suggest_models(name: str, known: Iterable[str]) -> str:
    """The same for backbones `source/model`: `name` is compared with the model where it names no source."""
    full = list(known)
    if "/" in name:
        return suggest(name, full)
    homes: dict[str, list[str]] = {}
    for each in full:
        homes.setdefault(each.rpartition("/")[2], []).append(each)
    close = [each for model in close_names(name, homes) for each in homes[model]]
    return f"; did you mean {' or '.join(close[:MOST])}?" if close else ""
