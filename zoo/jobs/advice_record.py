"""What `zoo advise` found, as JSON values and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from zoo.config import AdviseConfig
from zoo.jobs.job import Job
from zoo.jobs.outcome import thumbnail_of
from zoo.metrics.label_errors import Suspect
from zoo.metrics.learning_curve import Curve, law_json, need, rank_gains
from zoo.metrics.near_duplicates import Duplicates
from zoo.report.advise_page import SHOWN

FORMAT = 1

MORE = 100
"""New images whose gain is named."""

NAMES = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True, eq=False)
class AdviceData:
    """Features of every usable row, and what is known of it; arrays have a row for each.

    Attributes:
        rows: positions in the table.
        codes: of the first target's classes, -1 where unknown.
        splits: `train`, `val` or `test`.
    """

    job: Job
    features: Tensor
    rows: NDArray[np.int64]
    codes: NDArray[np.int64]
    splits: NDArray[np.str_]

    @property
    def classes(self) -> tuple[str, ...]:
        """Of the first target."""
        return self.job.data.tasks[0].classes

    def known(self, *names: str) -> NDArray[np.int64]:
        """Places of labelled rows of these splits."""
        return np.flatnonzero(np.isin(self.splits, names) & (self.codes >= 0))


def advice_json(
    config: AdviseConfig, data: AdviceData, curves: Mapping[str, Curve], refused: Mapping[str, str]
) -> dict[str, Any]:
    """What stands in `advise.json`, but for near-duplicates and labels."""
    gains = rank_gains(curves, MORE)
    prepared = data.job.data
    return {
        "format": FORMAT,
        "backbone": data.job.model.view.name,
        "weights": data.job.model.view.weights,
        "data": prepared.table.name,
        "target": prepared.tasks[0].name,
        "rows": {name: int((data.splits == name).sum()) for name in NAMES},
        "split": prepared.splits.how,
        "notes": [*prepared.table.notes, *prepared.warnings],
        "seed": config.seed,
        "orders": config.orders,
        "per_class": config.per_class,
        "target_recall": config.target_recall,
        "more": MORE,
        "classes": {name: _class_json(curves[name], config, asdict(gain)) for name, gain in gains.items()},
        "refused": dict(refused),
        "advice": _sentence(curves, gains),
    }


def _class_json(curve: Curve, config: AdviseConfig, gain: Mapping[str, float]) -> dict[str, Any]:
    """A class in `advise.json`; `others` is how the mean recall of the others moves from the half to all rows."""
    middle = len(curve.measured.sizes) - 2
    others = curve.measured.others.mean(axis=1)
    moved = float(others[-1] - others[middle])
    return {
        "sizes": list(curve.measured.sizes),
        "recalls": curve.recalls.tolist(),
        "validation_rows": curve.measured.found.shape[2],
        "recall": curve.recall,
        "law": law_json(curve),
        "missed": dict(zip(("value", "low", "high"), curve.missed, strict=True)),
        "held": curve.held,
        "gain": dict(gain),
        "need": asdict(need(curve, config.target_recall)),
        "others": {"from_rows": curve.measured.sizes[middle], "recall": moved if np.isfinite(moved) else None},
    }


def _sentence(curves: Mapping[str, Curve], gains: Mapping[str, Any]) -> str:
    """Which class to collect first, or that the data do not say."""
    name, gain = next(iter(gains.items()))
    interval = f"{gain.low:.3f} to {gain.high:.3f}"
    said = f"{MORE} more images of {name} raise its recall by about {gain.recall:.3f} ({interval})"
    if not curves[name].held:
        return f"Which class gains most cannot be said: by the curves {said}, but that curve failed its own test."
    if gain.low < 0.005:
        return f"No class clearly gains from {MORE} more images; the most by the curves: {said}."
    if len(curves) == 1:
        return f"{said}; no other class has a curve."
    if gain.first < 0.8:
        second = list(gains)[1]
        doubt = f"whether {second} gains more cannot be said"
        return f"{said}; {doubt}: {name} is first in {gain.first:.0%} of the resamples."
    return f"{said}, more than any other class in {gain.first:.0%} of the resamples."


def _place(data: AdviceData, place: int) -> dict[str, Any]:
    table, code = data.job.data.table, int(data.codes[place])
    return {
        "row": int(data.rows[place]),
        "image": table.frame[table.roles.image][int(data.rows[place])],
        "split": str(data.splits[place]),
        "label": data.classes[code] if code >= 0 else None,
    }


def pairs_json(config: AdviseConfig, data: AdviceData, twins: Duplicates) -> dict[str, Any]:
    """Pairs by kind: across splits first, whatever their labels; then inside a class, and between classes."""
    kinds: dict[str, list[dict[str, Any]]] = {"across splits": [], "inside one class": [], "between classes": []}
    for pair in twins.pairs:
        one, other = _place(data, pair.first), _place(data, pair.second)
        kind = "inside one class" if one["label"] == other["label"] else "between classes"
        if one["split"] != other["split"]:
            kind = "across splits"
        kinds[kind].append({"first": one, "second": other, "cosine": pair.cosine, "exact": pair.exact})
    return {"cosine": config.duplicates, "total": twins.total, "kept": len(twins.pairs), "pairs": kinds}


def labels_json(
    config: AdviseConfig, data: AdviceData, wrong: tuple[Suspect, ...], left_out: list[str]
) -> dict[str, Any]:
    """Labels that the features contradict."""
    rows = [
        {
            **_place(data, each.row),
            "suggested": data.classes[each.suggested],
            "of_given": each.of_given,
            "of_suggested": each.of_suggested,
        }
        for each in wrong
    ]
    return {"looked": config.labels, "judged": len(data.known("train", "val")), "too_few": left_out, "rows": rows}


def thumbnails(found: Mapping[str, Any], data: AdviceData) -> dict[int, bytes]:
    """Small pictures of the rows that the page shows, by row."""
    shown = [
        pair[side]
        for pairs in found["duplicates"]["pairs"].values()
        for pair in pairs[:SHOWN]
        for side in ("first", "second")
    ]
    rows = sorted({each["row"] for each in (*shown, *found["labels"]["rows"][:SHOWN])})
    images = data.job.data.images
    return {row: thumbnail_of(images.pixels(np.array([row]))[0], images.spec) for row in rows}
