from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from zoo.registry.lookup import IMPUTERS
from zoo.specs import CovariateColumns, NoParameters, TrainView
from zoo.specs.training import SPLITTERS_SEAL

NAMES = ("mean", "median", "most-frequent")
CATEGORIES = ("mono", "poly", "thin film")
every_imputer = pytest.mark.parametrize("name", NAMES)


def columns_of(numeric: np.ndarray, categorical: np.ndarray) -> CovariateColumns:
    return CovariateColumns(
        numeric_names=tuple(f"x{i}" for i in range(numeric.shape[1])),
        numeric=numeric,
        categorical_names=tuple(f"kind{i}" for i in range(categorical.shape[1])),
        categorical=categorical,
        categories=(CATEGORIES,) * categorical.shape[1],
    )


def fit(name: str, columns: CovariateColumns | None):
    rows = np.arange(len(columns) if columns else 0)
    view = TrainView(SPLITTERS_SEAL, rows=rows, statistics={}, covariates=columns)
    return IMPUTERS["covariates"].get(name).fit(view, NoParameters(), np.random.default_rng(0))


@st.composite
def tables(draw, observed: bool = False) -> CovariateColumns:
    """Rows with holes anywhere; with `observed`, the first row has none."""
    rows, numbers, kinds = draw(st.integers(1, 12)), draw(st.integers(0, 3)), draw(st.integers(0, 2))
    number = st.one_of(st.floats(-1e6, 1e6), st.just(np.nan), st.just(-0.0))
    numeric = draw(arrays(np.float64, (rows, numbers), elements=number))
    categorical = draw(arrays(np.int64, (rows, kinds), elements=st.integers(-1, len(CATEGORIES) - 1)))
    if observed:
        numeric[0] = np.nan_to_num(numeric[0])
        categorical[0] = np.maximum(categorical[0], 0)
    return columns_of(numeric, categorical)


def same(left: CovariateColumns, right: CovariateColumns) -> bool:
    bits = (
        left.numeric.tobytes() == right.numeric.tobytes() and left.categorical.tobytes() == right.categorical.tobytes()
    )
    return bits and left.numeric.shape == right.numeric.shape and left.numeric_names == right.numeric_names


@every_imputer
@settings(deadline=None, max_examples=50)
@given(table=tables(observed=True))
def test_what_was_observed_stays_bit_for_bit_and_no_hole_is_left(name, table):
    before = replace(table, numeric=table.numeric.copy(), categorical=table.categorical.copy())
    filled = fit(name, table).transform(table)
    assert same(table, before)
    seen, known = ~np.isnan(table.numeric), table.categorical != -1
    assert filled.numeric[seen].tobytes() == table.numeric[seen].tobytes()
    assert np.array_equal(filled.categorical[known], table.categorical[known])
    assert np.isfinite(filled.numeric).all()
    assert ((filled.categorical >= 0) & (filled.categorical < len(CATEGORIES))).all()
    assert (filled.numeric.dtype, filled.categorical.dtype) == (np.float64, np.int64)
    assert (filled.numeric.shape, filled.categorical.shape) == (table.numeric.shape, table.categorical.shape)


@every_imputer
@settings(deadline=None, max_examples=50)
@given(table=tables(observed=True))
def test_each_row_is_filled_for_itself_and_nothing_is_learned_again(name, table):
    fitted = fit(name, table)
    state = [array.tobytes() for array in fitted.save()[0].values()]
    whole = fitted.transform(table)
    for row in range(len(table)):
        one = replace(table, numeric=table.numeric[row : row + 1], categorical=table.categorical[row : row + 1])
        alone = fitted.transform(one)
        assert alone.numeric.tobytes() == whole.numeric[row : row + 1].tobytes()
        assert np.array_equal(alone.categorical, whole.categorical[row : row + 1])
    assert [array.tobytes() for array in fitted.save()[0].values()] == state


@every_imputer
@settings(deadline=None, max_examples=50)
@given(table=tables(observed=True))
def test_a_saved_imputer_does_the_same_after_a_round_trip_through_json(name, table):
    fitted = fit(name, table)
    arrays_, values = fitted.save()
    loaded = IMPUTERS["covariates"].get(name).load(arrays_, json.loads(json.dumps(values)))
    assert same(loaded.transform(table), fitted.transform(table))
    assert loaded.categories == fitted.categories


def test_the_mean_is_that_of_the_observed_training_values_and_categories_take_the_most_frequent():
    train = columns_of(np.array([[1.0, 5.0], [np.nan, 7.0], [4.0, np.nan]]), np.array([[2], [2], [-1]]))
    held_out = columns_of(np.array([[np.nan, np.nan], [900.0, 900.0]]), np.array([[-1], [0]]))
    filled = fit("mean", train).transform(held_out)
    assert filled.numeric.tolist() == [[2.5, 6.0], [900.0, 900.0]]
    assert filled.categorical.tolist() == [[2], [0]]


def test_the_most_frequent_value_fills_numbers_and_of_equals_the_smallest():
    train = columns_of(np.array([[3.0, 2.0], [3.0, 1.0], [8.0, np.nan]]), np.array([[1], [0], [-1]]))
    filled = fit("most-frequent", train).transform(columns_of(np.full((1, 2), np.nan), np.array([[-1]])))
    assert filled.numeric.tolist() == [[3.0, 1.0]]
    assert filled.categorical.tolist() == [[0]]


@every_imputer
def test_a_column_without_an_observed_training_value_is_refused_by_name(name):
    with pytest.raises(ValueError, match="column 'x1' has no observed value in the training rows; leave it out"):
        fit(name, columns_of(np.array([[1.0, np.nan]]), np.zeros((1, 1), dtype=np.int64)))
    with pytest.raises(ValueError, match="column 'kind0' has no observed value in the training rows; leave it out"):
        fit(name, columns_of(np.array([[1.0]]), np.full((1, 1), -1)))


@every_imputer
def test_without_covariates_there_is_nothing_to_learn(name):
    with pytest.raises(ValueError, match="there are no covariates to impute"):
        fit(name, None)


@every_imputer
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"numeric_names": ("y0",)}, r"fitted on numeric_names \('x0',\), not \('y0',\)"),
        ({"categorical_names": ("type",)}, r"fitted on categorical_names \('kind0',\), not \('type',\)"),
        ({"categories": (("poly", "mono"),)}, "fitted on categories"),
    ],
)
def test_other_columns_than_those_of_training_are_refused(name, change, message):
    table = columns_of(np.ones((2, 1)), np.zeros((2, 1), dtype=np.int64))
    with pytest.raises(ValueError, match=message):
        fit(name, table).transform(replace(table, **change))


def test_the_imputers_fill_covariates_and_say_what_they_do():
    for name in NAMES:
        record = IMPUTERS["covariates"].get(name)
        assert record.fills == "covariates"
        assert record.summary


def test_the_plugin_imports_neither_numpy_nor_scikit_learn():
    code = "import sys, zoo_imputation; sys.exit(bool({'numpy', 'sklearn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
