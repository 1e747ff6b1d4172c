"""Ensembles of heads on shared features: bagging, balanced bagging, EasyEnsemble, RUSBoost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

from zoo.specs import Argument, Call, ClassStatistics, Plan
from zoo_imbalance.samplers import balanced_shift

DEEPEST = 8
"""As of the head `trees`."""


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, not {count}")
    if counts.get("depth", 1) > DEEPEST:
        raise ValueError(f"depth must be at most {DEEPEST}, not {counts['depth']}: trees are kept whole")


def _call(name: str, **values: int) -> Call:
    return Call(name=name, arguments=tuple(Argument(name=key, value=own, column=0) for key, own in values.items()))


@dataclass(frozen=True, kw_only=True, slots=True)
class Bagging:
    """Parameters of `bagging` and `balanced-bagging`.

    Attributes:
        members: logistic regressions, whose probabilities are averaged.
        c: inverse strength of their L2 penalty, as in scikit-learn; by default 4 / features, under which logits of
            standardised features have a standard deviation of 2, as for the linear head.
    """

    members: int = 10
    c: float | None = None

    def __post_init__(self) -> None:
        _check_counts(members=self.members)
        if self.c is not None and not 0.0 < self.c < math.inf:
            raise ValueError(f"c must be positive, not {self.c}")


def bagging_plan(statistics: ClassStatistics, parameters: Bagging) -> Plan:
    """Logistic regressions on bootstrap samples (Breiman 1996), probabilities averaged."""
    from zoo_imbalance._ensembles import bagged

    return Plan(
        strategy="bagging",
        head=_call("ensemble", members=parameters.members),
        head_fitter=partial(bagged, parameters.members, parameters.c, len(statistics.counts)),
    )


def balanced_bagging_plan(statistics: ClassStatistics, parameters: Bagging) -> Plan:
    """As bagging, each bootstrap sample cut down to as many rows of each class as the rarest has there."""
    from zoo_imbalance._ensembles import balanced_bagged

    return Plan(
        strategy="balanced-bagging",
        head=_call("ensemble", members=parameters.members),
        head_fitter=partial(balanced_bagged, parameters.members, parameters.c, len(statistics.counts)),
        shift=balanced_shift(statistics, 0.0),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class EasyEnsemble:
    """Parameters of `easy-ensemble`: members, boosting rounds of each, and depth of their trees."""

    members: int = 10
    rounds: int = 20
    depth: int = 1

    def __post_init__(self) -> None:
        _check_counts(members=self.members, rounds=self.rounds, depth=self.depth)


def easy_ensemble_plan(statistics: ClassStatistics, parameters: EasyEnsemble) -> Plan:
    """AdaBoost on balanced samples, probabilities averaged (Liu, Wu and Zhou 2009)."""
    from zoo_imbalance._ensembles import easy_ensemble

    sizes = (parameters.members, parameters.rounds, parameters.depth)
    return Plan(
        strategy="easy-ensemble",
        head=_call("trees", members=parameters.members, rounds=parameters.rounds, depth=parameters.depth),
        head_fitter=partial(easy_ensemble, *sizes, len(statistics.counts)),
        shift=balanced_shift(statistics, 0.0),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class RusBoost:
    """Parameters of `rusboost`: boosting rounds, depth of their trees, and the learning rate of boosting.

    A tree has to be better than chance over all rows; with more classes that takes deeper ones.
    """

    rounds: int = 50
    depth: int = 3
    rate: float = 1.0

    def __post_init__(self) -> None:
        _check_counts(rounds=self.rounds, depth=self.depth)
        if not 0.0 < self.rate <= 10.0:
            raise ValueError(f"rate must lie in (0, 10], not {self.rate}")


def rusboost_plan(statistics: ClassStatistics, parameters: RusBoost) -> Plan:
    """AdaBoost that undersamples to balance in each round (Seiffert et al. 2010)."""
    from zoo_imbalance._ensembles import rusboost

    return Plan(
        strategy="rusboost",
        head=_call("trees", members=1, rounds=parameters.rounds, depth=parameters.depth),
        head_fitter=partial(rusboost, parameters.rounds, parameters.depth, parameters.rate, len(statistics.counts)),
        shift=balanced_shift(statistics, 0.0),
    )
