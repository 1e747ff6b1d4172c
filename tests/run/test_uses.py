"""What runs used files for: the use that forbids most counts, and what runs before were trained on is not forgotten."""

from __future__ import annotations

import polars as pl
import pytest

from zoo.errors import RunError
from zoo.run.uses import read_splits, uses_of, with_inherited


def frame(*rows):
    return pl.DataFrame(rows, schema=["image", "digest", "split"], orient="row")


def test_a_file_that_stood_twice_counts_as_the_use_that_forbids_most():
    rows = [("a", "1", "train"), ("b", "1", "test"), ("c", "2", "unused"), ("d", "2", "val"), ("e", None, "unused")]
    assert uses_of(frame(*rows)) == {"1": "train", "2": "val"}


def test_files_of_the_runs_before_stand_behind_those_of_the_run(tmp_path):
    first = frame(("a", "1", "train"), ("b", "2", "test"), ("c", "3", "unused"), ("d", None, "unused"))
    first.write_csv(tmp_path / "splits.csv")
    second = with_inherited(frame(("x", "2", "test"), ("y", "1", "unused")), read_splits(tmp_path), "one")
    second.write_csv(tmp_path / "splits.csv")
    assert uses_of(read_splits(tmp_path)) == {"1": "train", "2": "test"}
    third = with_inherited(frame(("z", "9", "train")), read_splits(tmp_path), "two")
    assert third.rows() == [
        ("z", "9", "train", None),
        ("x", "2", "test", "two"),
        ("a", "1", "train", "one"),
    ]


def test_a_run_without_its_splits_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"cannot read .*splits\.csv"):
        read_splits(tmp_path)
    (tmp_path / "splits.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RunError, match=r"cannot read .*splits\.csv"):
        read_splits(tmp_path)
