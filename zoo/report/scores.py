"""What the page says about one task: figures with their footnotes, the table of classes, the confusion matrix."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zoo.report.classes import OF_CLASS, ClassRow, class_rows, kind_of, poorest
from zoo.report.confusion import Cell, Confusion, confusions, matrix

HEADLINE = {
    "classification": ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc"),
    "multilabel": ("map", "roc_auc", "macro_f1", "subset_accuracy"),
    "ordinal": ("quadratic_kappa", "rank_mae", "accuracy", "balanced_accuracy"),
    "regression": ("mae", "rmse", "r2", "spearman"),
}
"""The main figures of each kind of task."""

SUMMARY = {
    "classification": (
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
    ),
    "multilabel": ("map", "roc_auc", "macro_f1", "micro_f1", "label_accuracy", "subset_accuracy", "log_loss"),
    "ordinal": (
        "quadratic_kappa",
        "rank_mae",
        "macro_rank_mae",
        "accuracy",
        "balanced_accuracy",
        "log_loss",
    ),
    "regression": ("mae", "rmse", "nmse", "bias", "r2", "spearman"),
}
"""All figures of each kind of task."""

SPLITS = {"train": "training", "val": "validation", "test": "test"}
WORDS = {
    "f1": "F1",
    "micro_f1": "micro F1",
    "map": "mAP",
    "ap": "AP",
    "mae": "MAE",
    "rmse": "RMSE",
    "nmse": "squared error / variance",
    "r2": "R²",
    "spearman": "Spearman",
    "rank_mae": "ranks off",
    "macro_rank_mae": "ranks off, mean over ranks",
    "quadratic_kappa": "quadratic kappa",
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
        text = "undefined" if value is None else shown(value)
        interval = f"{shown(bounds[0])} to {shown(bounds[1])}" if bounds else None
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
        kind: of task.
        split: the held-out rows that the headline, classes and matrix are about: test, or else val.
        poorest: a sentence about the class with the lowest F1; empty where all have the same.
        headline: (words, value) of the main figures.
        summary: (words, a value for each split) of every figure.
        intervals: how the intervals of `split` were made.
        classes: the rows of the table of classes, ranks or labels; empty of numbers.
        columns: words over the values in it.
        calibration: the bins of `split`, as JSON values; empty where there are no classes.
        ranges: of numbers, what was predicted by value, as JSON values.
        matrix: rows of cells; empty where there are too many classes.
        confusions: the most frequent ones, where the matrix is empty.
        notes: the footnotes in their order.
    """

    name: str
    kind: str
    split: str
    rows: int
    splits: tuple[str, ...]
    poorest: str
    headline: list[tuple[str, Shown]]
    summary: list[tuple[str, list[Shown]]]
    intervals: str
    classes: list[ClassRow[Shown]]
    columns: list[str]
    calibration: Sequence[Mapping[str, Any]]
    ranges: Sequence[Mapping[str, Any]]
    matrix: list[list[Cell]]
    confusions: list[Confusion]
    notes: list[str]

    @property
    def has_test(self) -> bool:
        """Whether the figures are of rows that chose nothing."""
        return self.split == "test"


LABELS = {"roc_auc": "ROC-AUC"}
"""What a line calls otherwise than a table."""


def figures(scores: Mapping[str, Any]) -> str:
    """The headline figures of a report in a line; what is undefined says so."""
    told = [f"{LABELS.get(key) or words(key)} {shown_or_undefined(scores[key])}" for key in HEADLINE[kind_of(scores)]]
    return f"{', '.join(told)} over {scores['rows']} rows"


def shown_or_undefined(value: float | None) -> str:
    """A figure as text."""
    return "undefined" if value is None else shown(value)


def shown(value: float) -> str:
    """A figure as people read it: three places, of large ones four digits."""
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.4g}"


def words(name: str) -> str:
    """A metric's name for people; one of a class, such as `f1(crack)`, keeps the class, `TARGET:METRIC` the target."""
    if ":" in name.partition("(")[0]:
        return name
    found = re.fullmatch(r"(\w+)(\(.*\))", name, flags=re.DOTALL)
    metric, own = (found[1], found[2]) if found else (name, "")
    return WORDS.get(metric, metric.replace("_", " ")) + own


def task_section(name: str, by_split: Mapping[str, Mapping[str, Any]]) -> TaskSection:
    """The section of a task from its reports by split, as `zoo.metrics.kinds.report` gives them."""
    splits = tuple(split for split in SPLITS if split in by_split)
    split = "test" if "test" in by_split else splits[-1]
    held, notes, kind = by_split[split], Footnotes(), kind_of(by_split[split])
    summary = [
        (words(metric), [_shown(by_split[key], metric, notes, key) for key in splits]) for metric in SUMMARY[kind]
    ]
    names, counts = held.get("classes", []), held.get("confusion", [])
    few = len(names) <= LARGEST_MATRIX

    def show(own: str, part: str) -> Shown:
        reason = held["undefined"].get(f"{part} of {own!r}")
        return notes.show(
            held["per_class"][own][part], f"{words(part)} of {own!r} among the {SPLITS[split]} rows", reason
        )

    return TaskSection(
        name=name,
        kind=kind,
        split=split,
        rows=held["rows"],
        splits=splits,
        poorest=poorest(held),
        headline=[(words(metric), _shown(held, metric, notes, split)) for metric in HEADLINE[kind]],
        summary=summary,
        intervals=held["intervals"]["how"],
        classes=class_rows(held, show) if names else [],
        columns=[words(part) for part in OF_CLASS[kind]] if names else [],
        calibration=held.get("calibration", []),
        ranges=held.get("ranges", []),
        matrix=matrix(names, counts) if few and counts else [],
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
