"""`--missing-labels`: what it asks for, which rows are incomplete, and which rows without any label may train."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from zoo.data.drop_rows import DropRows
from zoo.data.label_policy import Pseudo, incomplete, parse_policy
from zoo.data.splits import make_splits
from zoo.errors import OptionError
from zoo.specs import TargetKind


def test_an_answer_is_read_with_its_parameters():
    assert parse_policy("mask") is None
    assert parse_policy("drop(max=0.5, max-class=1)") == DropRows(max=0.5, max_class=1.0)
    assert parse_policy("pseudo(0.9, start=0.25)") == Pseudo(tau=0.9, start=0.25)
    assert [Pseudo(start=0.5).begins(epochs) for epochs in (1, 2, 3, 10)] == [0, 1, 2, 5]
    assert Pseudo(start=0.01).begins(10) == Pseudo(start=0.99).begins(10) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("impute", "unknown answer to missing labels 'impute'; there are mask, drop, pseudo"),
        ("pseduo", "did you mean pseudo"),
        ("mask(0.1)", "mask takes no parameters; one value is too many"),
        ("drop(max=0)", r"max must lie in \(0, 1\], not 0.0"),
        ("pseudo(tau=1)", "tau and floor are probabilities, 0 <= floor <= tau < 1, not 0.5 and 1.0"),
        ("pseudo(tau=0.4)", "tau and floor are probabilities"),
        ("pseudo(start=1)", r"start is a part of the run, in \(0, 1\), not 1.0"),
        ("mask+drop", "--missing-labels takes one answer"),
    ],
)
def test_what_cannot_be_meant_is_refused(text, message):
    with pytest.raises(OptionError, match=message):
        parse_policy(text)


def test_rows_that_lack_a_target_or_a_label_of_one_are_incomplete(make_table):
    table = make_table({"y": ["a", None, "b", "a"], "t": ["u", "u", "?u|v", "|"]}, targets=("y", "t"))
    table = dataclasses.replace(table, kinds={"t": TargetKind(kind="multilabel")})
    assert incomplete(table).tolist() == [False, True, True, False]


def unlabelled(make_table, **columns):
    rows = 40
    labels = [None if row % 4 == 0 else "ab"[row % 2] for row in range(rows)]
    return make_table({"y": labels, **columns}, targets=("y",), **{name: name for name in columns})


def test_rows_without_any_label_train_where_that_is_asked_for_and_nowhere_else(make_table):
    table = unlabelled(make_table)
    usable = np.ones(40, dtype=bool)
    usable[0] = False
    blank = list(range(4, 40, 4))
    plain, kept = make_splits(table, usable), make_splits(table, usable, keep_unlabelled=True)
    assert np.array_equal(plain.val, kept.val)
    assert np.array_equal(plain.test, kept.test)
    assert sorted(set(kept.train) - set(plain.train)) == blank
    assert "9 train rows have no label and may get pseudo-labels" in kept.how
    assert f"{len(kept.train)} train" in kept.how
    assert "9 rows without any label left out" in plain.how


def test_no_row_trains_that_a_held_out_split_has_a_claim_on(make_table):
    usable = np.ones(40, dtype=bool)
    stated = [("train", "val", "test", None)[row // 4 % 4] if row % 4 == 0 else "train" for row in range(40)]
    stated[1], stated[3] = "val", "test"
    split = make_splits(unlabelled(make_table, split=stated), usable, keep_unlabelled=True)
    assert sorted(row for row in split.train if row % 4 == 0) == [0, 16, 32]
    groups = unlabelled(make_table, group=[f"g{row // 4}" for row in range(40)])
    found = make_splits(groups, usable, keep_unlabelled=True)
    homes = {row // 4 for row in (*found.val, *found.test)}
    assert not homes & {row // 4 for row in found.train}
    assert any(row % 4 == 0 for row in found.train)
    known = ["val" if row == 8 else "train" if row == 12 else "" for row in range(40)]
    later = make_splits(unlabelled(make_table), usable, known=known, keep_unlabelled=True)
    assert 8 not in later.train
    assert 12 in later.train
