"""Why a figure is undefined, or what it leaves out: sentences by the name of the figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

ABSENT = "no row of this class"


class Scores(Protocol):
    """What the reasons need to know about one class."""

    @property
    def precision(self) -> float | None: ...  # noqa: D102
    @property
    def recall(self) -> float | None: ...  # noqa: D102
    @property
    def f1(self) -> float | None: ...  # noqa: D102
    @property
    def support(self) -> int: ...  # noqa: D102
    @property
    def predicted(self) -> int: ...  # noqa: D102


def by_labels(metric: str, support: Sequence[int], classes: Sequence[str]) -> str | None:
    """Why true classes alone leave `metric` undefined, whatever is predicted; None where they do not.

    Args:
        metric: `roc_auc`, `pr_auc`, `g_mean` or `mcc`; any other is defined on all rows.
        support: rows of each class.
        classes: their names.
    """
    absent = [name for name, rows in zip(classes, support, strict=True) if not rows]
    alone = [name for name, rows in zip(classes, support, strict=True) if rows == sum(support)]
    if metric == "mcc" and alone:
        return f"every row is of {alone[0]!r}"
    if metric == "g_mean" and absent:
        return f"no row of {_listed(absent)}"
    if metric == "pr_auc" and absent:
        return f"undefined for {_listed(absent)}"
    if metric == "roc_auc" and (absent or alone):
        return f"undefined for {_listed([name for name in classes if name in absent or name in alone])}"
    return None


def by_labels_of_class(part: str, support: int, rows: int) -> str | None:
    """Why true classes alone leave a score of one class undefined, or without a meaning; None where they do not."""
    if support == 0:
        return ABSENT
    return "every row is of this class" if part == "roc_auc" and support == rows else None


def reasons(per_class: Mapping[str, Scores]) -> dict[str, str]:
    """A sentence for every figure that is None, or that is a mean over less than all classes."""
    found: dict[str, str] = {}
    rows = sum(scores.support for scores in per_class.values())
    for name, scores in per_class.items():
        if scores.precision is None:
            found[f"precision of {name!r}"] = "this class is never predicted"
        if scores.recall is None:
            found[f"recall of {name!r}"] = ABSENT
        if scores.f1 is None:
            found[f"f1 of {name!r}"] = f"{ABSENT}, and it is never predicted"
        for part in ("roc_auc", "pr_auc"):
            if reason := by_labels_of_class(part, scores.support, rows):
                found[f"{part} of {name!r}"] = reason
    return found | _reasons_of_means(per_class)


def _reasons_of_means(per_class: Mapping[str, Scores]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in ("precision", "recall", "f1"):
        if names := [name for name, scores in per_class.items() if getattr(scores, part) is None]:
            found[f"macro_{part}"] = f"counts the undefined {part} of {_listed(names)} as 0"
    support = [scores.support for scores in per_class.values()]
    if absent := [name for name, rows in zip(per_class, support, strict=True) if not rows]:
        found["balanced_accuracy"] = f"mean over the classes that have rows; no row of {_listed(absent)}"
    for metric in ("g_mean", "mcc", "roc_auc", "pr_auc"):
        if reason := by_labels(metric, support, list(per_class)):
            found[metric] = reason
    constant = [name for name, scores in per_class.items() if scores.predicted == sum(support)]
    if constant and "mcc" not in found:
        found["mcc"] = f"every row is predicted as {constant[0]!r}"
    return found


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
