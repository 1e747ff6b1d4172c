"""Learning curves of one class: error over training rows as a power law, with intervals, and what may be read off it.

err(n) = a n^-b + c (Hestness et al. 2017; by class, arXiv 2403.06311), fitted with more weight on larger subsets
(Figueroa et al. 2012). Such curves mislead when they are carried far: from few rows they were off many times over (Jain
et al. 2023, arXiv 2303.01598). So each curve is also fitted without its largest subset and tested on it, and what the
resamples do not agree about, or what lies further than `HORIZON` times the rows there are, is not said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zoo.metrics.subsets import Measured

EXPONENTS = np.geomspace(0.05, 2.0, 80)
RESAMPLES = 400
LOW, HIGH = 0.05, 0.95
"""Bounds of every interval: nine of ten resamples lie between them."""

HORIZON = 10
"""How many times the rows there are a curve is trusted for at most."""

TOLERANCE = 0.02
"""By so much, in recall, the test of a curve on its largest subset may fail without consequences."""

RISE = 0.01
"""Less recall than this from a quarter of the rows to all of them is no rise."""

NEVER = 0.25
"""Where more than this share of the resamples never reach a target, no number of rows is named."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Laws:
    """Power laws err(n) = scale (n / unit)^-exponent + floor, each parameter of shape (B,)."""

    scale: Floats
    exponent: Floats
    floor: Floats
    unit: float

    def error(self, rows: Floats | float) -> Floats:
        """The error at each number of rows, (B, *rows.shape)."""
        n = np.asarray(rows, dtype=np.float64)[None] / self.unit
        scale, exponent, floor = (
            part.reshape(-1, *[1] * (n.ndim - 1)) for part in (self.scale, self.exponent, self.floor)
        )
        found: Floats = scale * n**-exponent + floor
        return found

    def rows_for(self, error: float) -> Floats:
        """With how many rows the error is reached, (B,), infinite where it never is."""
        room = error - self.floor
        rows = np.full(len(room), np.inf)
        reaches = room > 0
        with np.errstate(over="ignore"):
            share = self.scale[reaches] / room[reaches]
            rows[reaches] = self.unit * share ** (1 / self.exponent[reaches])
        return rows


def fit_laws(sizes: tuple[int, ...], errors: Floats) -> Laws:
    """Least squares with scale and floor at least 0: exact in both for each exponent, which is searched on a grid.

    The i-th of S sizes has the weight i / S.

    Args:
        sizes: rows, rising.
        errors: (B, S).
    """
    unit, weight = float(sizes[-1]), np.arange(1, len(sizes) + 1) / len(sizes)
    best = np.full(len(errors), np.inf)
    chosen = np.zeros((3, len(errors)))
    weight = weight / weight.sum()
    for exponent in EXPONENTS:
        x = (np.asarray(sizes) / unit) ** -exponent
        scale, floor = _straight(x, errors, weight)
        loss = ((scale[:, None] * x + floor[:, None] - errors) ** 2) @ weight
        better = loss < best - 1e-15
        best[better] = loss[better]
        chosen[:, better] = np.stack([scale, np.full_like(scale, exponent), floor])[:, better]
    return Laws(scale=chosen[0], exponent=chosen[1], floor=chosen[2], unit=unit)


def _straight(x: Floats, y: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Slope and intercept (B,), both at least 0, of y (B, S) over x (S,), the weights summing to 1."""
    mean_x, mean_y = x @ weight, y @ weight
    slope = ((y - mean_y[:, None]) * (x - mean_x)) @ weight / (((x - mean_x) ** 2) @ weight)
    slope = np.maximum(slope, 0)
    intercept = mean_y - slope * mean_x
    below = intercept < 0
    slope[below] = ((y * x) @ weight / ((x * x) @ weight))[below]
    return slope, np.maximum(intercept, 0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """One class's learning curve.

    Attributes:
        measured: what it was fitted to.
        law: fitted to the means over orders; one law.
        resampled: fitted to resamples of orders and of validation rows.
        missed: predicted minus measured error at the largest subset by the law fitted without it: value, low, high.
    """

    measured: Measured
    law: Laws
    resampled: Laws
    missed: tuple[float, float, float]

    @property
    def rows(self) -> int:
        """Training rows of the class."""
        return self.measured.sizes[-1]

    @property
    def recalls(self) -> Floats:
        """Recall by size and order, (S, R)."""
        found: Floats = self.measured.found.mean(axis=2)
        return found

    @property
    def recall(self) -> float:
        """With all rows."""
        return float(self.recalls[-1].mean())

    @property
    def held(self) -> bool:
        """Whether the law that was fitted without the largest subset predicted it."""
        value, low, high = self.missed
        return abs(value) <= TOLERANCE or low <= 0 <= high

    def band(self, rows: Floats) -> tuple[Floats, Floats]:
        """Bounds of the recall at each number of rows, from the resamples."""
        low, high = np.quantile(1 - self.resampled.error(rows), (LOW, HIGH), axis=0)
        return low, high

    def gains(self, more: int) -> tuple[float, Floats]:
        """How much recall `more` rows bring: by the law, and by each resample (B,)."""
        now, then = float(self.rows), float(self.rows + more)
        own, other = (law.error(now) - law.error(then) for law in (self.law, self.resampled))
        return float(own[0]), other


def fit_curve(measured: Measured, seed: int = 0, resamples: int = RESAMPLES) -> Curve:
    """Fit a curve and its resamples: orders and validation rows are drawn anew, alike for all sizes."""
    generator = np.random.default_rng(seed)
    _, orders, rows = measured.found.shape
    by_order = generator.multinomial(orders, np.full(orders, 1 / orders), size=resamples) / orders
    by_row = generator.multinomial(rows, np.full(rows, 1 / rows), size=resamples) / rows
    plain = 1 - measured.found.mean(axis=(1, 2))[None]
    drawn = 1 - np.einsum("srv,br,bv->bs", measured.found.astype(np.float64), by_order, by_row, optimize=True)
    last = float(measured.sizes[-1])
    fewer = (fit_laws(measured.sizes[:-1], errors[:, :-1]) for errors in (plain, drawn))
    own, others = (law.error(last) - errors[:, -1] for law, errors in zip(fewer, (plain, drawn), strict=True))
    low, high = np.quantile(others, (LOW, HIGH))
    return Curve(
        measured=measured,
        law=fit_laws(measured.sizes, plain),
        resampled=fit_laws(measured.sizes, drawn),
        missed=(float(own[0]), float(low), float(high)),
    )


@dataclass(frozen=True, kw_only=True)
class Need:
    """How many more rows of a class a target recall takes.

    Attributes:
        state: `reached`, `estimated`, or `unknown`: it cannot be said from these data.
        why: a sentence.
        more: new rows, where estimated.
        low, high: bounds of it; `high` None where the resamples give none.
    """

    state: Literal["reached", "estimated", "unknown"]
    why: str
    more: int | None = None
    low: int | None = None
    high: int | None = None


def need(curve: Curve, target: float) -> Need:
    """Read off a curve how many new rows bring the class to the target recall, or why that cannot be said."""
    rows, held = curve.rows, curve.measured.found.shape[2]
    if curve.recall >= target:
        return Need(state="reached", why=f"recall is {curve.recall:.2f} with the {rows} rows there are")
    rise = curve.resampled.error(rows / 4) - curve.resampled.error(float(rows))
    if np.quantile(rise, LOW) < RISE:
        return _unknown(f"recall does not clearly rise with its rows ({held} validation rows judge it)")
    if not curve.held:
        value = curve.missed[0]
        return _unknown(f"fitted without the largest subset, the curve missed its recall by {abs(value):.2f}")
    named = float(curve.law.rows_for(1 - target)[0])
    each = curve.resampled.rows_for(1 - target)
    never = float(np.isinf(each).mean())
    if np.isinf(named) or never > NEVER:
        return _unknown(f"the curve levels off before {target:g} in {never:.0%} of the resamples")
    if named > HORIZON * rows:
        return _unknown(f"the curve would have to hold for {named / rows:.0f} times the rows there are")
    low, high = np.sort(each)[[int(LOW * len(each)), int(HIGH * len(each))]]
    if low <= rows and high > HORIZON * rows:
        return _unknown("the resamples say anything between none at all and more than can be said")
    return Need(
        state="estimated",
        why="if the curve holds that far",
        more=max(1, round(named - rows)),
        low=max(0, round(low - rows)),
        high=None if high > HORIZON * rows else round(high - rows),
    )


def _unknown(why: str) -> Need:
    return Need(state="unknown", why=why)


@dataclass(frozen=True, kw_only=True)
class Gain:
    """What new rows of a class bring.

    Attributes:
        recall: more recall of that class.
        low, high: bounds of it.
        first: share of the resamples in which no other class gains more.
    """

    recall: float
    low: float
    high: float
    first: float


def rank_gains(curves: Mapping[str, Curve], more: int = 100) -> dict[str, Gain]:
    """The gain of each class from `more` new rows of it, the largest first."""
    both = {name: curve.gains(more) for name, curve in curves.items()}
    stacked = np.stack([resampled for _, resampled in both.values()])
    first = np.bincount(stacked.argmax(axis=0), minlength=len(both)) / stacked.shape[1]
    found = {
        name: Gain(recall=own, low=float(low), high=float(high), first=float(share))
        for (name, (own, _)), low, high, share in zip(
            both.items(), *np.quantile(stacked, (LOW, HIGH), axis=1), first, strict=True
        )
    }
    return dict(sorted(found.items(), key=lambda pair: -pair[1].recall))


def law_json(curve: Curve) -> dict[str, Any]:
    """The law as a, b and c of err(n) = a n^-b + c."""
    law = curve.law
    scale, exponent, floor = (float(part[0]) for part in (law.scale, law.exponent, law.floor))
    return {"a": scale * law.unit**exponent, "b": exponent, "c": floor}
