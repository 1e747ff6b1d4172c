"""Bootstrap intervals of any figures that follow from rows alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from zoo.metrics.intervals import LEVEL, RESAMPLES, SEED, Intervals

WORK = 200_000_000
"""Resamples x numbers up to which figures get an interval: some seconds of one core."""

_AT_ONCE = 2_000_000
_DEFINED = 0.95
"""Share of the resamples in which a figure has to be defined."""

Score = Callable[[Tensor], Mapping[str, Tensor]]
"""From positions of rows int64 (B, N) to figures (B,) by name, NaN where undefined."""


def row_bootstrap(
    score: Score,
    rows: int,
    columns: int = 1,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    level: float = LEVEL,
) -> Intervals:
    """Percentile intervals (Efron & Tibshirani 1993, chapter 13) over rows drawn with replacement.

    Args:
        score: of some resamples.
        rows: how many there are.
        columns: numbers that each row has, for the amount of work.
        resamples: how many.
        seed: of their draws.
        level: share of resamples within an interval.
    """
    work = resamples * rows * columns
    whole = score(torch.arange(rows)[None])
    names = [name for name, value in whole.items() if not bool(value.isnan())]
    if work > WORK:
        reason = f"{work:,} resampled numbers are more than {WORK:,}"
        return Intervals(level=level, resamples=0, seed=seed, left_out=dict.fromkeys(names, reason))
    generator, most = torch.Generator().manual_seed(seed), max(1, _AT_ONCE // (rows * columns))
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    for done in range(0, resamples, most):
        drawn = torch.randint(rows, (min(most, resamples - done), rows), generator=generator)
        found = score(drawn)
        for name in names:
            parts[name].append(found[name].double())
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    bounds, left_out = {}, {}
    for name in names:
        values = torch.cat(parts[name])
        defined = values[~values.isnan()]
        if len(defined) < _DEFINED * resamples:
            left_out[name] = f"it is defined in {len(defined)} of {resamples} resamples"
            continue
        low, high = defined.quantile(ends).tolist()
        bounds[name] = (low, high)
    how = (
        f"{level:.0%} percentile bootstrap over {resamples} resamples of the rows with seed {seed}; rows count as "
        "independent, and the spread between trainings is not in it"
    )
    return Intervals(level=level, resamples=resamples, seed=seed, how=how, bounds=bounds, left_out=left_out)
