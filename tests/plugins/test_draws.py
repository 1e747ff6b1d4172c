"""Imputers that draw what a hole may have held: from where, and how widely."""

from dataclasses import replace

import numpy as np
import pytest

from zoo.run.row_noise import row_noise
from zoo.specs import ImputerRecord
from zoo.testing.tables import columns_of, fit_columns
from zoo_imputation._parameters import Iterative, Knn, Miwae

ROWS = 600


def line(rows=ROWS, seed=0):
    """A number, and another that follows it but for noise of deviation 2."""
    random = np.random.default_rng(seed)
    first = random.normal(10.0, 5.0, rows)
    return np.stack([first, 3.0 * first + 2.0 * random.normal(size=rows)], axis=1)


def drawn(fitted, columns, draw=0):
    return fitted.draw(columns, row_noise(columns, [str(row) for row in range(len(columns))], draw))


@pytest.mark.parametrize(
    ("name", "parameters", "wide"),
    [("iterative", Iterative(), 0.1), ("knn", Knn(k=15), 0.25), ("miwae", Miwae(steps=600, latent=2, hidden=32), 0.6)],
)
def test_draws_lie_about_what_the_other_column_says_as_widely_as_the_values_do(name, parameters, wide):
    fitted = fit_columns(name, columns_of(line()), parameters)
    holed = np.stack([np.full(ROWS, 12.0), np.full(ROWS, np.nan)], axis=1)  # one row many times: names tell them apart
    found = drawn(fitted, columns_of(holed)).numeric[:, 1]
    assert found.mean() == pytest.approx(36.0, abs=1.0)
    assert found.std() == pytest.approx(2.0, rel=wide)


def test_of_two_numbers_that_are_both_missing_draws_keep_what_they_have_to_do_with_each_other():
    for name, parameters in (("iterative", Iterative()), ("knn", Knn())):
        fitted = fit_columns(name, columns_of(line()), parameters)
        found = drawn(fitted, columns_of(np.full((ROWS, 2), np.nan))).numeric
        assert found[:, 0].std() == pytest.approx(5.0, rel=0.15), name
        assert np.corrcoef(found.T)[0, 1] > 0.95, name


def test_a_category_is_drawn_by_its_shares():
    random = np.random.default_rng(1)
    codes = (random.random((ROWS, 1)) < 0.25).astype(np.int64)
    train = columns_of(random.normal(size=(ROWS, 1)), codes, (("a", "b"),))
    holed = replace(train, categorical=np.full_like(codes, -1))
    for name, parameters in (("iterative", Iterative()), ("knn", Knn(k=50))):
        fitted = fit_columns(name, train, parameters)
        shares = [(drawn(fitted, holed, draw).categorical == 1).mean() for draw in range(2)]
        assert shares == pytest.approx([codes.mean()] * 2, abs=0.06), name
        assert (fitted.transform(holed).categorical == 0).all(), name


def test_a_single_column_is_drawn_about_its_mean():
    train = columns_of(line()[:, :1])
    found = drawn(fit_columns("iterative", train, Iterative()), columns_of(np.full((ROWS, 1), np.nan))).numeric
    assert found.mean() == pytest.approx(10.0, abs=0.8)
    assert found.std() == pytest.approx(5.0, rel=0.15)


def test_neighbours_draw_one_of_their_values():
    train = line()
    found = drawn(fit_columns("knn", columns_of(train), Knn()), columns_of(np.array([[12.0, np.nan]] * 20))).numeric[
        :, 1
    ]
    near = train[np.argsort(np.abs(train[:, 0] - 12.0))[:5], 1]
    assert set(found.tolist()) == set(near.tolist())


def test_a_row_draws_the_same_wherever_it_stands_and_other_rows_and_draws_others():
    columns = columns_of(np.array([[1.0, np.nan], [2.0, np.nan], [1.0, np.nan]]))
    names = ["a.png", "b.png", "c.png"]
    first = row_noise(columns, names, 0)
    begun, later = first(2), first(3)
    assert np.array_equal(np.concatenate([begun, later], axis=1), row_noise(columns, names, 0)(5))
    turned = columns_of(columns.numeric[::-1])
    assert np.array_equal(row_noise(turned, names[::-1], 0)(2), begun[::-1])
    assert len(np.unique(begun)) == 6
    assert not np.isin(row_noise(columns, names, 1)(2), begun).any()
    assert ((begun > 0) & (begun < 1)).all()


def test_only_imputers_of_covariates_draw():
    with pytest.raises(ValueError, match="only imputers of covariates do"):
        ImputerRecord(name="mine", fills="pixels", fit=fit_columns, load=fit_columns, draws=True)
