"""Which backbone is named for which question, decided on figures made up for it."""

from __future__ import annotations

import pytest

from zoo.errors import ZooError
from zoo.jobs.rank_choice import Ranked, in_order, pareto, parse_memory, parse_time, takes

GIB = 2**30


def row(name, value, speed, seconds=10.0, memory=GIB, **more):
    return Ranked(name=name, value=value, images_per_second=speed, seconds=seconds, memory=memory, **more)


ROWS = [
    row("large", 0.90, 10, 1000.0, 8 * GIB),
    row("middle", 0.885, 50, 300.0, 3 * GIB),
    row("small", 0.86, 200, 60.0, 1 * GIB),
    row("poor", 0.70, 100, 90.0, 2 * GIB),
]


def named(**budgets):
    return [take.name for take in takes(ROWS, "balanced_accuracy", **budgets)]


def test_the_best_and_the_fastest_within_two_points():
    assert named() == ["large", "middle"]


@pytest.mark.parametrize(("budget", "name"), [(2000.0, "large"), (300.0, "middle"), (70.0, "small"), (5.0, None)])
def test_the_best_within_a_time(budget, name):
    assert named(budget=budget)[2] == name


@pytest.mark.parametrize(("memory", "name"), [(8 * GIB, "large"), (2 * GIB, "small"), (GIB // 2, None)])
def test_the_best_within_a_memory(memory, name):
    assert named(memory=memory)[2] == name


def test_both_budgets_hold_together():
    assert named(budget=2000.0, memory=3 * GIB)[4] == "middle"
    assert named(budget=2000.0, memory=1)[4] is None


def test_where_nothing_fits_the_least_need_is_named():
    assert takes(ROWS, "accuracy", budget=5.0)[2].why == "none fits; small needs least, 60.00 s"
    assert takes([row("a", 0.5, 1, seconds=None)], "accuracy", budget=5.0)[2].name is None


def test_of_a_loss_the_smallest_is_the_best():
    rows = [row("high", 1.0, 10), row("low", 0.2, 20)]
    assert [take.name for take in takes(rows, "log_loss")] == ["low", "low"]
    assert [each.name for each in pareto(rows, "log_loss")] == ["low"]


def test_the_front_holds_what_nothing_beats():
    assert [each.name for each in pareto(ROWS, "accuracy")] == ["small", "middle", "large"]


def test_what_came_farther_in_the_halving_goes_before():
    rows = [row("a", 0.9, 1, rung=1, tuned=0.95), row("b", 0.8, 1, rung=2, tuned=0.9), row("c", 0.99, 1)]
    assert [each.name for each in in_order(rows, "accuracy")] == ["b", "a", "c"]


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400)])
def test_times_are_read(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize(("text", "nbytes"), [("4G", 4 * GIB), ("4GiB", 4 * GIB), ("512mb", GIB // 2)])
def test_sizes_are_read(text, nbytes):
    assert parse_memory(text) == nbytes


def test_other_texts_are_refused():
    with pytest.raises(ZooError, match="--budget 'ten' is no time; say seconds, minutes or hours"):
        parse_time("ten")
    with pytest.raises(ZooError, match="--memory '4' is no size; say 800M or 4G"):
        parse_memory("4")
