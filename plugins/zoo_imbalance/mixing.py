"""Mixed rows whose labels lean towards the rarer class: Remix, and mixup with class-balanced partners."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

from zoo.specs import ClassStatistics, Plan

Where = Literal["features", "pixels"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Remix:
    """Parameters of `remix`.

    Attributes:
        alpha: of the Beta distribution that shares are drawn from.
        kappa: a pair's label becomes the rarer class's where the other has at least so many times its rows, above 1.
        tau: and where that one's share of the mixture is at least 1 - tau, in [0, 1].
        on: what is mixed: features at the boundary, or pixels, which a part of the backbone has to be trained for.
    """

    alpha: float = 1.0
    kappa: float = 3.0
    tau: float = 0.5
    on: Where = "features"

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < math.inf:
            raise ValueError(f"alpha must be positive, not {self.alpha}")
        if not 1.0 < self.kappa < math.inf:
            raise ValueError(f"kappa must be more than 1, not {self.kappa}")
        if not 0.0 <= self.tau <= 1.0:
            raise ValueError(f"tau must lie in [0, 1], not {self.tau}")


def remix_plan(statistics: ClassStatistics, parameters: Remix) -> Plan:
    """Mixup whose labels lean towards the rarer class of each pair (Chou et al. 2020, "Remix: Rebalanced Mixup")."""
    from zoo_imbalance._mixing import remix

    mixer = partial(remix, parameters.alpha, parameters.kappa, parameters.tau, statistics.counts)
    return Plan(strategy="remix", mixer=mixer, acts_on=_place(parameters.on))


@dataclass(frozen=True, kw_only=True, slots=True)
class BalancedMixup:
    """Parameters of `balanced-mixup`.

    Attributes:
        alpha: of the Beta(alpha, 1) distribution that the share of the balanced partner is drawn from; the paper's 0.1
            or 0.2 keep rows much as they are.
        on: as of `remix`.
    """

    alpha: float = 0.2
    on: Where = "features"

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < math.inf:
            raise ValueError(f"alpha must be positive, not {self.alpha}")


def balanced_mixup_plan(statistics: ClassStatistics, parameters: BalancedMixup) -> Plan:
    """Each row is mixed with one that is drawn class-balanced among those of the batch.

    Galdran et al. 2021, "Balanced-MixUp for Highly Imbalanced Medical Image Classification". In the mean a part
    s = alpha / (alpha + 1) of each label is a balanced draw's, which is the shift that is declared.
    """
    from zoo_imbalance._mixing import balanced_mixup

    share, total = parameters.alpha / (parameters.alpha + 1), sum(statistics.counts)
    classes = len(statistics.counts)
    shift = tuple(math.log(1 - share + share * total / (classes * count)) for count in statistics.counts)
    mixer = partial(balanced_mixup, parameters.alpha, classes)
    return Plan(strategy="balanced-mixup", mixer=mixer, shift=shift, acts_on=_place(parameters.on))


def _place(where: Where) -> Literal["pixels", "boundary"]:
    return "pixels" if where == "pixels" else "boundary"
