from pathlib import Path

import numpy as np
import polars as pl
import pytest

from zoo.data.drop_rows import DropRows, drop_rows
from zoo.data.hole_counts import count_holes
from zoo.data.splits import Splits
from zoo.data.table import Table
from zoo.errors import DataError
from zoo.specs import Roles


def table(labels):
    frame = pl.DataFrame({"image": [f"{row}.png" for row in range(len(labels))], "label": labels})
    return Table(name="t", frame=frame, roles=Roles(targets=("label",)), root=Path("/nowhere"))


def test_rows_with_holes_go_and_the_others_stay_in_their_order():
    given = table(["a"] * 60 + ["b"] * 60)
    train = np.arange(10, 110)
    holed = np.isin(train, [12, 77])
    left, said = drop_rows(given, train, holed, DropRows())
    assert left.tolist() == [row for row in range(10, 110) if row not in (12, 77)]
    assert said == "2 of 100 training rows have holes in their covariates and were left out"


def test_without_holes_nothing_goes():
    train = np.arange(4)
    left, said = drop_rows(table(["a", "b"] * 2), train, np.zeros(4, dtype=bool), DropRows())
    assert left is train
    assert said == "no training row has a hole in its covariates"


def test_more_than_the_caps_allow_is_refused_and_each_cap_is_named():
    given = table(["a"] * 90 + ["b"] * 10)
    holed = np.isin(np.arange(100), [*range(6), 95, 96])
    with pytest.raises(DataError) as caught:
        drop_rows(given, np.arange(100), holed, DropRows())
    assert "8 of 100 training rows have holes in their covariates, too many to leave out" in str(caught.value)
    assert "8.00% of the training rows would go, 5.00% may (max)" in str(caught.value)
    assert "20.00% of label = b would go (2 of 10 rows), 5.00% may (max_class)" in str(caught.value)
    left, _ = drop_rows(given, np.arange(100), holed, DropRows(max=0.1, max_class=0.2))
    assert len(left) == 92


@pytest.mark.parametrize("caps", [{"max": 0.0}, {"max_class": 1.5}])
def test_caps_are_shares(caps):
    with pytest.raises(ValueError, match=r"max(_class)? must lie in \(0, 1\], not"):
        DropRows(**caps)


def test_holes_are_counted_by_split_and_class_and_their_dependence_is_said():
    given = table(["a"] * 50 + ["b"] * 50)
    splits = Splits(train=np.arange(0, 100, 2), val=np.arange(1, 100, 4), test=np.arange(3, 100, 4), how="")
    missing = {"age": np.arange(100) < 40, "site": np.zeros(100, dtype=bool)}
    [found] = count_holes(given, "label", splits, missing)
    assert found["column"] == "age"
    assert found["rows"] == 40
    assert found["splits"] == {"train": 20, "val": 10, "test": 10}
    assert found["classes"] == {"a": 40, "b": 0}
    assert found["said"].startswith("holes of 'age' depend on 'label' (p less than 0.001, chi-squared)")
