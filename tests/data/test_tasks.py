"""Targets of every kind: fixed by the training rows, encoded, drawn by, counted; cells that are not of their kind."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest
import torch

from zoo.data.label_sets import join_columns, join_lists, parse_set, predicted_sets
from zoo.data.labels import encode_targets, label_counts, label_holes, label_strata, unknown_labels
from zoo.data.splits import make_splits
from zoo.data.table import read_table
from zoo.data.tasks import check_complete, count_classes, fix_tasks
from zoo.errors import DataError
from zoo.specs import TargetKind


@pytest.fixture
def make(make_table):
    """A table of one target `y` of a kind."""

    def one(cells, kind, *names):
        table = make_table({"y": cells}, targets=("y",))
        return dataclasses.replace(table, kinds={"y": TargetKind(kind=kind, names=names)})

    return one


def every(table):
    return np.arange(len(table), dtype=np.int64)


def test_numbers_are_standardised_by_the_training_rows_alone(make):
    table = make(["1", "3", None, "100"], "regression")
    train = np.array([0, 1, 2])
    (task,) = fix_tasks(table, train)
    assert (task.center, task.scale, task.low, task.high) == (2.0, 1.0, 1.0, 3.0)
    target = encode_targets(table, (task,))["y"]
    assert target.value.tolist() == [[-1.0], [1.0], [0.0], [98.0]]
    assert target.mask.tolist() == [True, True, False, True]
    assert count_classes(table, task, train).counts == ()


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["1", "old", "x"], r"to be a number, and 2 rows hold none, the first is row 1 with 'old'; .*y=classification"),
        (["1", "1e400", "2"], r"row 1 holds '1e400', beyond the largest number \(1e\+30\)"),
        (["1", "-inf", "2"], "row 1 holds '-inf', beyond the largest number"),
        ([True, False, True], "to be a number, and its column is of type Boolean"),
        ([None, None, None], r"no number at all in the 3 training rows \(3 of them have no label\)"),
        (["2", "2.0", None], r"one value only, 2 in the 3 training rows \(1 of them"),
    ],
)
def test_numbers_that_are_none_or_cannot_be_learned_are_refused(make, cells, message):
    table = make(cells, "regression")
    with pytest.raises(DataError, match=message):
        fix_tasks(table, every(table))


def test_measurements_are_never_taken_for_classes_in_silence(make_table, make):
    table = make_table({"y": ["1.5", "2", "3"]}, targets=("y",))
    with pytest.raises(
        DataError, match=r"target .y. holds numbers such as 1\.5: say --task y=regression to learn them"
    ):
        fix_tasks(table, every(table))
    assert fix_tasks(make(["1.5", "2", "3"], "classification"), every(table))[0].classes == ("1.5", "2", "3")
    many = make_table({"y": [str(row) for row in range(30)]}, targets=("y",))
    with pytest.raises(
        DataError, match=r"too few rows to split by 'y'.* If they are measured, say --task y=regression"
    ):
        make_splits(many, np.ones(30, dtype=bool))


def test_ranks_stand_in_the_order_of_their_numbers_or_as_named(make):
    numbers = make(["2", "10", "1", None], "ordinal")
    assert fix_tasks(numbers, every(numbers))[0].classes == ("1", "2", "10")
    named = make(["mild", "severe", "moderate"], "ordinal", "mild", "moderate", "severe")
    (task,) = fix_tasks(named, every(named))
    assert (task.kind, task.classes) == ("ordinal", ("mild", "moderate", "severe"))
    assert encode_targets(named, (task,))["y"].value.tolist() == [0, 2, 1]
    with pytest.raises(DataError, match=r"its ranks are no numbers: name them, .* --task y=ordinal\(mild, severe\)"):
        fix_tasks(make(["mild", "severe"], "ordinal"), np.arange(2))
    with pytest.raises(DataError, match="target 'y' holds worse, no rank of mild, severe"):
        fix_tasks(make(["mild", "worse", "severe"], "ordinal", "mild", "severe"), np.arange(3))
    with pytest.raises(DataError, match=r'holds 0\.00, no rank of 0, 0\.5; to keep the digits .*, as in "0\.00"'):
        fix_tasks(make(["0.00", "0.5"], "ordinal", "0", "0.5"), np.arange(2))
    lacking = fix_tasks(named, np.arange(2))
    with pytest.raises(DataError, match="no training row has the rank moderate; leave it out, or add rows"):
        check_complete(named, lacking, np.arange(2))


def test_sets_of_labels_are_read_with_what_is_unknown(make):
    assert parse_set(" a |b|?c|") == ({"a", "b"}, {"c"})
    table = make(["a|b", "|", "b|?a", None, "a"], "multilabel")
    (task,) = fix_tasks(table, every(table))
    assert task.classes == ("a", "b")
    target = encode_targets(table, (task,))["y"]
    assert target.value.tolist() == [[1, 1], [0, 0], [0, 1], [0, 0], [1, 0]]
    assert target.mask.tolist() == [[True, True], [True, True], [False, True], [False, False], [True, True]]
    assert label_holes(table)[:, 0].tolist() == [False, False, False, True, False]
    assert unknown_labels(table, task) == {"a": 1}
    found = count_classes(table, task, every(table))
    assert (found.counts, found.known) == ((2, 2), (3, 4))
    assert predicted_sets(target.value.numpy() > 0.5, task.classes) == ["a|b", "|", "b", "|", "a"]


def test_columns_of_0_and_1_are_joined_and_blank_cells_are_unknown_label_by_label(tmp_path):
    cells = {"image": list("abcd"), "crack": ["1", "0", "", ""], "spot": ["1.0", "", "0", ""]}
    pl.DataFrame(cells).write_csv(tmp_path / "t.csv")
    kinds = {"defects": TargetKind(kind="multilabel", names=("crack", "spot"))}
    table = read_table(tmp_path / "t.csv", kinds=kinds)
    assert table.roles.targets == ("defects",)
    assert table.frame["defects"].to_list() == ["crack|spot", "?spot", "?crack", None]
    frame = pl.DataFrame({"a": [True, None], "b": [0, 1], "c": [2.0, 0.0], "y": [1, 1]})
    assert join_columns(frame, "x", ["a", "b"])["x"].to_list() == ["a", "?a|b"]
    with pytest.raises(
        DataError, match=r"column 'c' of target 'x' holds 2.0 in row 0; a column of labels holds 0, 1 or"
    ):
        join_columns(frame, "x", ["a", "c"])
    with pytest.raises(DataError, match="target 'y' joins columns, and there is a column of that name"):
        join_columns(frame, "y", ["a", "b"])
    with pytest.raises(DataError, match="target 'x' joins a, bb, and there is no column 'bb'"):
        join_columns(frame, "x", ["a", "bb"])
    assert join_lists(pl.Series("x", [["a", "b"], [], None])).to_list() == ["a|b", "|", None]


def test_labels_that_training_cannot_teach_are_named(make):
    table = make(["a|b", "a|?c", "a", "a|b"], "multilabel", "a", "b", "c")
    tasks = fix_tasks(table, every(table))
    assert tasks[0].classes == ("a", "b")
    with pytest.raises(DataError, match="of the 4 training rows 'a' is there in all, 'c' is there in none; there is"):
        check_complete(table, tasks, every(table))
    with pytest.raises(DataError, match="no label at all in the 2 training rows"):
        fix_tasks(make([None, "|"], "multilabel"), np.arange(2))


def test_rows_are_drawn_by_the_rarest_label_or_by_ranges_of_numbers(make):
    sets = ["common"] * 40 + ["common|rare"] * 4 + ["|"] * 16
    table = make(sets, "multilabel")
    assert label_strata(table, "y")[1] == ["common", "rare", "|"]
    splits = make_splits(table, np.ones(60, dtype=bool))
    tasks = fix_tasks(table, splits.train)
    counts = label_counts(table, tasks, splits)["y"]["rare"]
    assert min(counts.values()) >= 1
    assert "drawn by rarest label of 'y'" in splits.how
    numbers = make([None if row % 7 == 0 else float(row) for row in range(70)], "regression")
    texts, names = label_strata(numbers, "y")
    assert len(names) == 6
    assert texts[0] is None
    assert texts[1] == names[0]
    splits = make_splits(numbers, np.ones(70, dtype=bool))
    held = [texts[row] for row in splits.test]
    assert set(held) == set(names)
    assert (
        sum(
            sum(each.values()) for each in label_counts(numbers, fix_tasks(numbers, splits.train), splits)["y"].values()
        )
        == 60
    )


def test_a_label_that_only_held_out_rows_have_is_refused(make):
    table = make(["a", "|", "b|a", "b"], "multilabel")
    (task,) = fix_tasks(table, np.arange(2))
    with pytest.raises(DataError, match=r"target 'y': 'b' \(2 rows\) is no class; the classes are a"):
        encode_targets(table, (task,))
    assert torch.equal(encode_targets(table, (task,), np.arange(2))["y"].value[:, 0], torch.tensor([1.0, 0, 1, 0]))
