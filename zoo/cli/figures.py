"""Scores as text: all of a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from zoo.report.classes import CLASS_WORDS, OF_CLASS, kind_of, poorest
from zoo.report.scores import SUMMARY, shown, shown_or_undefined, words


def poorest_line(scores: Mapping[str, Any]) -> str | None:
    """The class with the lowest F1 in a line; None where all have the same."""
    found = poorest(scores)
    return f"poorest {CLASS_WORDS[kind_of(scores)]}: {found}" if found else None


def report(scores: Mapping[str, Any]) -> Iterator[str]:
    """Every figure of a report with its interval, every class, and why what is undefined is so."""
    bounds, names = scores["intervals"]["bounds"], SUMMARY[kind_of(scores)]
    width = max(len(words(name)) for name in names)
    for name in names:
        interval = f"  ({shown(bounds[name][0])} to {shown(bounds[name][1])})" if name in bounds else ""
        yield f"{words(name):<{width}}  {shown_or_undefined(scores[name]):>9}{interval}"
    if bounds:
        yield f"in brackets: {scores['intervals']['how']}"
    if "per_class" in scores:
        yield ""
        yield from _classes(scores["per_class"], kind_of(scores))
    if line := poorest_line(scores):
        yield line
    for what, reason in scores["undefined"].items():
        # A mean that has a value leaves something out; only what has none is undefined.
        yield f"{what} is undefined: {reason}" if scores.get(what) is None else f"{what}: {reason}"
    for what, reason in scores["intervals"]["left_out"].items():
        yield f"{what} has no interval: {reason}"


def _classes(per_class: Mapping[str, Any], kind: str) -> Iterator[str]:
    word, columns = CLASS_WORDS[kind], OF_CLASS[kind]
    width, wide = max(len(word), *map(len, per_class)), max(9, *(len(words(part)) for part in columns))
    heads = "".join(f"  {words(part):>{wide}}" for part in columns)
    yield f"{word:<{width}}  {'rows':>6}  {'predicted':>9}{heads}"
    for name, own in per_class.items():
        values = "".join(f"  {shown_or_undefined(own[part]):>{wide}}" for part in columns)
        yield f"{name:<{width}}  {own['support']:>6}  {own['predicted']:>9}{values}"
