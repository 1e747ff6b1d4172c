"""Which rows an epoch visits: class-balanced draws, and as few rows of each class as the rarest has."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

from zoo.specs import ClassStatistics, Plan


@dataclass(frozen=True, kw_only=True, slots=True)
class BalancedSampler:
    """Parameters of `balanced-sampler`.

    Attributes:
        q: a class is drawn in proportion to its count to this power: 0 draws all alike, 1 as they come, in [0, 1).
        progressive: epochs over which the draws go from as they come to `q`; none for `q` from the first.
    """

    q: float = 0.0
    progressive: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.q < 1.0:
            raise ValueError(f"q must lie in [0, 1), not {self.q}; at 1 rows would be drawn as they come")
        if self.progressive is not None and self.progressive < 1:
            raise ValueError(f"progressive is a number of epochs, at least 1, not {self.progressive}")


def balanced_shift(statistics: ClassStatistics, q: float) -> tuple[float, ...]:
    """By how much class-balanced draws multiply each class's share, as logarithms."""
    return tuple((q - 1) * math.log(count) for count in statistics.counts)


def balanced_sampler_plan(statistics: ClassStatistics, parameters: BalancedSampler) -> Plan:
    """As many draws as there are rows, with replacement, a class in proportion to n_c^q.

    Square-root (q = 0.5) and progressively balanced sampling: Kang et al. 2020, "Decoupling representation and
    classifier for long-tailed recognition". Its shift is that of the last epochs.
    """
    from zoo_imbalance._samplers import balanced

    return Plan(
        strategy="balanced-sampler",
        sampler=partial(balanced, parameters.q, parameters.progressive),
        shift=balanced_shift(statistics, parameters.q),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class DeferredSampler:
    """Parameters of `drs`; `start` is the part of the run that is over when draws begin to be balanced."""

    start: float = 0.8

    def __post_init__(self) -> None:
        if not 0.0 <= self.start < 1.0:
            raise ValueError(f"start is a part of the run, in [0, 1), not {self.start}")


def deferred_sampler_plan(statistics: ClassStatistics, parameters: DeferredSampler) -> Plan:
    """Deferred re-sampling: rows as they come first, class-balanced in the last part of the run (Cao et al. 2019)."""
    from zoo_imbalance._samplers import balanced

    return Plan(
        strategy="drs",
        sampler=partial(balanced, 0.0, None),
        shift=balanced_shift(statistics, 0.0),
        gate=(parameters.start, 1.0),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Undersample:
    """Parameters of `undersample`.

    Attributes:
        ratio: the rarest class has at least this share of the rows of every other, in (0, 1].
        redraw: whether each epoch draws other rows.
    """

    ratio: float = 1.0
    redraw: bool = True

    def __post_init__(self) -> None:
        if not 0.0 < self.ratio <= 1.0:
            raise ValueError(f"ratio must lie in (0, 1], not {self.ratio}")


def undersample_plan(statistics: ClassStatistics, parameters: Undersample) -> Plan:
    """Of each class at most the rarest one's count over `ratio`, without replacement."""
    from zoo_imbalance._samplers import undersampled

    most = max(1, int(min(statistics.counts) / parameters.ratio + 1e-9))
    shift = tuple(math.log(min(count, most) / count) for count in statistics.counts)
    return Plan(strategy="undersample", sampler=partial(undersampled, most, parameters.redraw), shift=shift)
