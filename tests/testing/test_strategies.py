from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import pytest
import torch
import torch.nn.functional as F

from zoo.registry import plugins
from zoo.registry.lookup import STRATEGIES
from zoo.registry.plugins import find_plugins
from zoo.specs import Call, NoParameters, Plan, StrategyRecord, Tail, Target
from zoo.testing.strategies import CHECKS, SLOT_CHECKS, strategy_checks


def record(build, parameters=NoParameters, tasks=("classification",)):
    return StrategyRecord(name="mine", build=build, parameters=parameters, tasks=frozenset(tasks))


def giving(**slots):
    """A strategy whose plan fills these slots."""
    return record(lambda statistics, parameters: Plan(strategy="mine", **slots))


def inverse(statistics, power=1.0):
    return tuple((sum(statistics.counts) / count) ** power for count in statistics.counts)


@dataclass(frozen=True)
class Right:
    """Parameters of a strategy that fills every slot that a check looks at."""

    q: float = 1.0
    gamma: float = 2.0
    alpha: float = 0.4
    power: float = 0.5
    tau: float = 1.0
    copies: int = 1
    own: Mapping[str, float] | None = field(
        default=None, metadata={"examples": ({"c0": 1.0, "c1": 2.0}, {"c0": 1.0, "c1": 2.0, "c2": 2.0})}
    )


def draw(q, labels, epoch, generator):
    known = (labels >= 0).nonzero()[:, 0]
    weights = labels[known].bincount().double().pow(-q)[labels[known]]
    return known[torch.multinomial(weights, len(known), replacement=True, generator=generator)]


def draw_balanced(labels, epoch, generator):
    return draw(1.0, labels, epoch, generator)


def focal(gamma, logits, target):
    if target.value.ndim == 2:
        return F.binary_cross_entropy_with_logits(logits, target.value, reduction="none") * gamma
    loss = F.cross_entropy(logits, target.value, reduction="none")
    return (1 - (-loss).exp()) ** gamma * loss


def mixup(alpha, classes, inputs, target, generator):
    order = torch.randperm(len(target), generator=generator)
    share = alpha * torch.rand((), generator=generator)
    soft = F.one_hot(target.value, classes).float() if target.value.ndim == 1 else target.value
    mixed = tuple(one.lerp(one[order], share) for one in inputs)
    return mixed, Target(value=soft.lerp(soft[order], share), mask=target.mask & target.mask[order])


def repeat(copies, features, target, generator):
    rows = torch.cat([torch.arange(len(target)), torch.randint(len(target), (copies,), generator=generator)])
    return features[rows], target.take(rows)


def right_plan(statistics, parameters):
    weights = inverse(statistics, parameters.power)
    if parameters.own is not None:
        if len(parameters.own) != len(statistics.counts):
            raise ValueError("one weight a class")
        weights = tuple(parameters.own.values())
    return Plan(
        strategy="mine",
        element_weights=weights,
        shift=tuple(math.log(w) - parameters.q * math.log(n) for w, n in zip(weights, statistics.counts, strict=True)),
        logit_bias=lambda prior: tuple(-parameters.tau * one for one in prior),
        sampler=partial(draw, parameters.q),
        criterion=partial(focal, parameters.gamma),
        mixer=partial(mixup, parameters.alpha, len(statistics.counts)),
        resamplers=(partial(repeat, parameters.copies),),
    )


count = itertools.count()
memory: list[float] = []


def mutates(statistics, parameters):
    object.__setattr__(statistics, "counts", tuple(reversed(statistics.counts)))
    return Plan(strategy="mine")


def refuses_multilabel(statistics, parameters):
    if statistics.task.kind == "multilabel":
        raise ValueError("one class a row, please")
    return Plan(strategy="mine")


def remembering_bias(prior):
    memory.append(prior[0])
    return tuple(one + len(memory) for one in prior)


def writing_bias(prior):
    prior[0] = 0.5
    return tuple(prior)


def cross_entropy(logits, target, scale=1.0):
    return scale * F.cross_entropy(logits, target.value, reduction="none")


def all_rows(labels, epoch, generator):
    return (labels >= 0).nonzero()[:, 0]


def hardest(logits, target):
    losses = cross_entropy(logits, target)
    return losses * (losses >= losses.max())


def steep_focal(logits, target):
    share = logits.softmax(dim=1).gather(1, target.value[:, None])[:, 0]
    return (1 - share).sqrt() * cross_entropy(logits, target)


def not_mixed(inputs, target, generator):
    return inputs, target


def keep(features, target, generator):
    return features, target


def soft(target, scale=1.0):
    classes = int(target.value.max()) + 1
    return Target(value=scale * F.one_hot(target.value, classes).float(), mask=target.mask)


def globally(labels, epoch, generator):
    return all_rows(labels, epoch, generator)[torch.randperm(5)]


def writes_labels(labels, epoch, generator):
    labels.clamp_(min=0)
    return torch.arange(10)


def mixing(function):
    """A mixer of right shapes that `function` spoils."""

    def build(statistics, parameters):
        def mix(inputs, target, generator):
            return function(*mixup(0.4, len(statistics.counts), inputs, target, generator))

        return Plan(strategy="mine", mixer=mix)

    return record(build)


class Maker:
    """Makes four pictures of the rarer class, by a function of those that it is given."""

    side = 8

    def __init__(self, draw, count=4):
        self.draw, self.count = draw, count

    def __call__(self, pictures, target, generator):
        labels = torch.ones(self.count, dtype=torch.int64)
        return self.draw(pictures, generator), Target(value=labels, mask=labels > 0)


BIAS, LOSS, ROW = "the-logit-bias-is-a-function-of-the-log-prior", "the-criterion-gives-one-finite-loss-a-row", 2
DRAW, MIX = "the-sampler-draws-labelled-rows-by-its-generator", "the-mixer-keeps-shapes"
RESAMPLE, WEIGHTS = "the-resamplers-give-rows-and-targets-that-fit", "element-weights-are-finite-and-one-a-class"
MAKE = "the-image-maker-gives-pictures-and-labels-that-fit"
DECLARES = "it-builds-for-the-tasks-that-it-declares"
BROKEN = [
    ("it-builds-a-plan-that-bears-its-name", record(lambda s, p: {}), "two classes, 14 to 1: build gives {}, which is"),
    (
        "it-builds-a-plan-that-bears-its-name",
        record(lambda s, p: Plan(strategy="other")),
        "bears the name 'other', not",
    ),
    (
        DECLARES,
        record(lambda s, p: Plan(strategy="mine"), tasks=["regression"]),
        "it declares regression, which has no",
    ),
    (DECLARES, record(lambda s, p: Plan(strategy="mine"), tasks=["detection"]), "it declares detection; kinds of task"),
    (DECLARES, record(lambda s, p: Plan(strategy="mine"), tasks=[]), "it declares no kind of task; there are"),
    (
        DECLARES,
        record(refuses_multilabel, tasks=["multilabel", "classification"]),
        "it declares multilabel and refuses two classes, 14 to 1, multilabel: one class a row, please",
    ),
    (
        "the-same-statistics-give-the-same-plan",
        record(lambda s, p: Plan(strategy="mine", element_weights=(1.0 + next(count),) * len(s.counts))),
        "built again, the plan has another element_weights",
    ),
    (
        "the-same-statistics-give-the-same-plan",
        record(lambda s, p: Plan(strategy="mine", criterion=partial(cross_entropy, scale=1.0 + next(count)))),
        "built again, the plan has another criterion",
    ),
    ("the-statistics-given-stay-as-they-are", record(mutates), "build changes the statistics to"),
    (WEIGHTS, giving(element_weights=(1.0, 2.0)), "element_weights has 2 values for 3 classes"),
    (WEIGHTS, giving(element_weights=(1.0, math.nan)), "element_weights is not finite: (1.0, nan)"),
    (WEIGHTS, giving(element_weights=(0.0, 0.0)), "every element weight is zero"),
    ("the-shift-is-finite-and-one-a-class", giving(shift=(0.0, -math.inf)), "shift is not finite: (0.0, -inf)"),
    (BIAS, giving(logit_bias=remembering_bias), "logit_bias gives another bias the second time"),
    (BIAS, giving(logit_bias=writing_bias), "logit_bias writes to the log prior"),
    (BIAS, giving(logit_bias=lambda prior: (0.0,)), "logit_bias has 1 values for 2 classes"),
    (LOSS, giving(criterion=lambda x, t: cross_entropy(x, t).mean()), "losses (), not (6,); the trainer reduces them"),
    (
        LOSS,
        giving(criterion=lambda x, t: cross_entropy(x, t) / (len(t) - 1)),
        "1 rows with logits of size 1: a loss is",
    ),
    (LOSS, giving(criterion=steep_focal), "rows with logits of size 40: the gradient is not finite"),
    ("each-loss-is-of-its-row-alone", giving(criterion=hardest), "a row's loss changes with the rows beside it"),
    (DRAW, giving(sampler=lambda labels, epoch, generator: [0, 1]), "the sampler gives no int64 tensor"),
    (DRAW, giving(sampler=lambda labels, epoch, generator: torch.zeros(0).long()), "rows of shape (0,)"),
    (DRAW, giving(sampler=lambda labels, epoch, generator: torch.arange(-1, 3)), "the sampler names rows -1 to 2 of"),
    (DRAW, giving(sampler=lambda labels, epoch, generator: torch.arange(len(labels))), "rows whose label is unknown"),
    (DRAW, giving(sampler=globally), "the sampler draws other rows from the same generator"),
    (DRAW, giving(sampler=writes_labels), "the sampler writes to the labels"),
    (
        "the-sampler-shifts-classes-as-it-declares",
        giving(sampler=draw_balanced),
        "the sampler declares no shift of the class prior: of 1500 rows of an epoch 100 would be of class 1, and 7",
    ),
    (
        "the-head-fitter-gives-the-head-that-it-names",
        giving(head=Call(name="linear"), head_fitter=lambda f, t, w, g: {"weight": f[:2]}),
        "mine fitted tensors that are not those of the head that it names",
    ),
    (
        "the-head-edit-gives-a-finite-linear-layer",
        giving(head_edit=lambda w, b, logits, target: (w / 0, b)),
        "the edited layer is not finite",
    ),
    (
        "the-tuned-bias-is-finite-and-one-a-class",
        giving(tuned_bias=lambda logits, target: (0.0,)),
        "tuned_bias has 1 values for 2 classes",
    ),
    (
        MIX,
        mixing(lambda inputs, target: (inputs[:1], target)),
        "the mixer turns inputs [(6, 7), (6, 4, 7)] into [(6, 7)]",
    ),
    (MIX, mixing(lambda inputs, target: (tuple(x / 0 for x in inputs), target)), "inputs that are not finite"),
    (MIX, giving(mixer=not_mixed), "the mixed target has shape (6,)"),
    (MIX, giving(mixer=lambda inputs, target, generator: (inputs, soft(target, 2.0))), "at least 0 with sum 1"),
    (
        MIX,
        mixing(lambda inputs, target: (tuple(x + torch.rand(()) for x in inputs), target)),
        "something else from the",
    ),
    (MAKE, giving(image_maker=Maker(lambda p, g: p[:3])), "the image maker gives (3, 3, 8, 8) for 4 labels"),
    (MAKE, giving(image_maker=Maker(lambda p, g: p[:4] + 2)), "gives pictures outside [0, 1]"),
    (MAKE, giving(image_maker=Maker(lambda p, g: torch.rand(4, 3, 8, 8))), "other pictures from the same generator"),
    (
        MAKE,
        giving(image_maker=Maker(lambda p, g: p[:400], count=400)),
        "the image maker declares no shift of the class prior",
    ),
    (RESAMPLE, giving(resamplers=(lambda f, t, g: (f[:5], t),)), "5 rows of features have 1500 targets"),
    (RESAMPLE, giving(resamplers=(lambda f, t, g: (f[:, :3], t),)), "features (1500, 7) become (1500, 3)"),
    (RESAMPLE, giving(resamplers=(keep, lambda f, t, g: (f.double(), t))), "are no finite float32"),
    (RESAMPLE, giving(resamplers=(lambda f, t, g: (f, Target(value=t.value + 9, mask=t.mask)),)), "give class 10 of 2"),
    (RESAMPLE, giving(resamplers=(lambda f, t, g: (f + torch.rand(()), t),)), "something else from the same generator"),
]


@pytest.mark.parametrize(
    ("name", "broken", "message"), BROKEN, ids=[f"{name}-{i}" for i, (name, *_) in enumerate(BROKEN)]
)
def test_a_broken_strategy_is_caught_by_name(name, broken, message, caught):
    caught(strategy_checks(broken), name, message)


def test_there_is_a_broken_strategy_for_each_check():
    # The ledger's has tests of its own, because it needs strategies that are installed.
    assert {name for name, *_ in BROKEN} == {*CHECKS, *SLOT_CHECKS} - {"alone-it-passes-the-ledger"}


@pytest.mark.parametrize("tasks", [["classification"], ["classification", "multilabel"]])
def test_a_right_strategy_that_fills_every_slot_of_training_passes(tasks, ends):
    found = ends(strategy_checks(record(right_plan, Right, tasks)))
    after = {MAKE, "the-head-fitter-gives-the-head-that-it-names", "the-head-edit-gives-a-finite-linear-layer"}
    assert set(found) == {"alone-it-passes-the-ledger", *after, "the-tuned-bias-is-finite-and-one-a-class"}
    assert "asks for strategies by name, and this one is not installed" in found["alone-it-passes-the-ledger"]


def test_a_mixer_of_pixels_gets_images(result):
    seen = []

    def mix(inputs, target, generator):
        seen.append(tuple(inputs[0].shape))
        return inputs, soft(target)

    result(strategy_checks(giving(mixer=mix, acts_on="pixels")), MIX)
    assert seen[0] == (6, 3, 8, 8)


def test_slots_that_are_left_empty_are_not_checked(result):
    for name in SLOT_CHECKS:
        found = result(strategy_checks(giving()), name)
        assert found.outcome == "skipped"
        assert "its plans leave" in found.message


def test_a_strategy_without_classes_has_nothing_to_check(result):
    found = result(strategy_checks(record(right_plan, Right, ["regression"])), WEIGHTS)
    assert (found.outcome, found.message) == ("skipped", "it takes no task with classes")


@pytest.fixture
def offered(monkeypatch):
    """Offers a record as an installed plugin does, and runs the check of the ledger on it."""

    def offer(one):
        extra = plugins.Plugin(name="x", distribution="x", version="1", records={"zoo_imbalance_strategies": (one,)})
        monkeypatch.setattr("zoo.registry.lookup.load_plugins", lambda: (*plugins.load_plugins(), extra))
        return one

    return offer


def weighing(power):
    return record(lambda s, p: Plan(strategy="mine", element_weights=inverse(s, power)))


def test_the_ledger_takes_what_corrects_part_of_the_imbalance(offered, result):
    checks = strategy_checks(offered(weighing(0.5)))
    assert result(checks, "alone-it-passes-the-ledger").outcome == "passed"


@pytest.mark.parametrize(("power", "message"), [(-1.0, "favours the frequent classes"), (2.0, "2.00 times over")])
def test_what_the_ledger_refuses_is_caught(power, message, offered, caught):
    caught(strategy_checks(offered(weighing(power))), "alone-it-passes-the-ledger", message)


def test_another_refusal_of_the_engine_is_caught(offered, caught):
    def picky(statistics, parameters):
        raise ValueError("not today")

    caught(
        strategy_checks(offered(record(picky))), "alone-it-passes-the-ledger", "two classes, 14 to 1: mine: not today"
    )


def test_the_ledger_looks_at_the_tail_too(offered, caught):
    checks = strategy_checks(offered(giving(shift=(0.0, -5.0), tail=Tail(epochs=1))))
    caught(checks, "alone-it-passes-the-ledger", "favours the frequent classes in the tail")


def test_the_ledger_is_asked_with_values_for_what_has_no_default(offered, result):
    @dataclass(frozen=True)
    class Needs:
        method: Literal["root", "none"]

    def build(statistics, parameters):
        return Plan(strategy="mine", element_weights=inverse(statistics, 0.5 if parameters.method == "root" else 0.0))

    checks = strategy_checks(offered(record(build, Needs)))
    assert result(checks, "alone-it-passes-the-ledger").outcome == "passed"


@pytest.mark.parametrize("name", ["gamma", "own"])
def test_a_parameter_that_no_slot_uses_is_caught(name, caught):
    def forgets(statistics, parameters):
        return right_plan(statistics, Right())

    message = f"{name} changes nothing: "
    caught(strategy_checks(record(forgets, Right)), f"the-parameter-{name}-reaches-what-is-built", message)


def test_values_that_every_plan_refuses_are_no_candidates(result):
    @dataclass(frozen=True)
    class Own:
        weights: Mapping[str, float] | None = field(default=None, metadata={"examples": ({"crack": 1.0},)})

    def build(statistics, parameters):
        if parameters.weights:
            raise ValueError("no such class")
        return Plan(strategy="mine")

    found = result(strategy_checks(record(build, Own)), "the-parameter-weights-reaches-what-is-built")
    assert found.outcome == "skipped"
    assert "no two values of weights are accepted of None, {'crack': 1.0}" in found.message


OURS = [
    one.name for plugin in find_plugins("backbone-zoo") for one in plugin.records.get("zoo_imbalance_strategies", ())
]


@pytest.mark.parametrize("name", OURS)
def test_our_strategies_pass_every_check(name, ends):
    assert [
        said for said in ends(strategy_checks(STRATEGIES.get(name))).values() if not said.startswith("skipped")
    ] == []
