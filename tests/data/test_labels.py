"""Classes come from the training rows, once, in an order that people expect; holes are masked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoo.data.labels import check_classes, encode_targets, label_counts, label_holes, natural_order
from zoo.data.splits import Splits
from zoo.data.tasks import fix_tasks
from zoo.errors import DataError
from zoo.specs import Task


def rows(*positions: int):
    return np.array(positions, dtype=np.int64)


def every(table):
    return np.arange(len(table), dtype=np.int64)


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (["class10", "class2", "class1"], ["class1", "class2", "class10"]),
        (["10", "9", "-1", "2.5"], ["-1", "2.5", "9", "10"]),
        (["1", "2/3", "0", "1/3"], ["0", "1/3", "2/3", "1"]),
        (["1/0", "b", "10", "9"], ["1/0", "9", "10", "b"]),
        (["dog", "cat", "dog"], ["cat", "dog"]),
    ],
)
def test_classes_stand_in_natural_order(names, ordered):
    assert natural_order(names) == ordered


@given(st.lists(st.text(alphabet="ab01/.-²٣", max_size=5)))
def test_the_order_depends_on_nothing_but_the_names(names):
    ordered = natural_order(names)
    assert sorted(ordered) == sorted(set(names))
    assert natural_order(reversed(names)) == ordered


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        ([1.0, 2.0, None], ("1", "2")),
        ([3, 20, 1], ("1", "3", "20")),
        ([True, False, None], ("False", "True")),
        (["b", "a", None], ("a", "b")),
    ],
)
def test_the_name_of_a_class_is_its_text(make_table, cells, classes):
    table = make_table({"y": cells}, targets=("y",))
    assert fix_tasks(table, every(table)) == (Task(name="y", classes=classes),)


def test_classes_are_those_of_the_training_rows_alone(make_table):
    table = make_table({"y": ["a", "b", "c", "a"], "z": [1, 2, 3, 4]}, targets=("y", "z"))
    tasks = fix_tasks(table, rows(0, 1))
    assert [task.classes for task in tasks] == [("a", "b"), ("1", "2")]


def test_one_class_is_nothing_to_learn(make_table):
    table = make_table({"y": ["a", "a", None, "b"], "z": [None] * 4}, targets=("y",))
    with pytest.raises(
        DataError, match=r"target 'y' has one class only, 'a' in the 3 training rows \(1 of them have no"
    ):
        fix_tasks(table, rows(0, 1, 2))
    with pytest.raises(DataError, match="target 'z' has no label at all in the 4 training rows"):
        fix_tasks(make_table({"z": [None] * 4}, targets=("z",)), rows(0, 1, 2, 3))


def test_labels_are_indices_and_holes_are_masked(make_table):
    table = make_table({"y": ["b", None, "a", "b"]}, targets=("y",))
    target = encode_targets(table, fix_tasks(table, every(table)))["y"]
    assert target.value.dtype == torch.int64
    assert target.mask.tolist() == [True, False, True, True]
    assert target.value[target.mask].tolist() == [1, 0, 1]
    assert target.weight is None


def test_a_label_that_is_no_class_is_refused_where_it_matters(make_table):
    table = make_table({"y": ["a", "b", "c", "c"]}, targets=("y",))
    tasks = fix_tasks(table, rows(0, 1))
    with pytest.raises(DataError, match=r"target 'y': 'c' \(2 rows\) is no class; the classes are a, b"):
        encode_targets(table, tasks)
    target = encode_targets(table, tasks, rows(0, 1))["y"]
    assert target.mask.tolist() == [True, True, False, False]


def test_a_table_without_the_column_of_a_task_is_refused(make_table):
    with pytest.raises(DataError, match=r"made has no column 'z' of labels\. It has image, y"):
        encode_targets(make_table({"y": ["a"]}), [Task(name="z", classes=("a", "b"))])


def test_weights_go_with_the_targets(make_table):
    table = make_table({"y": ["a", "b"], "w": ["0.5", "2"]}, targets=("y",), weight="w")
    assert encode_targets(table, fix_tasks(table, every(table)))["y"].weight.tolist() == [0.5, 2.0]


@pytest.mark.parametrize("bad", [None, -1.0, float("inf"), "x"])
def test_a_weight_must_be_a_number_of_at_least_zero(make_table, bad):
    table = make_table({"y": ["a", "b"], "w": [1.0, bad]}, targets=("y",), weight="w")
    with pytest.raises(DataError, match="weight 'w': 1 rows hold no number of at least 0, the first is row 1"):
        encode_targets(table, [Task(name="y", classes=("a", "b"))])


def test_a_held_out_class_without_training_rows_is_refused_by_name(make_table):
    table = make_table({"y": ["a", "b", "c", "c", "d"]}, targets=("y",))
    with pytest.raises(DataError) as caught:
        check_classes(table, fix_tasks(table, rows(0, 1)), {"val": rows(2, 3), "test": rows(4)})
    assert "class 'c' of target 'y' has 2 rows in val but none in training" in str(caught.value)
    assert "class 'd' of target 'y' has 1 rows in test but none in training" in str(caught.value)


def test_a_class_that_a_split_lacks_is_reported(make_table):
    table = make_table({"y": ["a", "b", "c", "a", None]}, targets=("y",))
    tasks = fix_tasks(table, rows(0, 1, 2))
    assert check_classes(table, tasks, {"val": rows(3, 4), "test": rows()}) == (
        "val has no row of y = b, c: no figure there",
    )


def test_counts_are_of_observed_labels_by_split(make_table):
    table = make_table({"y": ["a", "b", "a", None, "b"]}, targets=("y",))
    splits = Splits(train=rows(0, 1, 2), val=rows(3), test=rows(4), how="")
    assert label_counts(table, fix_tasks(table, splits.train), splits) == {
        "y": {"a": {"train": 2, "val": 0, "test": 0}, "b": {"train": 1, "val": 0, "test": 1}}
    }


def test_holes_are_a_mask_by_row_and_target(make_table):
    table = make_table({"y": ["a", None], "z": [float("nan"), 1.0]}, targets=("y", "z"))
    assert label_holes(table).tolist() == [[False, True], [True, False]]
    assert label_holes(make_table({"y": ["a"]})).shape == (1, 0)
