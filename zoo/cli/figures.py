"""Scores as text: a line of headline figures, and all of a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from zoo.report.classes import OF_CLASS, poorest
from zoo.report.scores import SUMMARY, words

HEADLINE = {
    "accuracy": "accuracy",
    "balanced accuracy": "balanced_accuracy",
    "macro F1": "macro_f1",
    "ROC-AUC": "roc_auc",
}


def figures(scores: Mapping[str, Any]) -> str:
    """The headline figures in a line; what is undefined says so."""
    shown = [f"{name} {_text(scores[key])}" for name, key in HEADLINE.items()]
    return f"{', '.join(shown)} over {scores['rows']} rows"


def poorest_line(scores: Mapping[str, Any]) -> str | None:
    """The class with the lowest F1 in a line; None where all have the same."""
    found = poorest(scores)
    return f"poorest class: {found}" if found else None


def report(scores: Mapping[str, Any]) -> Iterator[str]:
    """Every figure of a report with its interval, every class, and why what is undefined is so."""
    bounds = scores["intervals"]["bounds"]
    width = max(len(words(name)) for name in SUMMARY)
    for name in SUMMARY:
        interval = f"  ({bounds[name][0]:.3f} to {bounds[name][1]:.3f})" if name in bounds else ""
        yield f"{words(name):<{width}}  {_text(scores[name]):>9}{interval}"
    yield f"in brackets: {scores['intervals']['how']}"
    yield ""
    yield from _classes(scores["per_class"])
    if line := poorest_line(scores):
        yield line
    for what, reason in scores["undefined"].items():
        # A mean that has a value leaves something out; only what has none is undefined.
        yield f"{what} is undefined: {reason}" if scores.get(what) is None else f"{what}: {reason}"
    for what, reason in scores["intervals"]["left_out"].items():
        yield f"{what} has no interval: {reason}"


def _classes(per_class: Mapping[str, Any]) -> Iterator[str]:
    width = max(len("class"), *map(len, per_class))
    yield f"{'class':<{width}}  {'rows':>6}  {'predicted':>9}" + "".join(f"  {words(part):>9}" for part in OF_CLASS)
    for name, own in per_class.items():
        shown = "".join(f"  {_text(own[part]):>9}" for part in OF_CLASS)
        yield f"{name:<{width}}  {own['support']:>6}  {own['predicted']:>9}{shown}"


def _text(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
