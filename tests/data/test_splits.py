"""Splits: stratified, by whole groups, the same for the same seed, faithful to what the data state."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.data.draws import Strata, draw
from zoo.data.splits import make_splits, training_view
from zoo.data.tasks import fix_tasks
from zoo.errors import DataError
from zoo.specs import CovariateColumns, Task


def all_usable(table):
    return np.ones(len(table), dtype=bool)


def split(table, **options):
    return make_splits(table, all_usable(table), **options)


def assert_partition(splits, rows):
    parts = [splits.train, splits.val, splits.test]
    assert all((np.diff(part) > 0).all() and part.dtype == np.int64 for part in parts)
    assert sorted(np.concatenate(parts).tolist()) == sorted(rows)


def test_shares_and_classes_are_kept(make_table):
    table = make_table({"y": ["a"] * 160 + ["b"] * 40}, targets=("y",))
    splits = split(table)
    assert_partition(splits, range(200))
    assert [len(splits.test), len(splits.val), len(splits.train)] == [50, 23, 127]
    labels = np.array(table.frame["y"].to_list())
    for part in (splits.train, splits.val, splits.test):
        assert (labels[part] == "b").mean() == pytest.approx(0.2, abs=0.03)
    assert splits.how == "127 train, 23 val, 50 test rows; test and val drawn by class of 'y' with seed 0"


def test_the_seed_decides_the_rows(make_table):
    table = make_table({"y": ["a", "b"] * 50}, targets=("y",))
    first, again, other = split(table, seed=3), split(table, seed=3), split(table, seed=4)
    for part in ("train", "val", "test"):
        np.testing.assert_array_equal(getattr(first, part), getattr(again, part))
    assert first.test.tolist() != other.test.tolist()


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(3, 30), min_size=1, max_size=6),
    blanks=st.integers(0, 5),
    share=st.floats(0.05, 0.9),
    seed=st.integers(0, 1000),
)
def test_every_class_stands_on_both_sides_of_every_draw(counts, blanks, share, seed):
    codes = np.array([code for code, count in enumerate(counts) for _ in range(count)] + [-1] * blanks)
    strata = Strata(target="y", names=tuple("abcdef"[: len(counts)]), codes=codes)
    stay, held = draw(np.arange(len(codes)), strata, "test", share, 2, seed)
    assert sorted([*stay, *held]) == list(range(len(codes)))
    for code, count in enumerate(counts):
        assert 1 <= (codes[held] == code).sum() <= count - 2


def test_a_class_of_three_rows_stands_in_each_split(make_table):
    table = make_table({"y": ["a"] * 3 + ["b"] * 3 + ["c"] * 3 + ["d"] * 90}, targets=("y",))
    labels = np.array(table.frame["y"].to_list())
    for seed in range(10):
        splits = split(table, seed=seed)
        for part in (splits.train, splits.val, splits.test):
            assert set(labels[part]) == {"a", "b", "c", "d"}


def test_too_few_rows_name_the_classes_and_counts(make_table):
    table = make_table({"y": ["a"] * 9 + ["b"] * 2 + ["c"]}, targets=("y",))
    with pytest.raises(DataError, match=r"too few rows to split by 'y': 'b' has 2, 'c' has 1; each class needs 3"):
        split(table)
    with pytest.raises(DataError, match=r"'c' has 1; each class needs 2, one in each of 2 splits"):
        split(table, val=0)


def test_nothing_to_split_is_refused(make_table):
    table = make_table({"y": ["a", "b"]}, targets=("y",))
    with pytest.raises(DataError, match="too few rows to split by 'y': no row has a label"):
        make_splits(table, np.zeros(2, dtype=bool))


@pytest.mark.parametrize(("flag", "options"), [("--test-fraction", {"test": 1.0}), ("--val-fraction", {"val": -0.1})])
def test_shares_lie_between_zero_and_one(make_table, flag, options):
    with pytest.raises(DataError, match=rf"{flag} must lie in \[0, 1\), not"):
        split(make_table({"y": ["a", "b"]}, targets=("y",)), **options)


def test_a_share_of_zero_draws_nothing(make_table):
    splits = split(make_table({"y": ["a", "b"]}, targets=("y",)), test=0, val=0)
    assert (splits.train.tolist(), len(splits.val), len(splits.test)) == ([0, 1], 0, 0)
    assert splits.how == "2 train, 0 val, 0 test rows"


def test_unusable_and_wholly_unlabelled_rows_are_left_out_and_told(make_table):
    table = make_table({"y": ["a", "b"] * 10 + [None] * 4, "z": ["u", None] * 10 + ["v", "v", None, None]})
    table = make_table({name: table.frame[name].to_list() for name in ("y", "z")}, targets=("y", "z"))
    usable = all_usable(table)
    usable[[0, 23]] = False
    splits = make_splits(table, usable)
    assert_partition(splits, set(range(24)) - {0, 22, 23})
    assert "2 rows that cannot be used left out; 1 rows without any label left out" in splits.how


def grouped(make_table, groups, seed=0):
    rng = np.random.default_rng(seed)
    who = [f"p{group}" for group in range(groups) for _ in range(rng.integers(1, 9))]
    return make_table({"y": rng.choice(["a", "b", "c"], len(who), p=[0.6, 0.3, 0.1]).tolist(), "who": who})


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("groups", [12, 60])
def test_groups_never_cross(make_table, groups, seed):
    made = grouped(make_table, groups)
    table = make_table({n: made.frame[n].to_list() for n in ("y", "who")}, targets=("y",), group="who")
    splits = split(table, seed=seed)
    assert_partition(splits, range(len(table)))
    who = np.array(table.frame["who"].to_list())
    homes = [set(who[part]) for part in (splits.train, splits.val, splits.test)]
    assert sum(map(len, homes)) == len(set.union(*homes))
    assert len(splits.test) / len(table) == pytest.approx(0.25, abs=0.12)
    labels = np.array(table.frame["y"].to_list())
    assert all(set(labels[part]) == {"a", "b", "c"} for part in (splits.train, splits.val, splits.test))
    assert "groups of 'who' kept whole" in splits.how
    np.testing.assert_array_equal(splits.test, split(table, seed=seed).test)


def test_rows_without_a_group_stand_alone_and_are_told(make_table):
    table = make_table({"y": ["a", "b"] * 10, "who": [None] * 10 + list("vvwwxxyyzz")}, targets=("y",), group="who")
    splits = split(table)
    assert_partition(splits, range(20))
    assert splits.how.endswith("10 rows name no group and count as one each")


def test_too_few_groups_name_the_classes_and_counts(make_table):
    table = make_table({"y": ["a"] * 6 + ["b"] * 6, "who": list("uvwxyz") + ["k"] * 3 + ["l"] * 3})
    table = make_table({n: table.frame[n].to_list() for n in ("y", "who")}, targets=("y",), group="who")
    with pytest.raises(DataError, match=r"too few groups of 'who' to split by 'y': 'b' has 2; each class needs 3"):
        split(table)


def test_groups_that_cannot_be_divided_say_so():
    # Fano plane: seven groups, seven classes of three groups each. What meets every line holds a whole line.
    lines = [(0, 1, 2), (0, 3, 4), (0, 5, 6), (1, 3, 5), (1, 4, 6), (2, 3, 6), (2, 4, 5)]
    strata = Strata(
        target="y",
        names=tuple("abcdefg"),
        codes=np.repeat(np.arange(7), 3),
        group="who",
        groups=np.array(lines).ravel(),
    )
    with pytest.raises(DataError, match=r"no test split of about 30% was found that keeps the groups of 'who' whole"):
        draw(np.arange(21), strata, "test", 0.3, 2, 0)


def stated(make_table, parts, extra=(), **roles):
    columns = {"y": ["a", "b"] * (len(parts) // 2), "part": parts, **dict(extra)}
    return make_table(columns, targets=("y",), split="part", **roles)


def test_a_stated_split_is_kept(make_table):
    parts = ["train"] * 6 + ["VALID"] * 2 + [" test"] * 2 + [None] * 2
    splits = split(stated(make_table, parts))
    assert (splits.train.tolist(), splits.val.tolist(), splits.test.tolist()) == ([*range(6)], [6, 7], [8, 9])
    assert splits.how == (
        "6 train, 2 val, 2 test rows; train and val and test as column 'part' states; "
        "2 rows that are marked for no split left out"
    )


def test_val_is_carved_out_of_train_where_only_test_is_stated(make_table):
    splits = split(stated(make_table, ["train"] * 20 + ["test"] * 6), val=0.2)
    assert splits.test.tolist() == list(range(20, 26))
    assert (len(splits.val), len(splits.train)) == (4, 16)
    assert "train and test as column 'part' states; val drawn by class" in splits.how


def test_test_stays_empty_where_only_val_is_stated(make_table):
    splits = split(stated(make_table, ["train"] * 20 + ["val"] * 6))
    assert (len(splits.train), len(splits.val), len(splits.test)) == (20, 6, 0)


def test_both_are_carved_where_only_train_is_stated(make_table):
    splits = split(stated(make_table, ["train"] * 20))
    assert min(len(splits.val), len(splits.test)) > 0


def test_unknown_split_names_are_refused(make_table):
    with pytest.raises(DataError, match=r"names the splits trian, x; a split is one of train.*did you mean train"):
        split(stated(make_table, ["trian", "x"]))


def test_a_split_column_without_training_rows_is_refused(make_table):
    with pytest.raises(DataError, match="no usable row is marked for training in 'part'; there are 2 in test"):
        split(stated(make_table, ["test", "test"]))
    with pytest.raises(DataError, match="there are none in any split"):
        split(stated(make_table, [None, None]))


def test_groups_that_cross_a_stated_split_are_refused(make_table):
    who = ["p", "p", "q", "q", "q", "p"]
    table = stated(make_table, ["train"] * 4 + ["test"] * 2, {"who": who}.items(), group="who")
    with pytest.raises(DataError, match=r"2 groups of 'who' stand in more than one split, such as 'p' in train and te"):
        split(table, val=0)


# the training view


def test_the_view_counts_observed_training_labels_alone(make_table):
    table = make_table(
        {"y": ["a", "a", "b", None, "b", "b"], "z": ["u", "v", None, "u", "u", "u"], "p": ["train"] * 4 + ["test"] * 2},
        targets=("y", "z"),
        split="p",
    )
    splits = split(table, val=0)
    tasks = fix_tasks(table, splits.train)
    view = training_view(table, splits, tasks, None)
    assert view.statistics("y").counts == (2, 1)
    assert view.statistics("z").counts == (2, 1)
    assert view.rows.tolist() == [0, 1, 2, 3]
    assert Counter(table.frame["y"].to_list())["b"] == 3
    with pytest.raises(TypeError, match="not copied between processes"):
        pickle.dumps(view)


def test_the_view_refuses_a_class_without_training_rows(make_table):
    table = make_table({"y": ["a", "b"]}, targets=("y",))
    splits = split(table, test=0, val=0)
    with pytest.raises(DataError, match="target y: no training row of class c"):
        training_view(table, splits, [Task(name="y", classes=("a", "b", "c"))], None)


def test_the_view_takes_covariates_of_the_training_rows_only(make_table):
    table = make_table({"y": ["a", "b"]}, targets=("y",))
    splits = split(table, test=0, val=0)
    tasks = fix_tasks(table, splits.train)

    def covariates(rows):
        return CovariateColumns(
            numeric_names=("x",),
            numeric=np.zeros((rows, 1)),
            categorical_names=(),
            categorical=np.zeros((rows, 0), dtype=np.int64),
            categories=(),
        )

    assert training_view(table, splits, tasks, covariates(2)).covariates is not None
    with pytest.raises(ValueError, match="covariates of 3 rows for 2 training rows"):
        training_view(table, splits, tasks, covariates(3))


def test_rows_that_an_earlier_run_knows_stay_where_they_were(make_table):
    table = make_table({"y": ["a", "b"] * 50}, targets=("y",))
    known = ["train", "val", "test", "test"] * 15 + [""] * 40
    splits = split(table, known=known)
    assert_partition(splits, range(100))
    for part in ("train", "val", "test"):
        assert {row for row, name in enumerate(known) if name == part} <= set(getattr(splits, part).tolist())
    assert (splits.test >= 60).sum() == 10
    assert splits.how.endswith("60 rows whose image the run before knows stay in the split in which it had them")


def test_where_every_row_is_known_nothing_is_drawn(make_table):
    table = make_table({"y": ["a", "b"] * 10}, targets=("y",))
    splits = split(table, known=["train"] * 10 + ["val"] * 10)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (10, 10, 0)
    assert "drawn" not in splits.how


def test_a_few_new_rows_of_a_known_class_train_and_those_of_a_new_class_are_refused(make_table):
    labels = ["a", "b"] * 10 + ["a"] * 8 + ["b"] * 2
    known = ["train", "train", "val", "val"] * 5 + [""] * 10
    splits = split(make_table({"y": labels}, targets=("y",)), known=known)
    assert {28, 29} <= set(splits.train.tolist())
    assert (splits.test >= 20).any()
    alone = split(make_table({"y": [*labels[:20], "b", None]}, targets=("y",)), known=[*known[:20], "", ""])
    assert 20 in alone.train
    with pytest.raises(DataError, match="'c' has 2; each class needs 3"):
        split(make_table({"y": labels + ["c"] * 2}, targets=("y",)), known=[*known, "", ""])


def test_data_that_the_earlier_run_knows_nothing_of_are_split_as_ever(make_table):
    table = make_table({"y": ["a", "b"] * 20}, targets=("y",))
    first, second = split(table, seed=2), split(table, seed=2, known=[""] * 40)
    assert first.test.tolist() == second.test.tolist()
    assert first.how == second.how


def test_a_stated_split_gives_way_to_what_an_earlier_run_did(make_table):
    table = make_table({"y": ["a", "b"] * 10, "s": ["train"] * 12 + ["test"] * 8}, targets=("y",), split="s")
    known = ["test"] * 2 + ["train"] * 4 + [""] * 6 + ["train"] * 2 + [""] * 6
    splits = split(table, known=known, val=0.0)
    assert splits.test.tolist() == [0, 1, *range(14, 20)]
    assert "8 rows whose image" in splits.how
    assert splits.how.endswith("4 of them against column 's'")


def test_new_rows_of_a_known_group_follow_it(make_table):
    groups = [f"g{row // 4}" for row in range(80)]
    known = ["" if row % 4 > 1 or row >= 40 else ("test" if row < 20 else "train") for row in range(80)]
    splits = split(make_table({"y": ["a", "b"] * 40, "g": groups}, targets=("y",), group="g"), known=known)
    assert_partition(splits, range(80))
    held = [{groups[row] for row in getattr(splits, part)} for part in ("train", "val", "test")]
    assert sum(map(len, held)) == 20
    assert set(range(20)) <= set(splits.test.tolist())
    assert "or share a group of 'g' with such a one, stay" in splits.how


def test_few_new_groups_of_a_known_class_train_whole(make_table):
    labels = ["a", "b"] * 20 + ["a", "c", "c", "a"] + ["a", "a", "b", "b"] * 5
    groups = [f"g{row // 4}" for row in range(len(labels))]
    labels[0] = "c"
    known = ["train" if row < 36 else "val" for row in range(40)] + [""] * 24
    splits = split(make_table({"y": labels, "g": groups}, targets=("y",), group="g"), known=known)
    assert set(range(40, 44)) <= set(splits.train.tolist())
    assert len(splits.test)
