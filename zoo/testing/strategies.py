"""What an answer to class imbalance promises: a plan that is a function of the statistics, with slots that fit."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, get_args

import torch

from zoo.errors import NameClashError, OptionError, UnknownNameError, ZooError
from zoo.registry.lookup import STRATEGIES
from zoo.specs import Argument, Call, ClassStatistics, Plan, StrategyRecord, Task, TaskKind
from zoo.testing import slots
from zoo.testing.check import Check, NotApplicable, require
from zoo.testing.fingerprints import fingerprint
from zoo.testing.parameters import default_setting, parameter_checks
from zoo.testing.surroundings import sheltered
from zoo.training.strategy import answer

COUNTS = {
    "two classes, 14 to 1": (1400, 100),
    "three equal classes": (60, 60, 60),
    "four skewed classes": (1508, 295, 106, 715),
}
"""Training rows of each class, named c0, c1, and so on, of the target `t`."""

FEW = {"two classes, 14 to 1": (42, 3), "four skewed classes": (60, 12, 4, 29)}
"""Fewer rows, for plans that are built again and again to see what a parameter does."""


def strategy_checks(record: StrategyRecord) -> list[Check]:
    """The checks of one strategy."""
    subject = f"strategy {record.name}"
    runs: dict[str, Callable[[StrategyRecord], None]] = dict(CHECKS)
    runs |= {name: partial(_slot, slot=slot, run=run) for name, (slot, run) in SLOT_CHECKS.items()}
    checks = [Check(subject=subject, name=name, run=partial(_run, run, record)) for name, run in runs.items()]
    return checks + parameter_checks(subject, record.parameters, partial(_plans, record))


def _run(run: Callable[[StrategyRecord], None], record: StrategyRecord) -> None:
    with sheltered():
        run(record)


def cases(record: StrategyRecord, of: Mapping[str, tuple[int, ...]] = COUNTS) -> dict[str, ClassStatistics]:
    """Statistics of each kind of task that the strategy declares and that has classes, by a name for people.

    Raises:
        NotApplicable: it declares none.
    """
    kinds = sorted(set(record.tasks) - {"regression"})
    if not kinds:
        raise NotApplicable("it takes no task with classes")
    found = {}
    for kind in kinds:
        for name, counts in of.items():
            classes = tuple(f"c{index}" for index in range(len(counts)))
            said = name if kind == "classification" else f"{name}, {kind}"
            found[said] = ClassStatistics(task=Task(name="t", kind=kind, classes=classes), counts=counts)
    return found


def _build(record: StrategyRecord, statistics: ClassStatistics) -> Plan:
    return record.build(statistics, default_setting(record.parameters))


def _plans(record: StrategyRecord, parameters: object) -> Any:
    """What the plans of all cases do; refused where every case is."""
    found = []
    refusal: ValueError | None = None
    for statistics in cases(record, FEW).values():
        try:
            found.append(deeds(record.build(statistics, parameters), statistics))
        except ValueError as error:
            refusal = error
            found.append("(refused)")
    if refusal is not None and set(found) == {"(refused)"}:
        raise refusal
    return tuple(found)


def deeds(plan: Plan, statistics: ClassStatistics) -> Any:
    """What a plan says and does, as a value that can be compared: each function in it is called."""
    target = slots.target_of(statistics, slots.labels_of(statistics))
    logits = torch.randn((len(target), len(statistics.counts)), generator=slots.generator(6))
    features = torch.randn((len(target), slots.WIDTH), generator=slots.generator(7))
    asked: dict[str, Callable[[Any], object]] = {
        "logit_bias": lambda bias: bias(list(statistics.imbalance)),
        "criterion": lambda criterion: criterion(logits, target),
        "sampler": lambda draw: [draw(slots.labels_of(statistics), epoch, slots.generator()) for epoch in (0, 7)],
        "mixer": lambda mix: mix(slots.inputs_of(plan, len(target)), target, slots.generator()),
        "resamplers": lambda each: [resample(*slots.known(features, target), slots.generator()) for resample in each],
        "image_maker": lambda make: slots.made(make, statistics),
        "head_fitter": lambda fit: slots.fitted(plan, fit, statistics),
        "head_edit": lambda edit: slots.edited(edit, statistics),
        "tuned_bias": lambda tune: tune(*slots.known(logits, target)),
        "beside": lambda plans: [deeds(each, statistics) for each in plans],
    }
    found = []
    with sheltered():
        for field in dataclasses.fields(plan):
            value = getattr(plan, field.name)
            filled = value is not None and field.name in asked
            found.append((field.name, fingerprint(asked[field.name](value) if filled else value)))
    return tuple(found)


def builds(record: StrategyRecord) -> None:
    """For few and many classes, skewed and equal ones, `build` gives a plan that bears the strategy's name."""
    for said, statistics in cases(record).items():
        plan = _build(record, statistics)
        require(isinstance(plan, Plan), f"{said}: build gives {plan!r}, which is no Plan")
        require(plan.strategy == record.name, f"{said}: the plan bears the name {plan.strategy!r}, not {record.name!r}")


def declares_tasks(record: StrategyRecord) -> None:
    """The tasks that it declares are kinds of task, and plans can be built for them."""
    known = get_args(TaskKind)
    require(bool(record.tasks), f"it declares no kind of task; there are {', '.join(known)}")
    unknown = sorted(set(record.tasks) - set(known))
    require(not unknown, f"it declares {', '.join(unknown)}; kinds of task are {', '.join(known)}")
    require("regression" not in record.tasks, "it declares regression, which has no classes that could be counted")
    for said, statistics in cases(record).items():
        try:
            _build(record, statistics)
        except ValueError as error:
            require(False, f"it declares {statistics.task.kind} and refuses {said}: {error}")


def builds_the_same(record: StrategyRecord) -> None:
    """The same statistics give a plan that says and does the same, whatever was built before."""
    found = cases(record)
    first = {said: deeds(_build(record, statistics), statistics) for said, statistics in found.items()}
    torch.manual_seed(123)
    for said, statistics in reversed(found.items()):
        again = deeds(_build(record, statistics), statistics)
        other = [one for (one, before), (_, now) in zip(first[said], again, strict=True) if before != now]
        require(not other, f"{said}: built again, the plan has another {', '.join(other)}")


def leaves_statistics(record: StrategyRecord) -> None:
    """The statistics given are not written to: other strategies read them too."""
    for said, statistics in cases(record).items():
        before = copy.deepcopy(statistics)
        _build(record, statistics)
        require(statistics == before, f"{said}: build changes the statistics to {statistics}")


def passes_the_ledger(record: StrategyRecord) -> None:
    """Alone and as its name stands for it, it corrects the imbalance neither backwards nor more than once."""
    try:
        installed = STRATEGIES.get(record.name) == record
    except (UnknownNameError, NameClashError):
        installed = False
    if not installed:
        raise NotApplicable("the ledger asks for strategies by name, and this one is not installed")
    call = _call(record)
    for said, statistics in cases(record).items():
        try:
            answer(str(call), statistics)
        except OptionError as error:
            require(False, f"{said}: {error.message}")
        except ZooError as error:
            require(False, f"{said}: {error}")


def _call(record: StrategyRecord) -> Call:
    """The option that says the default setting."""
    setting = default_setting(record.parameters)
    stated = [
        Argument(name=field.name, value=getattr(setting, field.name), column=0)
        for field in dataclasses.fields(record.parameters)
        if field.init and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    return Call(name=record.name, arguments=tuple(stated))


def _slot(record: StrategyRecord, *, slot: str, run: Callable[[Plan, ClassStatistics], None]) -> None:
    built = [(_build(record, statistics), statistics) for statistics in cases(record).values()]
    plans = [(each, statistics) for plan, statistics in built for each in (plan, *plan.beside)]
    filled = [(plan, statistics) for plan, statistics in plans if getattr(plan, slot) not in (None, ())]
    if not filled:
        raise NotApplicable(f"its plans leave {slot} empty")
    for plan, statistics in filled:
        run(plan, statistics)


CHECKS: dict[str, Callable[[StrategyRecord], None]] = {
    "it-builds-a-plan-that-bears-its-name": builds,
    "it-builds-for-the-tasks-that-it-declares": declares_tasks,
    "the-same-statistics-give-the-same-plan": builds_the_same,
    "the-statistics-given-stay-as-they-are": leaves_statistics,
    "alone-it-passes-the-ledger": passes_the_ledger,
}
SLOT_CHECKS: dict[str, tuple[str, Callable[[Plan, ClassStatistics], None]]] = {
    "element-weights-are-finite-and-one-a-class": ("element_weights", slots.weights_fit),
    "the-shift-is-finite-and-one-a-class": ("shift", slots.shift_fits),
    "the-logit-bias-is-a-function-of-the-log-prior": ("logit_bias", slots.bias_fits),
    "the-criterion-gives-one-finite-loss-a-row": ("criterion", slots.criterion_gives_losses),
    "each-loss-is-of-its-row-alone": ("criterion", slots.each_loss_is_of_its_row),
    "the-sampler-draws-labelled-rows-by-its-generator": ("sampler", slots.sampler_draws_rows),
    "the-sampler-shifts-classes-as-it-declares": ("sampler", slots.sampler_keeps_its_word),
    "the-mixer-keeps-shapes": ("mixer", slots.mixer_keeps_shapes),
    "the-resamplers-give-rows-and-targets-that-fit": ("resamplers", slots.resamplers_fit),
    "the-image-maker-gives-pictures-and-labels-that-fit": ("image_maker", slots.maker_fits),
    "the-head-fitter-gives-the-head-that-it-names": ("head_fitter", slots.fitter_gives_its_head),
    "the-head-edit-gives-a-finite-linear-layer": ("head_edit", slots.edit_gives_a_layer),
    "the-tuned-bias-is-finite-and-one-a-class": ("tuned_bias", slots.tuned_bias_fits),
}
