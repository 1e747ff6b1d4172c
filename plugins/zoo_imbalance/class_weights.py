"""Class weights: the loss of each row is multiplied by the weight of its class."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from zoo.specs import ClassStatistics, Plan

DEFAULT_BETA = 0.9999
"""Of the effective number, as in the paper's code."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassWeights:
    """Parameters of `class-weights`.

    Attributes:
        method: `inverse` (the default), `sqrt`, `power` or `effective-number`.
        gamma: of `power`, in [0, 1]: 0 weighs all classes alike, 1 is `inverse`, 0.5 (the default) is `sqrt`.
        beta: of the effective number, in [0, 1); 0 weighs all classes alike, towards 1 it becomes `inverse`. Default
            0.9999.
        weights: the weight of every class by its name, instead of a method.
    """

    method: Literal["inverse", "sqrt", "power", "effective-number"] | None = None
    gamma: float | None = None
    beta: float | None = None
    weights: Mapping[str, float] | None = field(
        default=None, metadata={"examples": ({"c0": 1.0, "c1": 2.0}, {"c0": 1.0, "c1": 2.0, "c2": 2.0, "c3": 1.5})}
    )

    def __post_init__(self) -> None:
        given = {"method": self.method, "beta": self.beta, "gamma": self.gamma}
        also = next((f"{name}={value}" for name, value in given.items() if value is not None), None)
        if self.weights is not None and also:
            raise ValueError(f"weights and {also} exclude each other: give the weights, or the method that finds them")
        if self.beta is not None and self.method != "effective-number":
            raise ValueError("beta belongs to method=effective-number")
        if self.gamma is not None and self.method != "power":
            raise ValueError("gamma belongs to method=power")
        if self.gamma is not None and not 0.0 <= self.gamma <= 1.0:
            raise ValueError(f"gamma must lie in [0, 1], not {self.gamma}")
        if self.beta is not None and not 0.0 <= self.beta < 1.0:
            raise ValueError(f"beta must lie in [0, 1), not {self.beta}")
        for name, weight in (self.weights or {}).items():
            if not (weight > 0 and math.isfinite(weight)):
                raise ValueError(f"the weight of {name!r} must be a positive number, not {weight}")


def class_weights_plan(statistics: ClassStatistics, parameters: ClassWeights) -> Plan:
    """The plan of class weights for the training rows counted in `statistics`.

    Where a row has several labels, each is weighed where it is there: by the ratio of rows without it to rows with it
    (`pos_weight` of torch's `BCEWithLogitsLoss`), a power of that, or the ratio of effective numbers.

    Raises:
        ValueError: `weights` names a class that there is not, or leaves one out.
    """
    if parameters.weights is not None:
        weights = _by_name(statistics, parameters.weights)
    elif statistics.task.kind == "multilabel":
        weights = _of_labels(statistics, parameters)
    elif parameters.method == "effective-number":
        weights = effective_number(statistics.counts, DEFAULT_BETA if parameters.beta is None else parameters.beta)
    elif parameters.method in ("sqrt", "power"):
        weights = power(statistics.counts, 0.5 if parameters.gamma is None else parameters.gamma)
    else:
        weights = inverse_frequency(statistics.counts)
    shift = tuple(math.log(weight) for weight in weights)
    return Plan(strategy="class-weights", element_weights=weights, shift=shift)


def _of_labels(statistics: ClassStatistics, parameters: ClassWeights) -> tuple[float, ...]:
    pairs = list(zip(statistics.absent, statistics.counts, strict=True))
    if parameters.method == "effective-number":
        beta = DEFAULT_BETA if parameters.beta is None else parameters.beta
        if beta == 0.0:
            return (1.0,) * len(pairs)
        return tuple(
            math.expm1(absent * math.log(beta)) / math.expm1(there * math.log(beta)) for absent, there in pairs
        )
    gamma = {"sqrt": 0.5, "power": 0.5 if parameters.gamma is None else parameters.gamma}.get(
        parameters.method or "", 1.0
    )
    return tuple((absent / there) ** gamma for absent, there in pairs)


def inverse_frequency(counts: tuple[int, ...]) -> tuple[float, ...]:
    """N / (K n_c) for the counts n_c of K classes; over the N rows they sum to N (`balanced` in scikit-learn)."""
    rows, classes = sum(counts), len(counts)
    return tuple(rows / (classes * count) for count in counts)


def power(counts: tuple[int, ...], gamma: float) -> tuple[float, ...]:
    """n_c^-γ, scaled so that over the rows they sum to their number, as those of `inverse_frequency`."""
    raw = [count**-gamma for count in counts]
    scale = sum(counts) / sum(weight * count for weight, count in zip(raw, counts, strict=True))
    return tuple(weight * scale for weight in raw)


def effective_number(counts: tuple[int, ...], beta: float) -> tuple[float, ...]:
    """(1 - β) / (1 - β^n_c), scaled to sum to the number of classes.

    Cui et al. 2019, Class-Balanced Loss Based on Effective Number of Samples. The scale stands in for 1 - β, and
    expm1 keeps the digits that 1 - β^n would lose where β is close to 1.
    """
    if beta == 0.0:
        return (1.0,) * len(counts)
    raw = [-1.0 / math.expm1(count * math.log(beta)) for count in counts]
    scale = len(counts) / sum(raw)
    return tuple(weight * scale for weight in raw)


def _by_name(statistics: ClassStatistics, weights: Mapping[str, float]) -> tuple[float, ...]:
    classes = statistics.task.classes
    unknown = [repr(name) for name in weights if name not in classes]
    missing = [repr(name) for name in classes if name not in weights]
    if unknown or missing:
        wrong = [f"{', '.join(unknown)} is no class"] if unknown else []
        wrong += [f"{', '.join(missing)} has no weight"] if missing else []
        raise ValueError(
            f"{' and '.join(wrong)}; weights must name each class of {statistics.task.name}: " + ", ".join(classes)
        )
    return tuple(float(weights[name]) for name in classes)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeferredWeights:
    """Parameters of `drw`.

    Attributes:
        start: the part of the run that is over when the weights begin to act; 0.8 as in the paper.
        beta: of the effective number, as of `class-weights`.
    """

    start: float = 0.8
    beta: float = DEFAULT_BETA

    def __post_init__(self) -> None:
        if not 0.0 <= self.start < 1.0:
            raise ValueError(f"start is a part of the run, in [0, 1), not {self.start}")
        if not 0.0 <= self.beta < 1.0:
            raise ValueError(f"beta must lie in [0, 1), not {self.beta}")


def deferred_weights_plan(statistics: ClassStatistics, parameters: DeferredWeights) -> Plan:
    """Deferred re-weighting: none first, effective-number weights in the last part of the run.

    Cao et al. 2019, "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss".
    """
    weights = effective_number(statistics.counts, parameters.beta)
    return Plan(
        strategy="drw",
        element_weights=weights,
        shift=tuple(math.log(weight) for weight in weights),
        gate=(parameters.start, 1.0),
    )
