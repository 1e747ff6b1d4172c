"""Imputers that look at the other columns: scikit-learn as an oracle, and that they use what they see."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer

from zoo.registry.lookup import IMPUTERS
from zoo.testing.tables import columns_of, fit_columns
from zoo_imputation._forest import _joined, _pack, _unpack
from zoo_imputation._parameters import Constant, Gain, Iterative, Knn, MissForest, Miwae

LEARNERS = ("knn", "iterative", "missforest", "gain", "miwae")


def correlated(seed, rows=80, share=0.2):
    """Three numbers on one line but for noise, with and without holes; nearly every row keeps a value."""
    random = np.random.default_rng(seed)
    hidden = random.normal(size=(rows, 1))
    whole = hidden @ random.uniform(1.0, 3.0, (1, 3)) + 0.1 * random.normal(size=(rows, 3)) + [5.0, -2.0, 100.0]
    holed = np.where(random.random(whole.shape) < share, np.nan, whole)
    holed[0] = whole[0]
    return whole, holed


def scaled(values, like):
    return (values - np.nanmean(like, axis=0)) / np.nanstd(like, axis=0)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 9), weights=st.sampled_from(["uniform", "distance"]))
def test_knn_fills_what_scikit_learns_does(seed, k, weights):
    _, train = correlated(seed)
    _, other = correlated(seed + 1, share=0.4)
    oracle = KNNImputer(n_neighbors=k, weights=weights).fit(scaled(train, train))
    expected = oracle.transform(scaled(other, train)) * np.nanstd(train, axis=0) + np.nanmean(train, axis=0)
    found = fit_columns("knn", columns_of(train), Knn(k=k, weights=weights)).transform(columns_of(other)).numeric
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000), rounds=st.integers(1, 12))
def test_iterative_fills_what_scikit_learns_does(seed, rounds):
    _, train = correlated(seed)
    _, other = correlated(seed + 1, share=0.4)
    oracle = IterativeImputer(max_iter=rounds, tol=1e-3).fit(scaled(train, train))
    expected = oracle.transform(scaled(other, train)) * np.nanstd(train, axis=0) + np.nanmean(train, axis=0)
    found = fit_columns("iterative", columns_of(train), Iterative(rounds=rounds)).transform(columns_of(other)).numeric
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10_000), outputs=st.integers(1, 3))
def test_a_forest_kept_as_arrays_predicts_what_scikit_learns_does_before_and_after_packing(seed, outputs):
    random = np.random.default_rng(seed)
    rows, values = random.normal(size=(60, 4)), random.normal(size=(60, outputs))
    others = np.array([1, 3])
    grown = RandomForestRegressor(n_estimators=5, random_state=seed).fit(rows[:, others], values.squeeze())
    forest = _joined([tree.tree_ for tree in grown.estimators_], others)
    asked = random.normal(size=(25, 4))
    expected = grown.predict(asked[:, others]).reshape(25, outputs)
    packed = _pack([forest, forest])
    for own in (forest, *_unpack(packed)):
        np.testing.assert_allclose(own.predict(asked), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "parameters", "share"),
    [
        ("knn", Knn(), 0.5),
        ("iterative", Iterative(), 0.4),
        ("missforest", MissForest(trees=10), 0.6),
        ("gain", Gain(steps=1500), 0.7),
        ("miwae", Miwae(steps=400, hidden=32, draws=50), 0.6),
    ],
)
def test_it_learns_from_the_other_columns(name, parameters, share):
    _, train = correlated(3, rows=200)
    whole, other = correlated(4, rows=100)
    other[:, 2] = np.where(np.isnan(other[:, :2]).any(axis=1), other[:, 2], np.nan)
    fitted = fit_columns(name, columns_of(train), parameters)
    holes = np.isnan(other)

    found = fitted.transform(columns_of(other)).numeric
    mean = np.where(holes, np.nanmean(train, axis=0), other)
    gap = np.sqrt(np.mean((scaled(found, train) - scaled(whole, train))[holes] ** 2))
    by_mean = np.sqrt(np.mean((scaled(mean, train) - scaled(whole, train))[holes] ** 2))
    assert gap < share * by_mean


@pytest.mark.parametrize("name", ["knn", "iterative", "missforest"])
def test_a_category_that_a_number_tells_is_filled_rightly(name):
    random = np.random.default_rng(0)
    codes = random.integers(0, 3, (120, 1))
    numbers = np.stack([codes[:, 0] * 10.0 + random.normal(size=120), random.normal(size=120)], axis=1)
    categories = (("a", "b", "c"),)
    train = columns_of(numbers, np.where(random.random((120, 1)) < 0.2, -1, codes), categories)
    fitted = fit_columns(name, train, IMPUTERS["covariates"].get(name).parameters())
    found = fitted.transform(columns_of(numbers, np.full_like(codes, -1), categories)).categorical
    # A linear share of the middle class never leads by much: regressions get the outer ones.
    outer = codes[:, 0] != 1 if name == "iterative" else np.ones(120, dtype=bool)
    assert (found == codes)[outer].mean() > 0.95


def test_one_column_has_nothing_to_be_learned_from_and_gets_its_mean():
    train = columns_of(np.array([[1.0], [3.0], [np.nan], [5.0]]))
    for name in ("knn", "iterative", "missforest"):
        fitted = fit_columns(name, train, IMPUTERS["covariates"].get(name).parameters())
        assert fitted.transform(train).numeric[2, 0] == pytest.approx(3.0)


def test_a_constant_fills_numbers_and_a_category_by_name_and_refuses_a_strange_one():
    train = columns_of(np.array([[1.0], [np.nan]]), np.array([[0], [-1]]), (("a", "b"),))
    found = fit_columns("constant", train, Constant(value=-7.5, category="b")).transform(train)
    assert found.numeric[:, 0].tolist() == [1.0, -7.5]
    assert found.categorical[:, 0].tolist() == [0, 1]
    with pytest.raises(ValueError, match="column 'kind0' has no category 'c' in the training rows; it has a, b"):
        fit_columns("constant", train, Constant(category="c"))


def test_a_constant_needs_no_training_value_of_a_number():
    empty = columns_of(np.full((2, 1), np.nan))
    assert fit_columns("constant", empty, Constant(value=2.0)).transform(empty).numeric.tolist() == [[2.0], [2.0]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Knn(k=0), "k must be positive, not 0"),
        (lambda: Iterative(tol=0.0), r"tol must be positive, not 0\.0"),
        (lambda: Gain(hint=1.5), r"hint must lie in \(0, 1\], not 1\.5"),
        (lambda: Constant(value=float("inf")), "value must be finite, not inf"),
        (lambda: MissForest(trees=0), "trees must be positive, not 0"),
        (lambda: Miwae(draws=0), "draws must be positive, not 0"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
