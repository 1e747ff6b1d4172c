"""Losses that see how frequent classes are, or how hard rows: focal, LDAM, balanced softmax."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

from zoo.specs import Argument, Call, ClassStatistics, Plan


@dataclass(frozen=True, kw_only=True, slots=True)
class Focal:
    """Parameters of `focal`; weights of classes (the paper's alpha) are joined, as in `focal+class-weights`.

    Attributes:
        gamma: how much less sure rows count, at least 0, at which it is the cross-entropy.
    """

    gamma: float = 2.0

    def __post_init__(self) -> None:
        if not (self.gamma == 0 or 1.0 <= self.gamma <= 10.0):
            raise ValueError(f"gamma must be 0 or lie in [1, 10], not {self.gamma}: below 1 gradients are infinite")


def focal_plan(statistics: ClassStatistics, parameters: Focal) -> Plan:
    """The focal loss, (1 - p_y)^γ times the cross-entropy; of each label for itself where there are several.

    Lin et al. 2017, "Focal Loss for Dense Object Detection". p_y is that of the unweighted cross-entropy.
    """
    from zoo_imbalance._losses import focal, sigmoid_focal

    loss = sigmoid_focal if statistics.task.kind == "multilabel" else focal
    return Plan(strategy="focal", criterion=partial(loss, parameters.gamma))


@dataclass(frozen=True, kw_only=True, slots=True)
class Ldam:
    """Parameters of `ldam`.

    Attributes:
        max_margin: of the rarest class, in units of a cosine.
        scale: what cosines are multiplied by.
    """

    max_margin: float = 0.5
    scale: float = 30.0

    def __post_init__(self) -> None:
        if not 0.0 < self.max_margin < 2.0:
            raise ValueError(f"max_margin must lie in (0, 2), not {self.max_margin}")
        if not 0.0 < self.scale < math.inf:
            raise ValueError(f"scale must be positive, not {self.scale}")


def margins(counts: tuple[int, ...], largest: float) -> tuple[float, ...]:
    """C / n_c^(1/4), C such that the largest is `largest`."""
    raw = [count**-0.25 for count in counts]
    return tuple(largest * own / max(raw) for own in raw)


def ldam_plan(statistics: ClassStatistics, parameters: Ldam) -> Plan:
    """Label-distribution-aware margins on a cosine head: the class of a row must win by more where it is rare.

    Cao et al. 2019, "Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss"; joined with `drw` as
    there. The margin acts in training alone.
    """
    from zoo_imbalance._losses import ldam

    arguments = (
        Argument(name="scale", value=parameters.scale, column=0),
        Argument(name="learn-scale", value=False, column=0),
    )
    own = tuple(parameters.scale * margin for margin in margins(statistics.counts, parameters.max_margin))
    return Plan(
        strategy="ldam",
        criterion=partial(ldam, own),
        hard_labels=True,
        head=Call(name="cosine", arguments=arguments),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class BalancedSoftmax:
    """Parameters of `balanced-softmax`; `tau` is how much of the log prior is added in training, in (0, 1]."""

    tau: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.tau <= 1.0:
            raise ValueError(f"tau must lie in (0, 1], not {self.tau}")


def balanced_softmax_plan(name: str, statistics: ClassStatistics, parameters: BalancedSoftmax) -> Plan:
    """Cross-entropy of logits + τ log π; prediction takes the logits as they are.

    Balanced softmax (Ren et al. 2020) and, the same thing, the logit-adjusted loss (Menon et al. 2021).
    """
    from zoo_imbalance._losses import prior_added

    added = tuple(parameters.tau * own for own in statistics.log_prior)
    return Plan(strategy=name, criterion=partial(prior_added, added), shift=tuple(-own for own in added))
