"""How good predicted numbers are; what cannot be known is None, with its reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.errors import DataError
from zoo.metrics import names
from zoo.metrics.intervals import RESAMPLES, Intervals
from zoo.metrics.row_bootstrap import row_bootstrap
from zoo.specs import Task

METRICS = ("nmse", "rmse", "mae", "r2", "spearman")
"""What may choose the best epoch; the first does where nobody says otherwise."""

RANGES = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class RegressionMetrics:
    """The report of one task on one set of rows.

    Attributes:
        rows: number of rows scored.
        mae, rmse: mean absolute error, and root of the mean squared one, in the target's units.
        nmse: mean squared error in units of the training rows' variance; their mean as the prediction gives about 1.
        r2: share of the variance here that is explained; None without a variance.
        spearman: rank correlation; None where all values, or all predictions, are the same.
        bias: mean of prediction minus value.
        ranges: rows by value in groups of about equal size: `rows`, mean `true` value and mean `predicted` one, and
            `low` and `high`, between which eight in ten predictions lie.
        intervals: how far off the figures may be.
        undefined: by the name of a value, why it is None.
    """

    kind: str = "regression"
    rows: int
    mae: float
    rmse: float
    nmse: float
    r2: float | None
    spearman: float | None
    bias: float
    ranges: tuple[Mapping[str, float], ...]
    intervals: Intervals
    undefined: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            **values,
            "ranges": [dict(each) for each in self.ranges],
            "intervals": self.intervals.to_json(),
            "undefined": dict(self.undefined),
        }


def regression_metrics(
    predicted: Tensor, truth: Tensor, task: Task, *, resamples: int = RESAMPLES
) -> RegressionMetrics:
    """Score predicted numbers.

    Args:
        predicted: float (N,), in the target's units.
        truth: the same; rows without a value are left out before.
        task: says in which units errors are one.
        resamples: of the bootstrap intervals.

    Raises:
        ValueError: no rows, or numbers that are not finite.
    """
    predicted, truth = _checked(predicted, truth)

    def score(rows: Tensor) -> dict[str, Tensor]:
        return figures(predicted[rows], truth[rows], task.scale)

    whole = {name: float(value) for name, value in score(torch.arange(len(truth))[None]).items()}
    return RegressionMetrics(
        rows=len(truth),
        **{name: None if value != value else value for name, value in whole.items()},  # type: ignore[arg-type]
        ranges=_ranges(predicted, truth),
        intervals=row_bootstrap(score, len(truth), resamples=resamples),
        undefined=_reasons(predicted, truth),
    )


def _checked(predicted: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    if not len(truth):
        raise ValueError("no rows to score")
    predicted, truth = predicted.double().flatten().cpu(), truth.double().flatten().cpu()
    if not bool(predicted.isfinite().all() and truth.isfinite().all()):
        raise ValueError("predictions or values are not all finite")
    return predicted, truth


def figures(predicted: Tensor, truth: Tensor, scale: float) -> dict[str, Tensor]:
    """Each figure (B,) of B sets of rows (B, N), NaN where undefined."""
    errors = predicted - truth
    squared = errors.square().mean(dim=1)
    spread = (truth - truth.mean(dim=1, keepdim=True)).square().mean(dim=1)
    return {
        "mae": errors.abs().mean(dim=1),
        "rmse": squared.sqrt(),
        "nmse": squared / scale**2,
        "r2": torch.where(spread > 0, 1 - squared / spread, torch.nan),
        "spearman": correlation(average_ranks(predicted), average_ranks(truth)),
        "bias": errors.mean(dim=1),
    }


def correlation(one: Tensor, other: Tensor) -> Tensor:
    """Pearson's correlation (B,) of the rows of (B, N) and (B, N), NaN where one of them is constant."""
    one, other = one - one.mean(dim=1, keepdim=True), other - other.mean(dim=1, keepdim=True)
    squares = one.square().sum(dim=1) * other.square().sum(dim=1)
    return torch.where(squares > 0, (one * other).sum(dim=1) / squares.sqrt(), torch.nan)


def average_ranks(values: Tensor) -> Tensor:
    """Ranks (B, N) within each row of `values`, from 1; equal values share the mean of theirs."""
    ordered, order = values.sort(dim=1)
    places = torch.arange(values.shape[1], dtype=torch.float64).expand_as(values)
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    groups = new.cumsum(dim=1) - 1
    sums = torch.zeros_like(places).scatter_add(1, groups, places)
    sizes = torch.zeros_like(places).scatter_add(1, groups, torch.ones_like(places))
    shared = (sums / sizes.clamp_min(1)).gather(1, groups) + 1
    return torch.zeros_like(shared).scatter(1, order, shared)


def _ranges(predicted: Tensor, truth: Tensor) -> tuple[dict[str, float], ...]:
    values = truth.numpy()
    edges = np.unique(values)
    if len(edges) > RANGES:
        edges = np.unique(np.quantile(values, np.linspace(0, 1, RANGES + 1)[:-1]))
    places = np.searchsorted(edges, values, side="right")
    found = []
    for place in np.unique(places):
        own = predicted.numpy()[places == place]
        low, high = np.quantile(own, [0.1, 0.9])
        means = {"true": values[places == place].mean(), "predicted": own.mean(), "low": low, "high": high}
        found.append({"rows": len(own), **{name: float(value) for name, value in means.items()}})
    return tuple(found)


def _reasons(predicted: Tensor, truth: Tensor) -> dict[str, str]:
    found = {}
    if bool((truth == truth[0]).all()):
        found["r2"] = found["spearman"] = f"every row has the value {float(truth[0]):g}"
    elif bool((predicted == predicted[0]).all()):
        found["spearman"] = f"every prediction is {float(predicted[0]):g}"
    return found


def check_name(name: str) -> None:
    """Refuse a metric that numbers do not have.

    Raises:
        UnknownNameError: naming the choices and close ones.
    """
    names.check_name(name, METRICS, of="numbers")


def check_values(name: str, truth: Tensor, rows: str) -> None:
    """Refuse a metric that these values leave undefined whatever is predicted.

    Raises:
        DataError: it is; says why.
    """
    if name in ("r2", "spearman") and bool((truth == truth[0]).all()):
        raise DataError(f"{name} is undefined on {rows}: every value is the same; choose by {METRICS[0]}")


def epoch_value(predicted: Tensor, truth: Tensor, task: Task, name: str) -> float:
    """The metric alone; a correlation of predictions that are all the same counts as 0."""
    predicted, truth = _checked(predicted, truth)
    return float(figures(predicted[None], truth[None], task.scale)[name].nan_to_num(0.0))
