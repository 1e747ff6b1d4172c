"""Why a figure of several labels a row is undefined, or what it leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Label(Protocol):
    """What the reasons need to know about one label."""

    @property
    def precision(self) -> float | None: ...  # noqa: D102
    @property
    def f1(self) -> float | None: ...  # noqa: D102
    @property
    def roc_auc(self) -> float | None: ...  # noqa: D102
    @property
    def ap(self) -> float | None: ...  # noqa: D102
    @property
    def rows(self) -> int: ...  # noqa: D102
    @property
    def support(self) -> int: ...  # noqa: D102


def lacking(own: Label) -> str | None:
    """What the rows lack to score one label; None where they lack nothing."""
    if not own.rows:
        return "this label is known of no row"
    if not own.support:
        return "no row has this label"
    return "every row has this label" if own.support == own.rows else None


def label_reasons(per_class: Mapping[str, Label], whole: Mapping[str, float]) -> dict[str, str]:
    """A sentence for every figure that is None (NaN in `whole`), or that is a mean over less than all labels."""
    found: dict[str, str] = {}
    for name, own in per_class.items():
        found |= {f"{part} of {name!r}": reason for part, reason in _of_label(own).items()}
    for metric, part in (("map", "ap"), ("roc_auc", "roc_auc")):
        if names := [repr(name) for name, own in per_class.items() if getattr(own, part) is None]:
            found[metric] = f"undefined for {', '.join(names)}"
    if names := [repr(name) for name, own in per_class.items() if own.f1 is None]:
        found["macro_f1"] = f"counts the undefined f1 of {', '.join(names)} as 0"
    means = {
        "micro_f1": "no label is there, and none is predicted",
        "subset_accuracy": "of no row are all labels known",
    }
    return found | {metric: reason for metric, reason in means.items() if whole[metric] != whole[metric]}


def _of_label(own: Label) -> dict[str, str]:
    found: dict[str, str] = {}
    if reason := lacking(own):
        found["roc_auc"] = reason
        if not own.support:
            found |= {"ap": reason, "recall": reason}
    if own.precision is None:
        found["precision"] = "this label is never predicted"
    if own.f1 is None:
        found["f1"] = "no row has this label, and it is never predicted"
    return found
