"""What the page says about one task: figures with their footnotes, the table of classes, the confusion matrix."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zoo.report.classes import ClassRow, class_rows, poorest
from zoo.report.confusion import Cell, Confusion, confusions, matrix

HEADLINE = ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc")
SUMMARY = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "weighted_f1",
    "macro_precision",
    "macro_recall",
    "g_mean",
    "mcc",
    "roc_auc",
    "pr_auc",
    "log_loss",
    "ece",
)
SPLITS = {"train": "training", "val": "validation", "test": "test"}
WORDS = {
    "f1": "F1",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "g_mean": "G-mean",
    "mcc": "MCC",
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC",
    "log_loss": "log loss",
    "ece": "calibration error",
}
LARGEST_MATRIX = 30
"""Classes up to which the confusion matrix is drawn; beyond, the page lists the most frequent confusions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """A value as the page writes it, with the number of its footnote and its interval, where it has them."""

    text: str
    note: int | None = None
    interval: str | None = None


@dataclass(slots=True)
class Footnotes:
    """Reasons by number, each listed once."""

    reasons: list[str] = field(default_factory=list)

    def show(self, value: float | None, name: str, reason: str | None, bounds: Sequence[float] | None = None) -> Shown:
        """The value to three places, or `undefined`; `reason` becomes a footnote about `name`."""
        text = "undefined" if value is None else f"{value:.3f}"
        interval = f"{bounds[0]:.3f} to {bounds[1]:.3f}" if bounds else None
        if reason is None:
            return Shown(text=text, interval=interval)
        sentence = f"{name}: {reason}"
        if sentence not in self.reasons:
            self.reasons.append(sentence)
        return Shown(text=text, note=self.reasons.index(sentence) + 1, interval=interval)


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskSection:
    """All that the page says about the scores of one task.

    Attributes:
        split: the held-out rows that the headline, classes and matrix are about: test, or else val.
        poorest: a sentence about the class with the lowest F1; empty where all have the same.
        headline: (words, value) of the main figures.
        summary: (words, a value for each split) of every figure.
        intervals: how the intervals of `split` were made.
        classes: the rows of the table of classes.
        calibration: the bins of `split`, as JSON values.
        matrix: rows of cells; empty where there are too many classes.
        confusions: the most frequent ones, where the matrix is empty.
        notes: the footnotes in their order.
    """

    name: str
    split: str
    rows: int
    splits: tuple[str, ...]
    poorest: str
    headline: list[tuple[str, Shown]]
    summary: list[tuple[str, list[Shown]]]
    intervals: str
    classes: list[ClassRow[Shown]]
    calibration: Sequence[Mapping[str, Any]]
    matrix: list[list[Cell]]
    confusions: list[Confusion]
    notes: list[str]

    @property
    def has_test(self) -> bool:
        """Whether the figures are of rows that chose nothing."""
        return self.split == "test"


def words(name: str) -> str:
    """A metric's name for people; one of a class, such as `f1(crack)`, keeps the class, `TARGET:METRIC` the target."""
    if ":" in name.partition("(")[0]:
        return name
    found = re.fullmatch(r"(\w+)(\(.*\))", name, flags=re.DOTALL)
    metric, own = (found[1], found[2]) if found else (name, "")
    return WORDS.get(metric, metric.replace("_", " ")) + own


def task_section(name: str, by_split: Mapping[str, Mapping[str, Any]]) -> TaskSection:
    """The section of a task from its reports by split, as `ClassificationMetrics.to_json` gives them."""
    splits = tuple(split for split in SPLITS if split in by_split)
    split = "test" if "test" in by_split else splits[-1]
    held, notes = by_split[split], Footnotes()
    summary = [(words(metric), [_shown(by_split[key], metric, notes, key) for key in splits]) for metric in SUMMARY]
    names, counts = held["classes"], held["confusion"]
    few = len(names) <= LARGEST_MATRIX

    def show(own: str, part: str) -> Shown:
        reason = held["undefined"].get(f"{part} of {own!r}")
        return notes.show(
            held["per_class"][own][part], f"{words(part)} of {own!r} among the {SPLITS[split]} rows", reason
        )

    return TaskSection(
        name=name,
        split=split,
        rows=held["rows"],
        splits=splits,
        poorest=poorest(held),
        headline=[(words(metric), _shown(held, metric, notes, split)) for metric in HEADLINE],
        summary=summary,
        intervals=held["intervals"]["how"],
        classes=class_rows(held, show),
        calibration=held["calibration"],
        matrix=matrix(names, counts) if few else [],
        confusions=[] if few else confusions(names, counts),
        notes=notes.reasons,
    )


def _shown(report: Mapping[str, Any], metric: str, notes: Footnotes, split: str) -> Shown:
    intervals, said = report["intervals"], [report["undefined"].get(metric)]
    if metric in intervals["left_out"] and report[metric] is not None:
        said.append(f"has no interval: {intervals['left_out'][metric]}")
    reason = "; ".join(filter(None, said)) or None
    name = f"{words(metric)} of the {SPLITS[split]} rows"
    return notes.show(report[metric], name, reason, intervals["bounds"].get(metric))
