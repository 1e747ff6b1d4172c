"""Strategies against class imbalance: their plans built, merged slot by slot, and held against the ledger.

The ledger adds up how the plans of one target shift the class prior in training. With log prior p (centred) and summed
shift A (centred), r = <A, -p> / <p, p> is the share of the imbalance that is corrected: 0 is none, 1 all of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from zoo.errors import OptionError, ZooError
from zoo.registry.guard import fault, guarded
from zoo.registry.lookup import STRATEGIES
from zoo.specs import EXCLUSIVE_SLOTS, Call, ClassStatistics, Plan, Target, bind, parse_options
from zoo.specs.plans import Criterion, IndexSampler

SERVED = ("element_weights", "logit_bias", "sampler", "criterion")
"""Slots that the engine fills; a plan that needs another is refused, not half obeyed."""

UNDER, OVER = -0.05, 1.05


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the strategies of one target come to.

    Attributes:
        strategies: the calls, for the record.
        element_weights: float (K,), factors on the loss of each row by its class, or None.
        logit_bias: float (K,), added to the logits at inference, or None.
        corrected: share of the imbalance that training corrects, from the ledger.
        sampler, criterion: of the one plan that claims the slot, or None.
    """

    strategies: tuple[str, ...] = ()
    element_weights: tuple[float, ...] | None = None
    logit_bias: tuple[float, ...] | None = None
    corrected: float = 0.0
    sampler: IndexSampler | None = None
    criterion: Criterion | None = None

    def weights(self, target: Target) -> Tensor | None:
        """The factor (B,) of each row by its class: for soft targets the mean over their classes."""
        if self.element_weights is None:
            return None
        table = torch.tensor(self.element_weights, dtype=torch.float32, device=target.value.device)
        return table[target.value] if target.value.ndim == 1 else target.value.float() @ table


def answer(text: str, statistics: ClassStatistics) -> Answer:
    """Build and merge the strategies that `text` names, for one target.

    Args:
        text: in the grammar of options, such as `class-weights+logit-adjust(tau=0.5)`; empty or `none` for nothing.
        statistics: of the training rows.

    Raises:
        OptionError: an unknown strategy, a bad parameter, two claims on one slot.
        ZooError: the ledger does not come out between no correction and full correction.
    """
    if text.strip() in ("", "none"):
        return Answer()
    calls = parse_options(text)
    plans = [_build(call, statistics) for call in calls]
    for plan, call in zip(plans, calls, strict=True):
        _refuse_unserved(plan, call)
    corrected = _ledger(plans, statistics)
    return Answer(
        strategies=tuple(str(call) for call in calls),
        element_weights=_multiplied(plans),
        logit_bias=_bias(plans, statistics, corrected),
        corrected=corrected,
        sampler=cast("IndexSampler | None", _only("sampler", plans, calls)),
        criterion=cast("Criterion | None", _only("criterion", plans, calls)),
    )


def _build(call: Call, statistics: ClassStatistics) -> Plan:
    record = STRATEGIES.of_call(call)
    kind = statistics.task.kind
    if kind not in record.tasks:
        call.fail(f"{call.name} takes {' or '.join(sorted(record.tasks))} targets; {statistics.task.name} is {kind}")
    parameters: Any = bind(call, record.parameters)
    home, what = STRATEGIES.home(call.name), f"strategy {record.name}"
    with guarded(home, what):
        try:
            plan: object = record.build(statistics, parameters)
        except ValueError as error:  # by the contract it is the user's mistake
            call.fail(f"{call.name}: {error}")
    if not isinstance(plan, Plan):
        raise fault(home, what, f"build gave {plan!r}, which is no Plan")
    return plan


def _filled(plan: Plan) -> list[str]:
    slots = ("element_weights", "class_transforms", "resamplers", "logit_bias", "tail", *EXCLUSIVE_SLOTS)
    return [slot for slot in slots if getattr(plan, slot) not in (None, {}, ())]


def _refuse_unserved(plan: Plan, call: Call) -> None:
    unserved = [slot for slot in _filled(plan) if slot not in SERVED]
    if plan.gate != (0.0, 1.0):
        unserved.append("gate")
    if unserved:
        call.fail(f"{call.name} needs {', '.join(unserved)}, which this version of the engine does not serve")


def _only(slot: str, plans: Sequence[Plan], calls: Sequence[Call]) -> object:
    claimants = [index for index, plan in enumerate(plans) if getattr(plan, slot) is not None]
    if len(claimants) > 1:
        names = " and ".join(calls[index].name for index in claimants)
        calls[claimants[1]].fail(f"{names} both bring a {slot}; a run has one, so choose")
    return getattr(plans[claimants[0]], slot) if claimants else None


def _multiplied(plans: Sequence[Plan]) -> tuple[float, ...] | None:
    weights = [plan.element_weights for plan in plans if plan.element_weights is not None]
    return tuple(math.prod(column) for column in zip(*weights, strict=True)) if weights else None


def _centred(values: Sequence[float]) -> list[float]:
    mean = math.fsum(values) / len(values)
    return [value - mean for value in values]


def _ledger(plans: Sequence[Plan], statistics: ClassStatistics) -> float:
    """The share of the imbalance that training corrects; refuses what is worse than none and more than all."""
    prior = _centred(statistics.log_prior)
    square = math.fsum(value * value for value in prior)
    shares = []
    for plan in plans:
        shift = plan.shift
        if shift is None and plan.element_weights is not None and min(plan.element_weights) > 0:
            shift = tuple(math.log(weight) for weight in plan.element_weights)  # weights on the loss are a shift
        if shift is None:
            continue
        if len(shift) != len(prior):
            raise ZooError(f"{plan.strategy} declares a shift of {len(shift)} classes; there are {len(prior)}")
        along = -math.fsum(a * p for a, p in zip(_centred(shift), prior, strict=True))
        # With equal classes there is no imbalance to correct, and any weights are the user's own wish.
        shares.append((plan.strategy, along / square if square > 1e-9 else 0.0))
    total = math.fsum(share for _, share in shares)
    said = " and ".join(f"{name} ({share:+.2f})" for name, share in shares)
    if total < UNDER:
        raise ZooError(
            f"{said} favours the frequent classes (r = {total:+.2f}); "
            "were counts given where inverse counts were meant?"
        )
    if total > OVER:
        raise ZooError(f"the imbalance would be corrected {total:.2f} times over: {said}; choose one")
    return total


def _bias(plans: Sequence[Plan], statistics: ClassStatistics, corrected: float) -> tuple[float, ...] | None:
    """The summed biases; each sees the log prior that training has left uncorrected."""
    left = [value * (1.0 - corrected) for value in _centred(statistics.log_prior)]
    biases = [plan.logit_bias(left) for plan in plans if plan.logit_bias is not None]
    if len(biases) > 1:
        names = " and ".join(plan.strategy for plan in plans if plan.logit_bias is not None)
        raise ZooError(f"{names} each correct the logits for the class prior; choose one")
    return tuple(biases[0]) if biases else None


def bound_target(option: str) -> tuple[str | None, str]:
    """The target that `TARGET=STRATEGY` names, None where the option names none, and the strategy's text."""
    target, equals, text = option.partition("=")
    return (target.strip(), text) if equals and "(" not in target else (None, option)


def answers(options: Sequence[str], statistics: Sequence[ClassStatistics]) -> dict[str, Answer]:
    """The answer for each target from options `STRATEGY` (for the first target) or `TARGET=STRATEGY`.

    Raises:
        OptionError: a target that there is not, or one that is named twice.
    """
    names = [one.task.name for one in statistics]
    texts: dict[str, str] = {}
    for option in options:
        target, text = bound_target(option)
        name = names[0] if target is None else target
        if name not in names:
            raise OptionError(f"no target {name!r}; the targets are {', '.join(names)}", text=option, column=0)
        if name in texts:
            raise OptionError(f"two options for target {name!r}; join them with '+'", text=option, column=0)
        texts[name] = text
    return {one.task.name: answer(texts.get(one.task.name, ""), one) for one in statistics}
