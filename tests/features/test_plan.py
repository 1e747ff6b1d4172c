"""The cost model: each way costs what its formula says, what cannot be is refused, and the cheapest leads."""

from __future__ import annotations

import pytest

from zoo.features.plan import Alternative, Room, Seconds, Size, alternatives, table

SECONDS = Seconds(prefix=0.01, suffix=0.002, suffix_eval=0.001, whole=0.02, whole_eval=0.012)
ROOM = Room(disk=10**9, memory=10**9, read=1e6, write=5e5)


def size(**fields):
    return Size(**{"train": 100, "val": 20, "epochs": 10, "todo": 120, "row_bytes": 1000, "kept_rows": 120, **fields})


def costs(seconds=SECONDS, of=None, room=ROOM, refused=None):
    return {each.mode: each for each in alternatives(seconds, of or size(), room, refused or {})}


def test_each_way_costs_what_its_formula_says():
    found = costs()
    epochs = 10 * (100 * 0.002 + 20 * 0.001)
    assert found["cached"].features == pytest.approx(120 * (0.01 + 1000 / 5e5) + 120 * 1000 / 1e6)
    assert found["cached"].train == pytest.approx(epochs)
    assert found["live"].train == pytest.approx(epochs + 10 * 120 * 0.01)
    assert found["whole"].train == pytest.approx(10 * (100 * 0.02 + 20 * 0.012))
    assert found["live"].features == found["whole"].features == 0


def test_rows_that_do_not_fit_into_memory_are_read_in_every_epoch():
    short = Room(disk=10**9, memory=100_000, read=1e6, write=5e5)
    found, resident = costs(room=short)["cached"], costs()["cached"]
    assert found.train == pytest.approx(resident.train + 10 * 120 * 1000 / 1e6)
    assert found.features == pytest.approx(resident.features - 120 * 1000 / 1e6)
    unknown = Room(disk=10**9, memory=None, read=1e6, write=5e5)
    assert costs(room=unknown)["cached"].train == resident.train


def test_rows_that_are_there_cost_only_their_reading():
    assert costs(of=size(todo=0))["cached"].features == pytest.approx(0.12)


@pytest.mark.parametrize(
    ("fields", "first"),
    [
        ({}, "cached"),
        ({"epochs": 1}, "live"),  # one epoch reads nothing twice
        ({"epochs": 2, "todo": 420, "kept_rows": 420}, "live"),
        ({"epochs": 1, "todo": 0}, "cached"),  # an earlier run has paid
    ],
)
def test_the_cheapest_way_leads(fields, first):
    assert alternatives(SECONDS, size(**fields), ROOM, {})[0].mode == first


def test_a_prefix_that_costs_nothing_against_its_suffix_is_not_worth_a_cut():
    slow = Seconds(prefix=0.01, suffix=0.03, suffix_eval=0.02, whole=0.02, whole_eval=0.012)
    assert alternatives(slow, size(), ROOM, {})[0].mode == "whole"


def test_too_little_disk_refuses_the_cache_and_says_how_much_there_is():
    found = costs(room=Room(disk=50_000, memory=None, read=1e6, write=5e5), of=size(row_bytes=10**7))
    assert found["cached"].refused == "it takes 1.2 GB on disk, and 0.0 GB are free"
    assert found["cached"].total == float("inf")
    assert not found["live"].refused


def test_rows_that_are_on_the_disk_need_no_more_of_it():
    full = Room(disk=10, memory=None, read=1e6, write=5e5)
    assert not costs(room=full, of=size(todo=0))["cached"].refused


def test_a_reason_given_stands_before_that_of_the_disk():
    found = costs(room=Room(disk=0, memory=None, read=1.0, write=1.0), refused={"cached": "--no-cache"})
    assert found["cached"].refused == "--no-cache"


def test_what_was_not_measured_comes_behind_what_was_and_what_is_refused_last():
    known = Seconds(whole=0.02, whole_eval=0.01)
    found = alternatives(known, size(), ROOM, {"live": "no reason"})
    assert [each.mode for each in found] == ["whole", "cached", "live"]
    assert found[1].features is None
    assert found[1].total == float("inf")


def test_the_table_marks_the_way_that_is_taken_and_says_why_others_cannot_be():
    lines = table(alternatives(Seconds(whole=0.02, whole_eval=0.01), size(), ROOM, {"live": "no reason"}))
    assert len(lines) == 4
    assert lines[1].startswith("→ whole")
    assert "22.0 s" in lines[1]
    assert lines[2].count("?") == 3
    assert lines[3] == "  live     cannot be: no reason"


def test_a_total_is_that_of_both_parts():
    assert Alternative(mode="live", features=1.0, train=2.0).total == 3.0
    assert Alternative(mode="live", features=1.0, train=2.0, refused="no").total == float("inf")
