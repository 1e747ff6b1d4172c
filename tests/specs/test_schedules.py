"""Freeze schedules: which policy holds in which epochs, in real networks, and what is refused."""

import itertools

import pytest
import torch

from zoo.errors import OptionError
from zoo.model.view import build_view
from zoo.specs import Phase, Timeline, parse_policy, parse_schedule


@pytest.fixture(scope="module")
def resnet():
    with torch.device("meta"):
        return build_view("timm/resnet18", "none")


def shown(view, text, epochs):
    """Policy, first epoch and the one after the last, of each interval."""
    found = parse_schedule(text).intervals(view, epochs)
    return [(each.policy.text, each.start, each.stop) for each in found]


@pytest.mark.parametrize("policy", ["none", "head", "norm@last(2)", "depth(0.5)"])
def test_a_policy_holds_for_the_whole_run(resnet, policy):
    [interval] = parse_schedule(policy).intervals(resnet, 7)
    assert (interval.policy.text, interval.start, interval.stop) == (policy, 0, 7)
    assert (interval.rate, interval.restart) == (1.0, False)


@pytest.mark.parametrize(
    ("text", "epochs", "intervals"),
    [
        ("lp-ft(2)", 5, [("head", 0, 2), ("none", 2, 5)]),
        ("last(2) @ lp-ft(1)", 3, [("head", 0, 1), ("last(2)", 1, 3)]),
        ("norm@last(2)@lp-ft(1)", 3, [("head", 0, 1), ("norm@last(2)", 1, 3)]),
        ("last(2)@gradual", 3, [("head", 0, 1), ("last(1)", 1, 2), ("last(2)", 2, 3)]),
        ("until(stage3)@gradual(every=2)", 9, [("head", 0, 2), ("last(1)", 2, 4), ("last(2)", 4, 9)]),
        # As in ULMFiT: a run that is shorter than the network frees what it has epochs for.
        ("gradual(every=2)", 5, [("head", 0, 2), ("last(1)", 2, 4), ("last(2)", 4, 5)]),
        ("thaw(stage4, 2)", 4, [("head", 0, 2), ('until("stage4")', 2, 4)]),
        (
            "thaw(stage2, 3) + thaw(stage4, 1)",
            4,
            [("head", 0, 1), ('until("stage4")', 1, 3), ('until("stage2")', 3, 4)],
        ),
    ],
)
def test_intervals(resnet, text, epochs, intervals):
    assert shown(resnet, text, epochs) == intervals


def test_gradual_ends_with_everything_where_the_run_is_long_enough(resnet):
    found = parse_schedule("gradual").intervals(resnet, 10)
    grown = [each.policy.select(resnet).parameters for each in found]
    assert all(less < more for less, more in itertools.pairwise(grown))
    assert grown[-1] == parse_policy("none").select(resnet).parameters
    assert len(found) == 1 + sum(stage.role != "neck" for stage in resnet.stages)


def test_after_the_probe_the_rates_are_lower_and_begin_anew(resnet):
    before, after = parse_schedule("lp-ft(2, rate=0.1)").intervals(resnet, 4)
    assert (before.rate, before.restart) == (1.0, False)
    assert (after.rate, after.restart) == (0.1, True)
    assert parse_schedule("lp-ft(2)").intervals(resnet, 4)[1].rate == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lp-ft", r"as in lp-ft\(2\)"),
        ("thaw", r"as in thaw\(layer4, 2\)"),
        ("lp-ft(0)", "at least one epoch"),
        ("lp-ft(1, rate=0)", "rate is a positive factor"),
        ("gradual(every=0)", "at least one"),
        ("thaw(stage4, 0)", r"until\(STAGE\) trains at once"),
        ("lp-ft(1)@last(1)", r"a schedule stands at the end and alone, as in last\(2\)@lp-ft\(2\)"),
        ("lp-ft(1)@gradual", "a schedule stands at the end and alone"),
        ("lp-ft(1)+thaw(stage4, 2)", "a schedule stands at the end and alone"),
        ("last(1)@thaw(stage4, 2)", "thaw names its stages itself"),
        ("head@lp-ft(1)", "head names nothing"),
        ("depth(0.5)@gradual", "gradual goes by stages"),
        ("lp-fit(2)", "did you mean lp-ft"),
    ],
)
def test_what_cannot_be_a_schedule_is_refused_when_it_is_read(text, message):
    with pytest.raises(OptionError, match=message):
        parse_schedule(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lp-ft(5)", "a run of 5 epochs ends before epoch 6"),
        ("thaw(stage4, 9)", "a run of 5 epochs ends before epoch 10"),
        ("gradual(every=5)", "a run of 5 epochs ends before epoch 6"),
        ("thaw(stage9, 2)", "stage9"),
        ("last(99)@lp-ft(2)", "99"),
        ("thaw(stage3, 1)+thaw(stage4, 2)", "stage4 trains already"),
        ("thaw(stage4, 2)+thaw(stage3, 2)", "two stages thaw at epoch 2"),
    ],
)
def test_what_does_not_fit_the_backbone_or_the_run_is_refused_before_it_starts(resnet, text, message):
    with pytest.raises(OptionError, match=message):
        parse_schedule(text).intervals(resnet, 5)


def test_a_schedule_of_rates_spans_the_phases_between_two_restarts():
    def phase(start, stop, restart):
        return Phase(name="", start=start, stop=stop, trainable=frozenset(), restart=restart)

    line = Timeline(phases=(phase(0, 2, False), phase(2, 3, True), phase(3, 4, False), phase(4, 9, True)))
    assert [line.span(number) for number in range(4)] == [(0, 2), (2, 4), (2, 4), (4, 9)]
