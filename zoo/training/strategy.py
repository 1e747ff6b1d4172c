"""Strategies against class imbalance: their plans built, merged slot by slot, and held against the ledger.

A `Program` is what one target's strategies ask for over the run; `Answer` what they come to in one interval of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from zoo.errors import OptionError, ZooError
from zoo.registry.guard import fault, guarded
from zoo.registry.lookup import STRATEGIES
from zoo.specs import EXCLUSIVE_SLOTS, Call, ClassStatistics, Plan, Tail, Target, bind, parse_options
from zoo.specs.plans import (
    BatchMixer,
    BoundaryResampler,
    Criterion,
    HeadEdit,
    HeadFitter,
    ImageMaker,
    IndexSampler,
    TunedBias,
)
from zoo.training.ledger import corrected_by, drawn_shift

WHOLE_RUN = ("image_maker", "head", "head_fitter", "head_edit", "tuned_bias")
"""Exclusive slots that hold for the run, whatever the gate: which images there are, what the head is and becomes."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the strategies of one target come to in one interval of the run.

    Attributes:
        strategies: the calls, for the record.
        element_weights: float (K,), factors on the loss of each row by its class, or None.
        logit_bias: float (K,), added to the logits at inference, or None.
        corrected: share of the imbalance that training corrects, from the ledger.
        log_prior: float (K,), centred: the class prior that is in the logits when the bias is added; of several labels
            their log odds; None where there is no strategy.
        class_transforms: by class index, the name of an augmentation.
        resamplers: applied in order to the features at the boundary.
        sampler, criterion, mixer, image_maker, head, head_fitter, head_edit, tuned_bias: of the one plan that claims
            the slot.
        sampler_shift, resampler_shift, maker_shift: what the plans of those slots declare; None for none.
        mixes_pixels: whether the mixer needs images.
    """

    strategies: tuple[str, ...] = ()
    element_weights: tuple[float, ...] | None = None
    logit_bias: tuple[float, ...] | None = None
    corrected: float = 0.0
    log_prior: tuple[float, ...] | None = None
    class_transforms: Mapping[int, str] = field(default_factory=dict)
    resamplers: tuple[BoundaryResampler, ...] = ()
    sampler: IndexSampler | None = None
    criterion: Criterion | None = None
    mixer: BatchMixer | None = None
    image_maker: ImageMaker | None = None
    head: Call | None = None
    head_fitter: HeadFitter | None = None
    head_edit: HeadEdit | None = None
    tuned_bias: TunedBias | None = None
    sampler_shift: tuple[float, ...] | None = None
    resampler_shift: tuple[float, ...] | None = None
    maker_shift: tuple[float, ...] | None = None
    mixes_pixels: bool = False

    @property
    def name(self) -> str:
        """The strategies as one option."""
        return "+".join(self.strategies)

    def weights(self, target: Target) -> Tensor | None:
        """The factor (B,) of each row by its class: for soft targets the mean over their classes.

        Of several labels a row (B, K), for each label that is there.
        """
        if self.element_weights is None:
            return None
        table = torch.tensor(self.element_weights, dtype=torch.float32, device=target.value.device)
        if target.mask.ndim == 2:
            return torch.where(target.value > 0.5, table, 1.0)
        return table[target.value] if target.value.ndim == 1 else target.value.float() @ table


@dataclass(frozen=True, kw_only=True)
class Program:
    """What the strategies of one target ask for over the run.

    Attributes:
        statistics: of the training rows.
        calls: as the user wrote them.
        plans: each with the call that it is of.
    """

    statistics: ClassStatistics
    calls: tuple[Call, ...] = ()
    plans: tuple[tuple[Plan, Call], ...] = ()

    @property
    def tail(self) -> Tail | None:
        """What is appended to the run."""
        return next((plan.tail for plan, _ in self.plans if plan.tail is not None), None)

    def breaks(self, epochs: int) -> tuple[int, ...]:
        """Epochs before which something begins or ends to act, in a run of `epochs` without its tail.

        Raises:
            OptionError: a gate holds no epoch of so short a run.
        """
        found = set()
        for plan, call in self.plans:
            start, stop = _gated(plan, epochs)
            if start == stop:
                call.fail(
                    f"{call.name} acts from {plan.gate[0]:.0%} to {plan.gate[1]:.0%} of the run, and a run of {epochs} "
                    f"epoch{'s' if epochs > 1 else ''} has none in that part; raise --epochs"
                )
            found |= {start, stop}
        return tuple(sorted(found - {0, epochs}))

    def at(self, epoch: int, epochs: int) -> Answer:
        """The answer in the interval that begins with `epoch`, in a run of `epochs` epochs without its tail.

        Raises:
            OptionError: two claims on one slot.
            ZooError: the ledger does not come out between no correction and full correction.
        """
        if not self.plans:
            return Answer()
        acting = [(plan, call) for plan, call in self.plans if _acts(plan, epoch, epochs)]
        exclusive: dict[str, Any] = {
            slot: _only(slot, self.plans if slot in WHOLE_RUN else acting) for slot in EXCLUSIVE_SLOTS
        }
        _refuse_soft(acting)
        stops = [each for each in self.breaks(epochs) if each > epoch]
        when = "in the tail" if epoch >= epochs else f"in epochs {epoch + 1} to {min([*stops, epochs])}"
        plans = [plan for plan, _ in acting]
        corrected = corrected_by(plans, self.statistics, when if self.tail or self.breaks(epochs) else "")
        bias = self._bias(corrected)
        left = [value * (1.0 - corrected) for value in self.statistics.imbalance]
        return Answer(
            strategies=tuple(str(call) for call in self.calls),
            element_weights=_multiplied(plans),
            logit_bias=bias,
            corrected=corrected,
            log_prior=tuple(left if bias is None else [p + b for p, b in zip(left, bias, strict=True)]),
            class_transforms=_transforms(acting),
            resamplers=tuple(each for plan in plans for each in plan.resamplers),
            sampler_shift=next((drawn_shift(plan) for plan in plans if plan.sampler), None),
            resampler_shift=next((drawn_shift(plan) for plan in plans if plan.resamplers), None),
            maker_shift=next((drawn_shift(plan) for plan in plans if plan.image_maker), None),
            mixes_pixels=any(plan.mixer is not None and plan.acts_on == "pixels" for plan in plans),
            **exclusive,
        )

    def _bias(self, corrected: float) -> tuple[float, ...] | None:
        """The bias; it sees what training has left uncorrected of the log prior, or of the labels' log odds."""
        left = [value * (1.0 - corrected) for value in self.statistics.imbalance]
        biases = [(plan.strategy, plan.logit_bias(left)) for plan, _ in self.plans if plan.logit_bias is not None]
        if len(biases) > 1:
            names = " and ".join(name for name, _ in biases)
            raise ZooError(f"{names} each correct the logits for the class prior; choose one")
        return tuple(biases[0][1]) if biases else None


def program(text: str, statistics: ClassStatistics) -> Program:
    """Build the plans that `text` names, for one target.

    Args:
        text: in the grammar of options, such as `class-weights+logit-adjust(tau=0.5)`; empty or `none` for nothing.
        statistics: of the training rows.

    Raises:
        OptionError: an unknown strategy, a bad parameter, two tails.
    """
    calls = () if text.strip() in ("", "none") else parse_options(text)
    built = [(_build(call, statistics), call) for call in calls]
    plans = tuple((each, call) for plan, call in built for each in (plan, *plan.beside))
    tails = [(plan, call) for plan, call in plans if plan.tail is not None]
    if len(tails) > 1:
        tails[1][1].fail(f"{tails[0][1].name} and {tails[1][1].name} both append to the run; choose one")
    return Program(statistics=statistics, calls=calls, plans=plans)


def answer(text: str, statistics: ClassStatistics, epochs: int = 100) -> Answer:
    """What the strategies that `text` names come to in the last interval of a run of so many epochs.

    Raises:
        OptionError: as `program`; two claims on one slot, a run that is too short.
        ZooError: in some interval the ledger does not come out between no correction and full correction.
    """
    own = program(text, statistics)
    starts = [0, *own.breaks(epochs), *([epochs] if own.tail else [])]
    return [own.at(start, epochs) for start in starts][-1]


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


def _gated(plan: Plan, epochs: int) -> tuple[int, int]:
    """The epochs in which a plan acts, the second excluded; of a tail, all those after the run."""
    if plan.tail is not None:
        return epochs, epochs + plan.tail.epochs
    return round(plan.gate[0] * epochs), round(plan.gate[1] * epochs)


def _acts(plan: Plan, epoch: int, epochs: int) -> bool:
    start, stop = _gated(plan, epochs)
    return start <= epoch < stop


def _only(slot: str, plans: Sequence[tuple[Plan, Call]]) -> object:
    claimants = [(plan, call) for plan, call in plans if getattr(plan, slot) is not None]
    if len(claimants) > 1:
        names = " and ".join(call.name for _, call in claimants)
        claimants[1][1].fail(f"{names} both bring a {slot.replace('_', ' ')}; a run has one, so choose")
    return getattr(claimants[0][0], slot) if claimants else None


def _refuse_soft(acting: Sequence[tuple[Plan, Call]]) -> None:
    mixing = next((call for plan, call in acting if plan.mixer is not None), None)
    hard = next((call for plan, call in acting if plan.hard_labels), None)
    if mixing and hard:
        mixing.fail(f"{mixing.name} gives soft labels, and the loss of {hard.name} takes hard ones; choose one")


def _transforms(acting: Sequence[tuple[Plan, Call]]) -> dict[int, str]:
    found: dict[int, str] = {}
    for plan, call in acting:
        if again := found.keys() & plan.class_transforms.keys():
            call.fail(f"{call.name}: class {min(again)} has an augmentation of its own already; choose one")
        found |= plan.class_transforms
    return found


def _multiplied(plans: Sequence[Plan]) -> tuple[float, ...] | None:
    weights = [plan.element_weights for plan in plans if plan.element_weights is not None]
    return tuple(math.prod(column) for column in zip(*weights, strict=True)) if weights else None


def bound_target(option: str) -> tuple[str | None, str]:
    """The target that `TARGET=STRATEGY` names, None where the option names none, and the strategy's text."""
    target, equals, text = option.partition("=")
    return (target.strip(), text) if equals and "(" not in target else (None, option)


def programs(options: Sequence[str], statistics: Sequence[ClassStatistics]) -> dict[str, Program]:
    """The program of each target from options `STRATEGY` (for the first target) or `TARGET=STRATEGY`.

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
    return {one.task.name: program(texts.get(one.task.name, ""), one) for one in statistics}
