"""The ledger: how the plans of one target shift the class prior in training, added up and held against what happens.

With log prior p (centred) and summed shift A (centred), r = <A, -p> / <p, p> is the share of the imbalance that is
corrected: 0 is none, 1 all of it. Where a row has several labels, p are their log odds, and nothing is centred.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.specs import ClassStatistics, Plan

UNDER, OVER = -0.05, 1.05

DEVIATIONS = 5.0
"""A class may be drawn more or less often than declared by so many standard deviations of a binomial draw."""


def centred(values: Sequence[float]) -> list[float]:
    """The values less their mean."""
    mean = math.fsum(values) / max(1, len(values))
    return [value - mean for value in values]


def shift_of(plan: Plan) -> tuple[float, ...] | None:
    """What a plan declares; weights on the loss are a shift though it declares none."""
    if plan.shift is None and plan.element_weights is not None and min(plan.element_weights) > 0:
        return tuple(math.log(weight) for weight in plan.element_weights)
    return plan.shift


def drawn_shift(plan: Plan) -> tuple[float, ...] | None:
    """The part of a plan's shift that is not of its weights: how often its sampler or resamplers give each class."""
    if plan.shift is None or plan.element_weights is None:
        return plan.shift
    return tuple(own - math.log(weight) for own, weight in zip(plan.shift, plan.element_weights, strict=True))


def share_of(shift: Sequence[float], statistics: ClassStatistics) -> float:
    """The share r of the imbalance that a shift corrects; 0 where the classes are equal.

    With equal classes there is no imbalance to correct, and any weights are the user's own wish.
    """
    prior, several = statistics.imbalance, statistics.task.kind == "multilabel"
    square = math.fsum(value * value for value in prior)
    along = -math.fsum(a * p for a, p in zip(shift if several else centred(shift), prior, strict=True))
    return along / square if square > 1e-9 else 0.0


def corrected_by(plans: Sequence[Plan], statistics: ClassStatistics, when: str = "") -> float:
    """The share of the imbalance that plans acting together correct.

    Args:
        plans: those whose training slots act.
        statistics: of the training rows.
        when: the part of the run, for messages, as in `in epochs 3 to 10`.

    Raises:
        ZooError: it is worse than none or more than all, or a shift has another number of classes.
    """
    shares = []
    for plan in plans:
        shift = shift_of(plan)
        if shift is None:
            continue
        if len(shift) != len(statistics.counts):
            raise ZooError(
                f"{plan.strategy} declares a shift of {len(shift)} classes; there are {len(statistics.counts)}"
            )
        shares.append((plan.strategy, share_of(shift, statistics)))
    total = math.fsum(share for _, share in shares)
    said = " and ".join(f"{name} ({share:+.2f})" for name, share in shares)
    where = f" {when}" if when else ""
    if total < UNDER:
        raise ZooError(
            f"{said} favours the frequent classes{where} (r = {total:+.2f}); "
            "were counts given where inverse counts were meant?"
        )
    if total > OVER:
        raise ZooError(f"the imbalance would be corrected {total:.2f} times over{where}: {said}; choose one")
    return total


def verify_shift(what: str, shift: Sequence[float] | None, labels: Tensor, drawn: Tensor, classes: int) -> None:
    """Hold a declared shift against the rows that are really drawn.

    Args:
        what: draws them, for the message.
        shift: declared, (K,), None for none.
        labels: int64 (N,) of the training rows, -1 where unknown.
        drawn: int64 (M,), the labels of the rows of an epoch.
        classes: their number, K.

    Raises:
        ZooError: a class is drawn more or less often than was declared, with the figures.
    """
    counts = torch.bincount(labels[labels >= 0], minlength=classes).double()
    found = torch.bincount(drawn[drawn >= 0], minlength=classes).double()
    factors = torch.zeros(classes) if shift is None else torch.tensor(list(shift))
    shares = counts * factors.double().exp()
    shares = shares / shares.sum()
    rows = float(found.sum())
    wanted = rows * shares
    # Half a row and a hundredth more are what rounding to whole rows may take.
    allowed = DEVIATIONS * (wanted * (1 - shares)).sqrt() + 0.5 + 0.01 * wanted
    off = (found - wanted).abs() - allowed
    if float(off.max()) <= 0:
        return
    worst = int(off.argmax())
    declared = "declares no shift of the class prior" if shift is None else "declares another shift of the class prior"
    raise ZooError(
        f"{what} {declared}: of {rows:.0f} rows of an epoch {float(wanted[worst]):.0f} would be of class {worst}, and "
        f"{float(found[worst]):.0f} are"
    )
