"""Two stages: the backbone learns from rows as they come, then the head alone from balanced ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

from zoo.specs import ClassStatistics, Plan, Tail
from zoo_imbalance.samplers import balanced_shift


@dataclass(frozen=True, kw_only=True, slots=True)
class Retrain:
    """Parameters of `crt` and `lws`; `epochs` is the length of the second stage, which is appended to the run."""

    epochs: int = 10

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, not {self.epochs}")


def crt_plan(statistics: ClassStatistics, parameters: Retrain) -> Plan:
    """Classifier re-training: a new head on the frozen backbone, class-balanced draws (Kang et al. 2020)."""
    from zoo_imbalance._samplers import balanced

    return Plan(
        strategy="crt",
        sampler=partial(balanced, 0.0, None),
        shift=balanced_shift(statistics, 0.0),
        tail=Tail(epochs=parameters.epochs, head="reset"),
    )


def lws_plan(statistics: ClassStatistics, parameters: Retrain) -> Plan:
    """Learnable weight scaling: a factor for each class alone is learned, by balanced draws (Kang et al. 2020)."""
    from zoo_imbalance._samplers import balanced

    return Plan(
        strategy="lws",
        sampler=partial(balanced, 0.0, None),
        shift=balanced_shift(statistics, 0.0),
        tail=Tail(epochs=parameters.epochs, head="scaled"),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Mislas:
    """Parameters of `mislas`.

    Attributes:
        epochs: of the second stage, appended to the run.
        alpha: of the mixup of features in the first stage; 0 for none.
        head: smoothing of the labels of the most frequent class in the second stage.
        tail: of the rarest class.
        rate: factor on the learning rates of the second stage.
    """

    epochs: int = 10
    alpha: float = 0.2
    head: float = 0.3
    tail: float = 0.0
    rate: float = 0.5

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, not {self.epochs}")
        if not 0.0 <= self.alpha < math.inf:
            raise ValueError(f"alpha must be at least 0, not {self.alpha}")
        if not 0.0 <= self.tail <= self.head < 1.0:
            raise ValueError(f"0 <= tail <= head < 1, not tail={self.tail} and head={self.head}")
        if not 0.0 < self.rate < math.inf:
            raise ValueError(f"rate must be positive, not {self.rate}")


def smoothing(counts: tuple[int, ...], head: float, tail: float) -> tuple[float, ...]:
    """ε_c = tail + (head - tail) sin(π/2 (n_c - n_min) / (n_max - n_min)); `tail` where all classes are equal."""
    low, high = min(counts), max(counts)
    if low == high:
        return (tail,) * len(counts)
    return tuple(tail + (head - tail) * math.sin(math.pi / 2 * (count - low) / (high - low)) for count in counts)


def mislas_plan(statistics: ClassStatistics, parameters: Mislas) -> Plan:
    """Mixup first; then balanced draws, labels smoothed by class, and a factor for each class beside the head.

    Zhong et al. 2021, "Improving Calibration for Long-Tailed Recognition". Their mixup is of pixels; here it is of what
    crosses the boundary, so that features are computed once.
    """
    from zoo_imbalance._losses import label_aware
    from zoo_imbalance._mixing import plain_mixup
    from zoo_imbalance._samplers import balanced

    classes = len(statistics.counts)
    first = Plan(strategy="mislas", mixer=partial(plain_mixup, parameters.alpha, classes))
    return Plan(
        strategy="mislas",
        sampler=partial(balanced, 0.0, None),
        shift=balanced_shift(statistics, 0.0),
        criterion=partial(label_aware, smoothing(statistics.counts, parameters.head, parameters.tail)),
        tail=Tail(epochs=parameters.epochs, head="kept+scaled", rate=parameters.rate),
        beside=(first,) if parameters.alpha else (),
    )
