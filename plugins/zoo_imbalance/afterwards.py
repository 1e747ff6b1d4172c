"""What acts on a trained model: a known prior, thresholds, and class weights of one length."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from zoo.specs import ClassStatistics, Plan

Metric = Literal["balanced_accuracy", "macro_f1", "accuracy", "mcc"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PriorCorrect:
    """Parameters of `prior-correct`.

    Attributes:
        prior: the share of classes, by name, where the model will be used; classes that are not named divide the rest
            among them as they stand in the training rows.
    """

    prior: Mapping[str, float] = field(metadata={"examples": ({"c0": 0.5, "c1": 0.3}, {"c0": 0.1, "c1": 0.2})})

    def __post_init__(self) -> None:
        for name, share in self.prior.items():
            if not 0.0 < share < 1.0:
                raise ValueError(f"the share of {name!r} must lie in (0, 1), not {share}")


def prior_correct_plan(statistics: ClassStatistics, parameters: PriorCorrect) -> Plan:
    """p'(c) in proportion to p(c) π_new(c) / π(c), π the prior that training left in the logits (Saerens et al. 2002).

    Raises:
        ValueError: a share has no class, or those given leave nothing to the other classes.
    """
    classes, given = statistics.task.classes, parameters.prior
    unknown = ", ".join(repr(name) for name in given if name not in classes)
    if unknown:
        raise ValueError(f"{unknown} is no class; classes of {statistics.task.name}: " + ", ".join(classes))
    named = math.fsum(given.values())
    if set(given) != set(classes) and named >= 1.0:
        raise ValueError(f"the shares given add up to {named:g} and leave nothing to the other classes")
    others = sum(count for name, count in zip(classes, statistics.counts, strict=True) if name not in given)
    wanted = [
        given[name] / (named if not others else 1.0) if name in given else (1.0 - named) * count / others
        for name, count in zip(classes, statistics.counts, strict=True)
    ]
    return Plan(strategy="prior-correct", logit_bias=partial(_towards, tuple(map(math.log, wanted))))


def _towards(wanted: tuple[float, ...], uncorrected: Sequence[float]) -> tuple[float, ...]:
    return tuple(new - old for new, old in zip(wanted, uncorrected, strict=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class Threshold:
    """Parameters of `threshold`; `metric` is what thresholds are tuned for on validation rows."""

    metric: Metric = "macro_f1"


def threshold_plan(statistics: ClassStatistics, parameters: Threshold) -> Plan:
    """A threshold for each class, the prediction being the class that exceeds its own most: a bias on the logits.

    Tuned on validation rows by coordinate ascent over the places where predictions change. Where a row has several
    labels, each has a threshold of its own, `macro_f1` being the F1 of the label.
    """
    del statistics
    from zoo_imbalance._afterwards import tuned

    return Plan(strategy="threshold", tuned_bias=partial(tuned, parameters.metric))


@dataclass(frozen=True, kw_only=True, slots=True)
class TauNorm:
    """Parameters of `tau-norm`.

    Attributes:
        tau: 0 leaves the weights, 1 gives all classes weights of one length, in [0, 2]; none to tune it.
        metric: what tau is tuned for on validation rows, over 0, 0.1, … 2.
    """

    tau: float | None = None
    metric: Metric = "balanced_accuracy"

    def __post_init__(self) -> None:
        if self.tau is not None and not 0.0 <= self.tau <= 2.0:
            raise ValueError(f"tau must lie in [0, 2], not {self.tau}")


def tau_norm_plan(statistics: ClassStatistics, parameters: TauNorm) -> Plan:
    """W_c divided by its length to the power τ, without a bias (Kang et al. 2020), after training.

    The weights are those on standardised features. The reference implementation tunes τ on test rows; here it is
    validation rows.
    """
    del statistics
    from zoo_imbalance._afterwards import normalised

    return Plan(strategy="tau-norm", head_edit=partial(normalised, parameters.tau, parameters.metric))
