"""Bad files: refused by default, left out up to a cap on request, and always told."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.data.bad_files import apply_bad_files
from zoo.errors import DataError


@pytest.fixture
def table(make_table):
    return make_table({"y": ["a"] * 1000 + ["b"] * 40}, targets=("y",))


def test_nothing_bad_is_nothing_to_say(table):
    for mode in ("stop", "drop"):
        decision = apply_bad_files(table, {}, mode)
        assert decision.usable.all()
        assert (decision.dropped, decision.sentence) == ({}, "")


def test_stop_lists_the_files_with_reasons_and_the_way_on(table):
    with pytest.raises(DataError) as caught:
        apply_bad_files(table, {3: "empty file", 7: "truncated image"}, "stop")
    assert str(caught.value) == (
        "2 of 1040 image files cannot be read:\n"
        f"  {table.root / '3.png'}: empty file\n  {table.root / '7.png'}: truncated image\n"
        "Repair them, or leave them out with --bad-files drop (up to 1% of the rows and 5% of a class, or one of each)"
    )


def test_a_long_list_is_cut_and_counted(table):
    with pytest.raises(DataError) as caught:
        apply_bad_files(table, dict.fromkeys(range(50), "empty file"), "stop")
    assert str(caught.value).count("empty file") == 20
    assert "  and 30 more" in str(caught.value)


def test_drop_leaves_out_up_to_the_caps_and_tells(table):
    bad = dict.fromkeys(range(8), "empty file") | {1000: "not an image", 1001: "not an image"}
    decision = apply_bad_files(table, bad, "drop")
    assert np.flatnonzero(~decision.usable).tolist() == sorted(bad)
    assert decision.dropped == bad
    assert decision.sentence == (
        "10 of 1040 image files cannot be read and were left out (8 empty file, 2 not an image)"
    )


def test_more_than_one_percent_of_all_rows_is_refused(table):
    bad = dict.fromkeys(range(11), "empty file")
    with pytest.raises(
        DataError, match=r"too many to leave out:\n  1\.06% of all rows would go, 1\.00% may; --max-bad r"
    ):
        apply_bad_files(table, bad, "drop")
    assert len(apply_bad_files(table, bad, "drop", max_share=0.02).dropped) == 11


def test_more_than_five_percent_of_a_class_is_refused(table):
    bad = dict.fromkeys((1000, 1001, 1002), "empty file")
    with pytest.raises(
        DataError, match=r"7\.50% of y = b would go \(3 of 40 rows\), 5\.00% may; --max-bad-class raises the cap"
    ):
        apply_bad_files(table, bad, "drop")
    assert len(apply_bad_files(table, bad, "drop", max_class_share=0.1).dropped) == 3


def test_one_file_is_always_allowed(make_table):
    table = make_table({"y": ["a", "b", None]}, targets=("y",))
    assert apply_bad_files(table, {0: "empty file"}, "drop").usable.tolist() == [False, True, True]
    assert apply_bad_files(table, {2: "empty file"}, "drop").usable.tolist() == [True, True, False]


def test_a_table_without_labels_knows_only_the_cap_on_all_rows(make_table):
    table = make_table({"x": list(range(10))})
    assert len(apply_bad_files(table, {1: "empty file"}, "drop").dropped) == 1
    with pytest.raises(DataError, match=r"20\.00% of all rows would go"):
        apply_bad_files(table, {1: "empty file", 2: "empty file"}, "drop")
