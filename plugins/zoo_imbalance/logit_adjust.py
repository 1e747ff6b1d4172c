"""Logit adjustment after training: what the class prior added to the logits is taken off again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from zoo.specs import ClassStatistics, Plan

LARGEST_TAU = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class LogitAdjust:
    """Parameters of `logit-adjust`.

    Attributes:
        tau: how much of the log prior is taken off: 1 gives balanced classes, less leans towards the frequent ones
            (0.5 often has the best macro F1), more towards the rare ones.
    """

    tau: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.tau <= LARGEST_TAU:
            raise ValueError(f"tau must lie in (0, {LARGEST_TAU:g}], not {self.tau}")


def logit_adjust_plan(statistics: ClassStatistics, parameters: LogitAdjust) -> Plan:
    """The plan of post-hoc logit adjustment: the bias -τ log π on the logits at inference, none in training.

    Menon et al. 2021, Long-tail learning via logit adjustment. At τ = 1 the adjusted softmax is p(c)/π(c), scaled to
    sum to 1 (Saerens et al. 2002). The prior π is the one that training left uncorrected, so that the strategy adds
    nothing to classes that were already balanced. Of several labels the log odds of each are taken off its logit.
    """
    return Plan(strategy="logit-adjust", logit_bias=partial(_bias, parameters.tau))


def _bias(tau: float, uncorrected: Sequence[float]) -> tuple[float, ...]:
    return tuple(-tau * own for own in uncorrected)
