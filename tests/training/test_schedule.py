"""Schedules of the learning rate, as the real rates of the groups."""

import pytest
import torch

from zoo.errors import OptionError
from zoo.training.schedule import Exponential, Schedule, parse_curve


def rates(text, steps=10, warmup=0.2, done=0):
    """The rate at each step, and after the last."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = Schedule(optimiser, parse_curve(text), steps, warmup, done)
    found = []
    for _ in range(steps - done):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return [*found, optimiser.param_groups[0]["lr"]]


def test_cosine_warms_up_then_falls_to_zero():
    found = rates("cosine")
    assert found[:3] == pytest.approx([0.05, 0.1, 0.1])
    assert found[2:] == sorted(found[2:], reverse=True)
    assert found[6] == pytest.approx(0.05)
    assert found[-1] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "last", "middle"),
    [
        ("cosine(floor=0.1)", 0.01, 0.055),
        ("linear", 0.0, 0.05),
        ("linear(floor=0.5)", 0.05, 0.075),
        ("constant", 0.1, 0.1),
        ("plateau", 0.1, 0.1),
    ],
)
def test_after_the_warm_up(text, last, middle):
    found = rates(text)
    assert found[:2] == pytest.approx([0.05, 0.1])
    assert found[6] == pytest.approx(middle)
    assert found[-1] == pytest.approx(last, abs=1e-9)


def test_one_cycle_rises_from_a_25th_and_ends_at_nothing():
    found = rates("one-cycle(rise=0.4)")
    assert found[0] == pytest.approx(0.1 / 25)
    assert max(found) == found[4] == pytest.approx(0.1)
    assert found[:5] == sorted(found[:5])
    assert found[-1] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("text", ["cosine", "linear", "one-cycle"])
def test_a_schedule_that_is_gone_on_with_is_the_one_that_was_left(text):
    assert rates(text, done=4) == pytest.approx(rates(text)[4:])


def test_plateau_falls_when_validation_does_not_improve():
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = Schedule(optimiser, parse_curve("plateau(patience=2, factor=0.5)"), 100, 0.0)
    found = []
    for loss in (1.0, 0.9, 0.9, 0.9, 0.9, 0.8, 0.8, 0.8, 0.8):
        optimiser.step()
        schedule.note("log_loss", loss)
        schedule.step()
        found.append(optimiser.param_groups[0]["lr"])
    assert found == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05, 0.025])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cosin", "did you mean cosine"),
        ("cosine+linear", "one schedule at a time"),
        ("cosine(floor=2)", "floor is a share"),
        ("one-cycle(rise=1)", "rise is a share"),
        ("plateau(patience=0)", "at least one"),
        ("plateau(factor=1)", "factor is between"),
    ],
)
def test_what_cannot_be_a_schedule_is_refused(text, message):
    with pytest.raises(OptionError, match=message):
        parse_curve(text)


def test_a_range_tests_rates_rise_exponentially_without_a_warm_up_and_no_run_can_ask_for_them():
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = Schedule(optimiser, Exponential(low=1e-3, high=10.0), 4, 0.5)
    found = []
    for _ in range(5):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    assert found == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1.0])
    with pytest.raises(OptionError, match="unknown schedule 'exponential'"):
        parse_curve("exponential")
