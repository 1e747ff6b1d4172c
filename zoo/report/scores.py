"""What the page says about one task: figures with their footnotes, the table of classes, the confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

HEADLINE = ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc")
SUMMARY = (
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "weighted_f1",
    "macro_precision",
    "macro_recall",
    "roc_auc",
    "log_loss",
)
OF_CLASS = ("recall", "precision", "f1", "roc_auc")
SPLITS = {"train": "training", "val": "validation", "test": "test"}
WORDS = {
    "f1": "F1",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "roc_auc": "ROC AUC",
    "log_loss": "log loss",
}
LARGEST_MATRIX = 30
"""Classes up to which the confusion matrix is drawn; beyond, the page lists the most frequent confusions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """A value as the page writes it, with the number of its footnote."""

    text: str
    note: int | None = None


@dataclass(slots=True)
class Footnotes:
    """Reasons by number, each listed once."""

    reasons: list[str] = field(default_factory=list)

    def show(self, value: float | None, name: str, reason: str | None) -> Shown:
        """The value to three places, or `undefined`; `reason` becomes a footnote about `name`."""
        text = "undefined" if value is None else f"{value:.3f}"
        if reason is None:
            return Shown(text=text)
        sentence = f"{name}: {reason}"
        if sentence not in self.reasons:
            self.reasons.append(sentence)
        return Shown(text=text, note=self.reasons.index(sentence) + 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A cell of the confusion matrix: rows counted, and their share of the true class."""

    count: int
    share: float
    hit: bool
    title: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskSection:
    """All that the page says about the scores of one task.

    Attributes:
        split: the held-out rows that the headline, classes and matrix are about: test, or else val.
        headline: (words, value) of the main figures.
        summary: (words, a value for each split) of every figure.
        classes: (name, values by `OF_CLASS`, rows, predicted).
        matrix: rows of cells; empty where there are too many classes.
        confusions: the most frequent (true, predicted, count, share), where the matrix is empty.
    """

    name: str
    split: str
    rows: int
    splits: tuple[str, ...]
    headline: list[tuple[str, Shown]]
    summary: list[tuple[str, list[Shown]]]
    classes: list[tuple[str, list[Shown], int, int]]
    matrix: list[list[Cell]]
    confusions: list[tuple[str, str, int, float]]
    notes: list[str]

    @property
    def has_test(self) -> bool:
        """Whether the figures are of rows that chose nothing."""
        return self.split == "test"


def words(name: str) -> str:
    """A metric's name for people."""
    return WORDS.get(name, name.replace("_", " "))


def task_section(name: str, by_split: Mapping[str, Mapping[str, Any]]) -> TaskSection:
    """The section of a task from its reports by split, as `ClassificationMetrics.to_json` gives them."""
    splits = tuple(split for split in SPLITS if split in by_split)
    split = "test" if "test" in by_split else splits[-1]
    held, notes = by_split[split], Footnotes()
    summary = [(words(metric), [_shown(by_split[key], metric, notes, key) for key in splits]) for metric in SUMMARY]
    names, counts = held["classes"], held["confusion"]
    return TaskSection(
        name=name,
        split=split,
        rows=held["rows"],
        splits=splits,
        headline=[(words(metric), _shown(held, metric, notes, split)) for metric in HEADLINE],
        summary=summary,
        classes=_class_rows(held, notes, split),
        matrix=_matrix(names, counts) if len(names) <= LARGEST_MATRIX else [],
        confusions=_confusions(names, counts) if len(names) > LARGEST_MATRIX else [],
        notes=notes.reasons,
    )


def _shown(report: Mapping[str, Any], metric: str, notes: Footnotes, split: str) -> Shown:
    return notes.show(report[metric], f"{words(metric)} of the {SPLITS[split]} rows", report["undefined"].get(metric))


def _class_rows(report: Mapping[str, Any], notes: Footnotes, split: str) -> list[tuple[str, list[Shown], int, int]]:
    rows = []
    for name in report["classes"]:
        scores, shown = report["per_class"][name], []
        for part in OF_CLASS:
            reason = report["undefined"].get(f"{part} of {name!r}")
            shown.append(notes.show(scores[part], f"{words(part)} of {name!r} among the {SPLITS[split]} rows", reason))
        rows.append((name, shown, scores["support"], scores["predicted"]))
    return rows


def _matrix(names: Sequence[str], counts: Sequence[Sequence[int]]) -> list[list[Cell]]:
    matrix = []
    for i, row in enumerate(counts):
        total = sum(row)
        cells = []
        for j, count in enumerate(row):
            share = count / total if total else 0.0
            title = f"{count} of {total} rows of {names[i]} taken for {names[j]} ({share:.0%})"
            cells.append(Cell(count=count, share=share, hit=i == j, title=title))
        matrix.append(cells)
    return matrix


def _confusions(names: Sequence[str], counts: Sequence[Sequence[int]]) -> list[tuple[str, str, int, float]]:
    pairs = [
        (names[i], names[j], count, count / sum(row))
        for i, row in enumerate(counts)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:20]
