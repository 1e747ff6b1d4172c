import numpy as np
import pytest

from zoo.data.covariates import CovariateEncoder, fix_schema
from zoo.data.drop_rows import DropRows
from zoo.errors import OptionError
from zoo.run.covariates import Covariates
from zoo.run.imputing import parse_imputing
from zoo.specs import Call
from zoo.testing.tables import CATEGORICAL, NUMERIC, draw_sample


def test_imputer_indicator_and_row_policy_are_told_apart():
    asked = parse_imputing(["covariates=knn(k=3)+indicator", "rows=drop(max=0.1)"])
    assert str(asked.calls["covariates"]) == "knn(k=3)"
    assert asked.indicator
    assert asked.rows == DropRows(max=0.1)
    assert parse_imputing(["covariates=indicator"]).calls == {}
    assert parse_imputing([]).rows is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["covariates=mean+knn"], "one imputer for covariates, please"),
        (["rows=drop", "rows=drop"], "one imputer for rows, please"),
        (["rows=keep"], r"rows can be dropped, not keep: rows=drop\(max=0\.05\)"),
        (["rows=drop(max=2.0)"], r"max must lie in \(0, 1\], not 2\.0"),
        (["covariates=knn(k=0)"], "k must be positive, not 0"),
        (["pixels=knn"], "unknown imputer of pixels 'knn'; there are .*; knn fills covariates"),
        (["pixel=mean"], "holes of pixel are filled by nothing; say covariates, pixels, channels or rows.* pixels"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_data_are_read(options, message):
    with pytest.raises(OptionError, match=message):
        parse_imputing(options)


def test_indicators_mark_what_was_missing_beside_what_was_filled_in_and_survive_saving():
    sample = draw_sample((*NUMERIC, *CATEGORICAL))
    schema = fix_schema(sample.table, sample.splits.train)
    plain = Covariates.fit(schema, sample.view, Call(name="mean"), seed=0)
    marked = Covariates.fit(schema, sample.view, Call(name="mean"), seed=0, indicator=True)
    first, _, filled = plain.encode(sample.table)
    second, _, _ = marked.encode(sample.table)
    width = plain.encoder.width
    assert marked.encoder.names[width:] == tuple(f"missing({name})" for name in (*NUMERIC, *CATEGORICAL))
    assert second.shape[1] == marked.encoder.width == width + 5
    assert np.array_equal(second[:, :width].numpy(), first.numpy())
    assert second[:, width:].sum(dim=0).tolist() == [filled[name] for name in (*NUMERIC, *CATEGORICAL)]
    again = Covariates.load(*marked.save())
    assert np.array_equal(again.encode(sample.table)[0].numpy(), second.numpy())
    with pytest.raises(ValueError, match="this encoder marks what was missing; say what was"):
        marked.encoder.encode(marked.complete(sample.table)[0])


def test_the_encoder_of_an_older_run_has_no_indicators():
    sample = draw_sample(("age",))
    schema = fix_schema(sample.table, sample.splits.train)
    state = Covariates.fit(schema, sample.view, None, seed=0).encoder.to_json()
    del state["indicators"]
    assert CovariateEncoder.from_json(state).names == ("age",)


@pytest.mark.parametrize("name", ["knn", "iterative", "missforest"])
def test_an_imputer_saved_with_a_run_fills_the_same(name):
    sample = draw_sample((*NUMERIC, *CATEGORICAL))
    schema = fix_schema(sample.table, sample.splits.train)
    fitted = Covariates.fit(schema, sample.view, Call(name=name), seed=0)
    again = Covariates.load(*fitted.save())
    assert np.array_equal(again.encode(sample.table)[0].numpy(), fitted.encode(sample.table)[0].numpy())
