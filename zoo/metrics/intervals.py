"""How far off a score may be: bootstrap intervals of a report's figures, and an interval of a share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor

from zoo.metrics.areas import areas, ranking
from zoo.metrics.scores import Counts, averages, log_losses, predicted_classes

LEVEL = 0.95
RESAMPLES = 1000
SEED = 0
FEW_ROWS = 10
"""Classes with fewer rows are named: their resamples are too much alike."""
AREA_WORK = 100_000_000
"""Resamples x rows x classes up to which areas under curves get an interval: some seconds of one core."""
_AT_ONCE = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Intervals:
    """Percentile bootstrap intervals (Efron & Tibshirani 1993, chapter 13).

    Attributes:
        level: share of resamples within each interval.
        resamples: how many there were.
        seed: of the generator that drew them.
        how: a sentence that says what was resampled, and what the intervals leave out.
        bounds: (low, high) by the name of a metric that is defined on the rows.
        left_out: by the name of a metric that has none, why.
    """

    level: float = LEVEL
    resamples: int = RESAMPLES
    seed: int = SEED
    how: str = ""
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return {
            "level": self.level,
            "resamples": self.resamples,
            "seed": self.seed,
            "how": self.how,
            "bounds": {name: list(pair) for name, pair in self.bounds.items()},
            "left_out": dict(self.left_out),
        }


def bootstrap(
    probabilities: Tensor,
    labels: Tensor,
    classes: tuple[str, ...],
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    level: float = LEVEL,
) -> Intervals:
    """Percentile intervals of `AVERAGES`, `roc_auc`, `pr_auc` and `log_loss` where these are defined.

    Rows are drawn with replacement within each class, so that every resample has the classes of the whole, each as
    often: no metric becomes undefined by the draw, except `mcc` where all drawn rows are predicted alike, which counts
    as 0, its limit (Chicco & Jurman 2020).

    Args:
        probabilities: float64 (N, K), as `check_rows` returns them.
        labels: int64 (N,).
        classes: the K names.
        resamples: how many.
        seed: of their draws.
        level: share of resamples within an interval.
    """
    work = resamples * probabilities.numel()
    drawn = _Draws(probabilities, labels, curves=work <= AREA_WORK)
    scored: dict[str, list[Tensor]] = {}
    for weights in drawn.resamples(resamples, seed):
        for name, values in drawn.scores(weights).items():
            scored.setdefault(name, []).append(values)
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    bounds = {name: torch.cat(parts).quantile(ends).tolist() for name, parts in scored.items()}
    reason = f"{work:,} resampled probabilities are more than {AREA_WORK:,}"
    return Intervals(
        level=level,
        resamples=resamples,
        seed=seed,
        how=_how(level, resamples, seed, dict(zip(classes, drawn.support.tolist(), strict=True))),
        bounds={name: (low, high) for name, (low, high) in bounds.items() if low == low},
        left_out={} if work <= AREA_WORK else dict.fromkeys(("roc_auc", "pr_auc"), reason),
    )


def _how(level: float, resamples: int, seed: int, support: Mapping[str, int]) -> str:
    few = [f"{name!r} has {count}" for name, count in support.items() if 0 < count < FEW_ROWS]
    return (
        f"{level:.0%} percentile bootstrap over {resamples} resamples of the rows, drawn within each class with seed "
        f"{seed}; rows count as independent, and the spread between trainings is not in it"
    ) + (f"; too narrow where a class has fewer than {FEW_ROWS} rows: {', '.join(few)}" if few else "")


class _Draws:
    """Resamples of rows, and the scores of each; rows are sorted by class, so that those of one are neighbours."""

    def __init__(self, probabilities: Tensor, labels: Tensor, *, curves: bool) -> None:
        classes = probabilities.shape[1]
        order = labels.argsort(stable=True)
        probabilities, self.labels = probabilities[order], labels[order]
        predicted = predicted_classes(probabilities)
        self.support = torch.bincount(labels, minlength=classes)
        self.predicted = torch.bincount(predicted, minlength=classes)
        self.by_predicted = predicted.argsort(stable=True)
        self.hit = (predicted == self.labels).float()
        self.losses = log_losses(probabilities, self.labels)
        self.ranked = [ranking(probabilities, self.labels, index) for index in range(classes)] if curves else []

    def resamples(self, count: int, seed: int) -> Iterator[Tensor]:
        """How often each row counts in some resamples, float32 (B, N), until there are `count`."""
        generator, rows = torch.Generator().manual_seed(seed), len(self.labels)
        starts = (self.support.cumsum(0) - self.support)[self.labels]
        size, most = self.support[self.labels].double(), max(1, _AT_ONCE // rows)
        for done in range(0, count, most):
            own = min(most, count - done)
            picked = (torch.rand(own, rows, dtype=torch.float64, generator=generator) * size).long()
            picked += starts + rows * torch.arange(own)[:, None]
            yield torch.bincount(picked.flatten(), minlength=own * rows).reshape(own, rows).float()

    def scores(self, weights: Tensor) -> dict[str, Tensor]:
        """Metrics of each resample, float64 (B,) by name; NaN throughout where the rows leave one undefined."""
        counts = Counts(
            hits=_sums(weights * self.hit, self.support),
            support=self.support.double(),
            predicted=_sums(weights.index_select(1, self.by_predicted), self.predicted),
        )
        found = {name: values.expand(len(weights)) for name, values in averages(counts).items()}
        if len(self.labels) not in (int(self.support.max()), int(self.predicted.max())):
            found["mcc"] = found["mcc"].nan_to_num(0.0)
        found["log_loss"] = weights.double() @ self.losses / len(self.labels)
        if self.ranked:
            by_curve = [areas(each, weights) for each in self.ranked]
            found["roc_auc"] = torch.stack([roc for roc, _ in by_curve]).mean(dim=0)
            found["pr_auc"] = torch.stack([precision for _, precision in by_curve]).mean(dim=0)
        return found


def _sums(values: Tensor, sizes: Tensor) -> Tensor:
    """Sums over neighbouring columns of (B, N), `sizes` (K,) of them at a time, float64 (B, K)."""
    running = torch.nn.functional.pad(values.cumsum(dim=1, dtype=torch.float64), (1, 0))
    ends = sizes.cumsum(0)
    return running[:, ends] - running[:, ends - sizes]


def share_interval(hits: int, rows: int, level: float = LEVEL) -> tuple[float, float] | None:
    """Wilson's score interval (1927) of a share: it has a width even where none or all of few rows are hit.

    Returns:
        The bounds, or None without rows.
    """
    if rows == 0:
        return None
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle = (hits + z * z / 2) / (rows + z * z)
    half = z * math.sqrt(hits * (rows - hits) / rows + z * z / 4) / (rows + z * z)
    return (0.0 if hits == 0 else middle - half, 1.0 if hits == rows else middle + half)
