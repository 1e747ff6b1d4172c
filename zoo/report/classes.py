"""Which class is poor: the table of classes, and a sentence about the poorest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

OF_CLASS = {
    "classification": ("recall", "precision", "f1", "roc_auc", "pr_auc"),
    "ordinal": ("recall", "precision", "f1", "rank_mae"),
    "multilabel": ("recall", "precision", "f1", "roc_auc", "ap"),
}
"""What is said of each class, rank or label, by kind of task."""

CLASS_WORDS = {"classification": "class", "ordinal": "rank", "multilabel": "label", "regression": "range"}
"""What rows are counted by, by kind of task."""

POOR = 0.5
"""Recall or precision below which a bar is in the colour of mistakes: more are missed, or wrong, than right."""

S = TypeVar("S")


def kind_of(report: Mapping[str, Any]) -> str:
    """The kind of task that a report is of; those of early versions do not say, and are of classes."""
    return str(report.get("kind", "classification"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """A share of 0 to 1 as a bar, with an interval where it has one; all in percent of the bar's length."""

    name: str
    length: float
    low: float | None
    high: float | None
    poor: bool
    title: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassRow(Generic[S]):
    """One class in the table.

    Attributes:
        shown: values by `OF_CLASS`.
        bars: recall and precision, where they are defined.
        chance: its share of the rows, which is the PR AUC of guessing.
        poorest: whether it has the lowest F1 of those with rows.
    """

    name: str
    shown: list[S]
    bars: list[Bar]
    support: int
    predicted: int
    chance: float
    poorest: bool


def class_rows(report: Mapping[str, Any], show: Callable[[str, str], S]) -> list[ClassRow[S]]:
    """The table of classes in their order.

    Args:
        report: as `zoo.metrics.kinds.report` gives it, of a task with classes.
        show: a class's value of `OF_CLASS` as the page writes it, from the names of both.
    """
    last = _poorest(report)
    return [
        ClassRow(
            name=name,
            shown=[show(name, part) for part in OF_CLASS[kind_of(report)]],
            bars=_bars(scores),
            support=scores["support"],
            predicted=scores["predicted"],
            chance=scores["support"] / max(1, scores.get("rows", report["rows"])),
            poorest=name == last,
        )
        for name, scores in report["per_class"].items()
    ]


def _bars(scores: Mapping[str, Any]) -> list[Bar]:
    bars = []
    for part, rows, of in (
        ("recall", scores["support"], "rows found"),
        ("precision", scores["predicted"], "predicted rows right"),
    ):
        share = scores[part]
        if share is not None:
            low, high = scores["recall_interval"] if part == "recall" else (None, None)
            bars.append(
                Bar(
                    name=part,
                    length=100 * share,
                    low=None if low is None else 100 * low,
                    high=None if high is None else 100 * high,
                    poor=share < POOR,
                    title=f"{round(share * rows)} of {rows} {of}"
                    + ("" if low is None else f"; 95 % interval {low:.3f} to {high:.3f}"),
                )
            )
    return bars


def _poorest(report: Mapping[str, Any]) -> str | None:
    """The class with the lowest F1 of those with rows; the rarest of several, and none where all have the same."""
    known: dict[str, Any] = {name: scores for name, scores in report["per_class"].items() if scores["support"]}
    if len({scores["f1"] for scores in known.values()}) < 2:
        return None
    return min(known, key=lambda name: (known[name]["f1"], known[name]["support"]))


def poorest(report: Mapping[str, Any]) -> str:
    """A sentence about the class with the lowest F1 of those with rows; empty where all have the same, or none is."""
    name = _poorest(report) if "per_class" in report else None
    if name is None:
        return ""
    scores = report["per_class"][name]
    hits = round(scores["recall"] * scores["support"])
    low, high = scores["recall_interval"]
    found = f"{hits} of {scores['support']} rows found (95 % interval {low:.3f} to {high:.3f})"
    right = "never predicted"
    if scores["precision"] is not None:
        right = f"{hits} of {scores['predicted']} rows taken for it right ({scores['precision']:.0%})"
    instead = ""
    if "confusion" in report:
        instead = _instead(report, name, report["confusion"][report["classes"].index(name)])
    return f"{name}, F1 {scores['f1']:.3f}; {found}{instead}; {right}"


def _instead(report: Mapping[str, Any], name: str, row: list[int]) -> str:
    """What the class is mostly taken for."""
    wrong = {other: count for other, count in zip(report["classes"], row, strict=True) if other != name and count}
    if not wrong:
        return ""
    other = max(wrong, key=lambda each: wrong[each])
    return f", {wrong[other]} taken for {other}"
