"""Covariates: kinds and categories fixed from training rows, surprises told as holes, encoded without holes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from zoo.data.covariates import CovariateEncoder, CovariateSchema, columns, fit_encoder, fix_schema
from zoo.data.table import table_of_images
from zoo.errors import DataError

CELLS = {
    "age": [30, None, 50, 40],
    "sex": ["f", "m", None, "x"],
    "dose": ["1.5", "2", "", "oops"],
    "left": [True, False, True, None],
}
TRAIN = np.array([0, 1, 2], dtype=np.int64)


@pytest.fixture
def table(make_table):
    made = make_table(CELLS, covariates=tuple(CELLS))
    return replace(made, frame=made.frame.with_columns(pl.col("dose").replace("", None)))


@pytest.fixture
def schema(table) -> CovariateSchema:
    made = fix_schema(table, TRAIN)
    assert made is not None
    return made


@pytest.fixture
def complete(table, schema):
    """The training rows, their holes filled by hand."""
    train, _ = columns(table.take(TRAIN), schema)
    return replace(train, numeric=np.nan_to_num(train.numeric, nan=4.0), categorical=np.maximum(train.categorical, 0))


def test_kinds_and_categories_come_from_the_training_rows(schema):
    assert schema == CovariateSchema(
        names=("age", "sex", "dose", "left"),
        kinds=("numeric", "categorical", "numeric", "categorical"),
        categories=(("f", "m"), ("false", "true")),
    )


def test_text_is_categorical_unless_every_value_is_a_number(make_table):
    table = make_table({"a": ["1", " 2e3 "], "b": ["1", "NA"], "c": ["1", "inf"]}, covariates=("a", "b", "c"))
    made = fix_schema(table, TRAIN[:2])
    assert made is not None
    assert made.kinds == ("numeric", "categorical", "numeric")  # infinity is a number, and a hole


def test_no_covariates_give_no_schema(make_table):
    assert fix_schema(make_table({"y": ["a"]}), TRAIN[:1]) is None


def test_a_covariate_that_training_never_saw_is_refused(make_table):
    table = make_table({"a": [None, None, 1]}, covariates=("a",))
    with pytest.raises(DataError, match="covariate 'a' has no value in the 2 training rows; leave it out"):
        fix_schema(table, TRAIN[:2])


def test_holes_and_surprises_are_holes_and_surprises_are_told(table, schema):
    made, said = columns(table, schema)
    np.testing.assert_array_equal(made.numeric, [[30, 1.5], [np.nan, 2], [50, np.nan], [40, np.nan]])
    assert made.categorical.tolist() == [[0, 1], [1, 0], [-1, 1], [-1, -1]]
    assert made.numeric_names == ("age", "dose")
    assert made.categorical_names == ("sex", "left")
    assert said == (
        "covariate 'dose': 1 cells are no numbers, such as 'oops'; taken as holes",
        "covariate 'sex': 1 cells hold categories not seen in training ('x'); taken as holes",
    )


def test_many_unseen_categories_are_told_in_short(make_table, schema):
    table = make_table({**{name: [None] * 7 for name in CELLS}, "sex": [f"s{n}" for n in range(7)]})
    assert columns(table, schema)[1] == (
        "covariate 'sex': 7 cells hold categories not seen in training ('s0', 's1', 's2', 's3', 's4' and 2 more); "
        "taken as holes",
    )


def test_a_table_without_the_columns_has_holes_and_does_not_crash(draw_tree, schema):
    made, said = columns(table_of_images([draw_tree({"x": 2})]), schema)
    assert np.isnan(made.numeric).all()
    assert (made.categorical == -1).all()
    assert len(made) == 2
    assert said[0] == "the table has no column 'age': every row counts as a hole of this covariate"
    assert len(said) == 4


def test_encoding_standardises_numbers_and_spreads_categories(schema, complete):
    encoder = fit_encoder(schema, complete)
    got = encoder.encode(complete)
    assert encoder.names == ("age", "dose", "sex=f", "sex=m", "left=false", "left=true")
    assert got.shape == (3, encoder.width) == (3, 6)
    assert got.dtype == torch.float32
    expected = (complete.numeric - complete.numeric.mean(0)) / complete.numeric.std(0)
    np.testing.assert_allclose(got[:, :2].numpy(), expected, rtol=1e-6)
    assert got[:, 2:].tolist() == [[1, 0, 0, 1], [0, 1, 1, 0], [1, 0, 0, 1]]


def test_statistics_are_those_of_the_filled_training_rows(schema, complete):
    assert fit_encoder(schema, complete).mean == pytest.approx((28.0, 2.5))


def test_a_constant_number_is_not_divided_by_zero(schema, complete):
    constant = replace(complete, numeric=np.full((3, 2), 7.0))
    encoder = fit_encoder(schema, constant)
    assert encoder.std == (1.0, 1.0)
    assert (encoder.encode(constant)[:, :2] == 0).all()


def test_a_hole_that_is_left_is_refused(table, schema, complete):
    holed, _ = columns(table.take(TRAIN), schema)
    match = r"holes in 2 of 3 rows: age \(1\), dose \(1\), sex \(1\); .* --impute covariates=NAME"
    with pytest.raises(DataError, match=match):
        fit_encoder(schema, complete).encode(holed)
    with pytest.raises(DataError, match=match):
        fit_encoder(schema, holed)


def test_columns_of_another_schema_are_refused(schema, complete):
    encoder = fit_encoder(schema, complete)
    with pytest.raises(ValueError, match="for \\('age', 'sex', 'dose', 'left'\\)"):
        encoder.encode(replace(complete, numeric_names=("dose", "age")))


def test_an_encoder_survives_json(schema, complete):
    encoder = fit_encoder(schema, complete)
    again = CovariateEncoder.from_json(json.loads(json.dumps(encoder.to_json())))
    assert again == encoder
    assert torch.equal(again.encode(complete), encoder.encode(complete))
