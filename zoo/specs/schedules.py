"""Freeze schedules: what trains when, in the grammar *what @ where @ when*, resolved against a backbone and a run.

A policy without a *when* holds for the whole run. The schedules:

    lp-ft(2)            the head alone for two epochs, then everything there at a lower rate (Kumar, Raghunathan, Jones,
                        Ma and Liang 2022, "Fine-Tuning can Distort Pretrained Features")
    gradual(every=1)    the head, then every so many epochs one stage more (ULMFiT: Howard and Ruder 2018)
    thaw(STAGE, 3)      the head, and from epoch 3 on STAGE and what follows it; repeated with +

So `lp-ft(2)` ends with everything, `last(2)@lp-ft(2)` and `lora@lp-ft(2)` with what stands before the last @.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from zoo.errors import OptionError
from zoo.specs.binding import bind
from zoo.specs.grammar import Call
from zoo.specs.plans import Tail
from zoo.specs.policies import FreezePolicy, parse_policy, policy_terms
from zoo.specs.views import BackboneView


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeThenTune:
    """The parameters of `lp-ft(EPOCHS)`: epochs of the head alone, and the factor on all rates after them."""

    epochs: int
    rate: float = 0.5

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"the head trains alone for at least one epoch, not {self.epochs}")
        if not 0 < self.rate < math.inf:
            raise ValueError(f"rate is a positive factor, not {self.rate:g}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Gradual:
    """The parameters of `gradual`: epochs between two stages."""

    every: int = 1

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every is a number of epochs, at least one, not {self.every}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Thaw:
    """The parameters of `thaw(STAGE, EPOCH)`: epochs that are over when the stage begins to train."""

    stage: str
    epoch: int

    def __post_init__(self) -> None:
        if self.epoch < 1:
            raise ValueError(
                f"a stage is thawed after at least one epoch, not {self.epoch}; until(STAGE) trains at once"
            )


WHEN: dict[str, type] = {"lp-ft": ProbeThenTune, "gradual": Gradual, "thaw": Thaw}


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A stretch of epochs under one policy.

    Attributes:
        policy: what trains.
        start, stop: epochs from the start of the run, `stop` excluded.
        rate: factor on every learning rate.
        restart: whether the schedule of the learning rate begins anew.
        tail: of a strategy, where the interval is one.
        pseudo: whether training rows get pseudo-labels from the model as it is when the interval begins.
    """

    policy: FreezePolicy
    start: int
    stop: int
    rate: float = 1.0
    restart: bool = False
    tail: Tail | None = None
    pseudo: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class FreezeSchedule:
    """A parsed schedule, not yet resolved.

    Attributes:
        text: as the user wrote it.
        policy: what trains in the end; of `thaw` it is not known without the backbone, and None.
        when: the calls that say when; empty where the policy holds for the whole run.
        parameters: of those calls.
    """

    text: str
    policy: FreezePolicy | None
    when: tuple[Call, ...] = ()
    parameters: tuple[Any, ...] = ()

    @property
    def head_alone(self) -> bool:
        """Whether nothing of the backbone ever trains."""
        return not self.when and self.policy is not None and self.policy.head_alone

    def intervals(self, view: BackboneView, epochs: int) -> tuple[Interval, ...]:
        """The stretches of a run of `epochs` epochs, in order and without gaps.

        Raises:
            OptionError: the backbone has no such stage, or the run is too short for the schedule.
        """
        if self.policy is not None and not self.when:
            return (Interval(policy=self.policy, start=0, stop=epochs),)
        match self.parameters[0]:
            case ProbeThenTune(epochs=alone, rate=rate):
                found = [(0, parse_policy("head"), 1.0, False), (alone, self._target(), rate, True)]
            case Gradual(every=every):
                found = [(at * every, policy, 1.0, False) for at, policy in enumerate(self._growing(view))]
                found = [each for each in found if each[0] < epochs or each[0] == every]
            case _:
                found = [(0, parse_policy("head"), 1.0, False)]
                found += [(epoch, policy, 1.0, False) for epoch, policy in self._thawed(view)]
        last = found[-1][0]
        if last >= epochs:
            self.when[-1].fail(f"a run of {epochs} epochs ends before epoch {last + 1}, in which more would train")
        for _, policy, _, _ in found:
            policy.select(view)  # refuses here what this backbone does not have, and not in the middle of a run
        stops = [*(start for start, _, _, _ in found[1:]), epochs]
        return tuple(
            Interval(policy=policy, start=start, stop=stop, rate=rate, restart=restart)
            for (start, policy, rate, restart), stop in zip(found, stops, strict=True)
        )

    def _target(self) -> FreezePolicy:
        if self.policy is None:
            raise ValueError("this schedule names its stages itself")
        return self.policy

    def _growing(self, view: BackboneView) -> list[FreezePolicy]:
        """The head, then one stage more in each, up to the target."""
        target = self._target()
        what = f"{target.what}@" if target.what else ""
        wanted = target.select(view)
        found, seen = [parse_policy("head")], frozenset[str]()
        for count in range(1, sum(stage.role != "neck" for stage in view.stages) + 1):
            policy = parse_policy(f"last({count})")
            if policy.select(view).parameters:
                there = policy.select(view).parameters & wanted.parameters
                if there and there != seen:
                    found.append(parse_policy(f"{what}last({count})"))
                    seen = there
        return found

    def _thawed(self, view: BackboneView) -> list[tuple[int, FreezePolicy]]:
        """Epoch and policy of each `thaw`, checked to go towards the image."""
        found: list[tuple[int, FreezePolicy]] = []
        before = len(view.stages)
        for call, each in sorted(zip(self.when, self.parameters, strict=True), key=lambda pair: pair[1].epoch):
            policy = parse_policy(f'until("{each.stage}")')
            policy.select(view)
            place = view.stage_names.index(each.stage)
            if place >= before:
                call.fail(f"{each.stage} trains already when epoch {each.epoch} is over")
            if found and found[-1][0] == each.epoch:
                call.fail(f"two stages thaw at epoch {each.epoch}; name the one nearer to the image alone")
            before = place
            found.append((each.epoch, policy))
        return found


def parse_schedule(text: str) -> FreezeSchedule:
    """Parse a policy or a schedule.

    Raises:
        OptionError: an unknown name, wrong arguments, or parts that do not go together; points at the place.
    """
    terms = policy_terms(text)
    when = [call for term in terms for call in term if call.name in WHEN]
    if not when:
        return FreezeSchedule(text=text, policy=parse_policy(text))
    for call in when:
        if not call.arguments and call.name != "gradual":
            example = {"lp-ft": "lp-ft(2)", "thaw": "thaw(layer4, 2)"}[call.name]
            call.fail(f"{call.name} needs to be told more, as in {example}")
    parameters: tuple[Any, ...] = tuple(bind(call, WHEN[call.name]) for call in when)
    if all(call.name == "thaw" for call in when):
        for term in terms:
            if len(term) > 1 or term[0].name != "thaw":
                other = next(call for call in term if call.name != "thaw")
                other.fail("thaw names its stages itself; join it with + to other thaw(STAGE, EPOCH) alone")
        return FreezeSchedule(text=text, policy=None, when=tuple(when), parameters=parameters)
    if len(terms) > 1 or len(when) > 1 or terms[0][-1] is not when[0]:
        raise OptionError("a schedule stands at the end and alone, as in last(2)@lp-ft(2)", text=text, column=0)
    rest = text[: when[0].column].rstrip().removesuffix("@").rstrip()
    policy = parse_policy(rest or "none")
    if policy.head_alone:
        policy.where.fail(f"{when[0].name} frees something after the head, and head names nothing")
    if when[0].name == "gradual" and policy.where.name not in ("none", "last", "until"):
        policy.where.fail("gradual goes by stages: it takes none, last(K) or until(STAGE) before it")
    return FreezeSchedule(text=text, policy=policy, when=tuple(when), parameters=parameters)
