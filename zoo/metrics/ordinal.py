"""How good predicted ranks are, skewed ranks in mind; what cannot be known is None, with its reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoo.errors import DataError
from zoo.metrics import names
from zoo.metrics.intervals import RESAMPLES, Intervals, share_interval
from zoo.metrics.predictions import predicted_ranks
from zoo.metrics.row_bootstrap import row_bootstrap
from zoo.metrics.scores import check_rows, log_losses

METRICS = ("log_loss", "rank_mae", "macro_rank_mae", "quadratic_kappa", "accuracy", "balanced_accuracy")
"""What may choose the best epoch; the first does where nobody says otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RankMetrics:
    """How one rank fares; None where a value is undefined.

    Attributes:
        recall_interval: Wilson's 95 % interval of the recall.
        rank_mae: mean number of ranks by which rows of this rank are off.
        support, predicted: rows of this rank, and rows taken for it.
    """

    precision: float | None
    recall: float | None
    recall_interval: tuple[float, float] | None
    f1: float | None
    rank_mae: float | None
    support: int
    predicted: int


@dataclass(frozen=True, kw_only=True, slots=True)
class OrdinalMetrics:
    """The report of one task on one set of rows.

    The predicted rank is the median of the predicted distribution, which is what counting the steps that are passed
    with more than one half gives.

    Attributes:
        rows: number of rows scored.
        classes: ranks, the lowest first.
        accuracy, balanced_accuracy: share of rows right, and mean recall over the ranks that have rows.
        rank_mae: mean number of ranks by which predictions are off.
        macro_rank_mae: mean over the ranks that have rows of that of each (Baccianella, Esuli & Sebastiani 2009).
        quadratic_kappa: Cohen's kappa with quadratic weights (Cohen 1968); None where all are of, and taken for, one.
        log_loss: mean negative log probability of the true rank, in nats.
        per_class: by rank.
        confusion: counts (K, K), rows true, columns predicted.
        intervals: how far off the figures may be.
        undefined: by the name of a value, why it is None or what it leaves out.
    """

    kind: str = "ordinal"
    rows: int
    classes: tuple[str, ...]
    accuracy: float
    balanced_accuracy: float
    rank_mae: float
    macro_rank_mae: float
    quadratic_kappa: float | None
    log_loss: float
    per_class: Mapping[str, RankMetrics]
    confusion: tuple[tuple[int, ...], ...]
    intervals: Intervals
    undefined: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            **values,
            "classes": list(self.classes),
            "per_class": {name: dataclasses.asdict(own) for name, own in self.per_class.items()},
            "confusion": [list(row) for row in self.confusion],
            "intervals": self.intervals.to_json(),
            "undefined": dict(self.undefined),
        }


def ordinal_metrics(
    probabilities: Tensor, labels: Tensor, classes: Sequence[str], *, resamples: int = RESAMPLES
) -> OrdinalMetrics:
    """Score predicted distributions over ranks.

    Args:
        probabilities: float (N, K), each row sums to 1.
        labels: int64 (N,), ranks; rows without one are left out before.
        classes: the K ranks, the lowest first.
        resamples: of the bootstrap intervals.

    Raises:
        ValueError: as `zoo.metrics.scores.check_rows`.
    """
    probabilities, labels = check_rows(probabilities, labels, len(classes))
    predicted, losses = predicted_ranks(probabilities), log_losses(probabilities, labels)

    def score(rows: Tensor) -> dict[str, Tensor]:
        return {**figures(predicted[rows], labels[rows], len(classes)), "log_loss": losses[rows].mean(dim=1)}

    everyone = torch.arange(len(labels))[None]
    whole = {name: float(value) for name, value in score(everyone).items()}
    confusion = _confusion(predicted[None], labels[None], len(classes))[0]
    return OrdinalMetrics(
        rows=len(labels),
        classes=tuple(classes),
        **{name: None if value != value else value for name, value in whole.items()},  # type: ignore[arg-type]
        per_class=_per_rank(confusion, classes),
        confusion=tuple(tuple(row) for row in confusion.long().tolist()),
        intervals=row_bootstrap(score, len(labels), resamples=resamples),
        undefined=_reasons(confusion, classes),
    )


def figures(predicted: Tensor, labels: Tensor, classes: int) -> dict[str, Tensor]:
    """Each figure (B,) of B sets of rows (B, N), NaN where undefined."""
    confusion = _confusion(predicted, labels, classes)
    support, taken = confusion.sum(dim=2), confusion.sum(dim=1)
    rows = support.sum(dim=1)
    ranks = torch.arange(classes, dtype=torch.float64)
    apart = (ranks[:, None] - ranks).abs()
    present = (support > 0).sum(dim=1)
    off = (confusion * apart).sum(dim=2)
    by_chance = (support[:, :, None] * taken[:, None] * apart.square()).sum(dim=(1, 2)) / rows
    squares = (confusion * apart.square()).sum(dim=(1, 2))
    return {
        "accuracy": confusion.diagonal(dim1=1, dim2=2).sum(dim=1) / rows,
        "balanced_accuracy": (confusion.diagonal(dim1=1, dim2=2) / support.clamp_min(1)).sum(dim=1) / present,
        "rank_mae": off.sum(dim=1) / rows,
        "macro_rank_mae": (off / support.clamp_min(1)).sum(dim=1) / present,
        "quadratic_kappa": torch.where(by_chance > 0, 1 - squares / by_chance, torch.nan),
    }


def _confusion(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Counts float64 (B, K, K), rows true, columns predicted."""
    cells = labels * classes + predicted
    counts = torch.zeros((len(cells), classes * classes), dtype=torch.float64)
    counts.scatter_add_(1, cells, torch.ones_like(cells, dtype=torch.float64))
    return counts.view(-1, classes, classes)


def _per_rank(confusion: Tensor, classes: Sequence[str]) -> dict[str, RankMetrics]:
    found = {}
    for index, name in enumerate(classes):
        hits, support, taken = (float(each) for each in (confusion[index, index], *_margins(confusion, index)))
        apart = (torch.arange(len(classes), dtype=torch.float64) - index).abs()
        found[name] = RankMetrics(
            precision=hits / taken if taken else None,
            recall=hits / support if support else None,
            recall_interval=share_interval(int(hits), int(support)),
            f1=2 * hits / (support + taken) if support + taken else None,
            rank_mae=float((confusion[index] * apart).sum()) / support if support else None,
            support=int(support),
            predicted=int(taken),
        )
    return found


def _margins(confusion: Tensor, index: int) -> tuple[Tensor, Tensor]:
    return confusion[index].sum(), confusion[:, index].sum()


def _reasons(confusion: Tensor, classes: Sequence[str]) -> dict[str, str]:
    support, taken = confusion.sum(dim=1).tolist(), confusion.sum(dim=0).tolist()
    found: dict[str, str] = {}
    for name, rows, predicted in zip(classes, support, taken, strict=True):
        if not rows:
            found |= {f"{part} of {name!r}": "no row of this rank" for part in ("recall", "rank_mae")}
        if not predicted:
            found[f"precision of {name!r}"] = "this rank is never predicted"
        if not rows and not predicted:
            found[f"f1 of {name!r}"] = "no row of this rank, and it is never predicted"
    if absent := [repr(name) for name, rows in zip(classes, support, strict=True) if not rows]:
        said = f"mean over the ranks that have rows; no row of {', '.join(absent)}"
        found |= dict.fromkeys(("balanced_accuracy", "macro_rank_mae"), said)
    alone = next((name for name, rows in zip(classes, support, strict=True) if rows == sum(support)), None)
    if alone is not None and taken == support:
        found["quadratic_kappa"] = f"every row is of, and taken for, {alone!r}"
    return found


def check_name(name: str) -> None:
    """Refuse a metric that ranks do not have.

    Raises:
        UnknownNameError: naming the choices and close ones.
    """
    names.check_name(name, METRICS, of="ranks")


def check_values(name: str, labels: Tensor, rows: str) -> None:
    """Refuse a metric that these ranks leave without a meaning, whatever is predicted.

    Raises:
        DataError: it is; says why.
    """
    if name == "quadratic_kappa" and bool((labels == labels[0]).all()):
        raise DataError(f"{name} is undefined on {rows}: every row is of one rank; choose by {METRICS[0]}")


def epoch_value(probabilities: Tensor, labels: Tensor, name: str) -> float:
    """The metric alone; one that predictions leave undefined counts as 0."""
    probabilities, labels = check_rows(probabilities, labels, probabilities.shape[1])
    if name == "log_loss":
        return float(log_losses(probabilities, labels).mean())
    found = figures(predicted_ranks(probabilities)[None], labels[None], probabilities.shape[1])
    return float(found[name].nan_to_num(0.0))
