from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from zoo.registry.lookup import IMPUTERS
from zoo.specs import ImputerRecord, NoParameters
from zoo.testing.imputers import CHECKS, DRAWING, imputer_checks
from zoo.testing.tables import CATEGORICAL, HELD_OUT, NUMERIC, draw_sample


@dataclass
class Medians:
    """A right imputer to spoil: the median of each number, the commonest of each category."""

    numbers: np.ndarray
    codes: np.ndarray
    extra: Any = None

    def transform(self, columns):
        numeric = np.where(np.isnan(columns.numeric), self.numbers, columns.numeric)
        categorical = np.where(columns.categorical == -1, self.codes, columns.categorical)
        return dataclasses.replace(columns, numeric=numeric, categorical=categorical)

    def save(self):
        return {"numbers": self.numbers, "codes": self.codes}, {"extra": self.extra}


def learn(columns, kind=Medians, extra=None, shift=0.0):
    for name, values in zip(columns.numeric_names, columns.numeric.T, strict=True):
        if np.isnan(values).all():
            raise ValueError(f"{name} has no value")
    codes = [np.bincount(values[values >= 0], minlength=1).argmax() for values in columns.categorical.T]
    numbers = np.nanmedian(columns.numeric, axis=0) + shift if columns.numeric.size else np.empty(0)
    return kind(numbers, np.array(codes, dtype=np.int64), extra)


def record(kind=Medians, *, fit=None, load=None, parameters=NoParameters, **more):
    def usual(view, parameters, generator):
        return learn(view.covariates, kind)

    def again(arrays, values):
        return kind(arrays["numbers"], arrays["codes"], values["extra"])

    return ImputerRecord(
        name="mine", fills="covariates", fit=fit or usual, load=load or again, parameters=parameters, **more
    )


def after(change):
    """An imputer that changes what the right one gives: `change(fitted, given, found) -> found`."""

    class Changed(Medians):
        def transform(self, columns):
            return change(self, columns, super().transform(columns))

    return record(Changed)


def numbers(function):
    return after(
        lambda fitted, given, found: dataclasses.replace(found, numeric=function(given.numeric, found.numeric))
    )


def codes(function):
    return after(lambda fitted, given, found: dataclasses.replace(found, categorical=function(found.categorical)))


def drops_empty_columns(view, parameters, generator):
    """As scikit-learn's SimpleImputer does by default."""
    found = learn(dataclasses.replace(view.covariates, numeric=np.nan_to_num(view.covariates.numeric)))
    keep = ~np.isnan(view.covariates.numeric).all(axis=0)

    class Drops(Medians):
        def transform(self, columns):
            full = super().transform(columns)
            return dataclasses.replace(full, numeric=full.numeric[:, keep])

    return Drops(found.numbers, found.codes)


def leaves_empty_columns(view, parameters, generator):
    found = learn(dataclasses.replace(view.covariates, numeric=np.nan_to_num(view.covariates.numeric)))
    found.numbers[np.isnan(view.covariates.numeric).all(axis=0)] = np.nan
    return found


def refuses_without_a_name(view, parameters, generator):
    try:
        return learn(view.covariates)
    except ValueError:
        raise ValueError("a column is empty") from None


def learns_again(fitted, given, found):
    fitted.numbers = fitted.numbers + 1.0
    return found


def counts_calls(fitted, given, found):
    fitted.extra = (fitted.extra or 0) + 1
    return found


def needs_values(fitted, given, found):
    """As an imputer that looks for neighbours may: a row without any value has none."""
    bare = np.isnan(given.numeric).all(axis=1)
    return dataclasses.replace(found, numeric=np.where(bare[:, None], np.nan, found.numeric))


def centres(given, found):
    return np.where(np.isnan(given), found - np.nanmean(found), found)


def writes_to_rows(fitted, given, found):
    if len(given) == HELD_OUT:
        given.numeric[:] = found.numeric
    return found


def writes_to_training(view, parameters, generator):
    fitted = learn(view.covariates)
    view.covariates.numeric[np.isnan(view.covariates.numeric)] = 0.0
    return fitted


def reads_global(view, parameters, generator):
    return learn(view.covariates, shift=np.random.random())  # noqa: NPY002


def reads_its_own(view, parameters, generator):
    return learn(view.covariates, shift=np.random.default_rng().random())


def moves_global(view, parameters, generator):
    random.seed(1)
    return learn(view.covariates)


POOL: list[np.ndarray] = []


def pools(view, parameters, generator):
    """Learns from every row that it has ever seen."""

    class Pools(Medians):
        def transform(self, columns):
            POOL.append(columns.numeric)
            return super().transform(columns)

    seen = np.concatenate([view.covariates.numeric, *POOL])
    return learn(dataclasses.replace(view.covariates, numeric=seen), Pools)


def draws(view, parameters, generator):
    """Right: what is random comes from the generator."""
    return learn(view.covariates, shift=generator.random())


def saving(state):
    class Saves(Medians):
        def save(self):
            return state(self)

    return record(Saves)


def forgets(arrays, values):
    return Medians(arrays["numbers"] * 0.5, arrays["codes"], values["extra"])


def forgets_extra(arrays, values):
    return Medians(arrays["numbers"], arrays["codes"], "lost")


def drawing(change):
    """An imputer that draws: what is right but for `change(drawn, given, noise)`."""

    class Draws(Medians):
        def draw(self, columns, noise):
            found = self.transform(columns)
            moved = found.numeric + noise(found.numeric.shape[1])
            right = dataclasses.replace(found, numeric=np.where(np.isnan(columns.numeric), moved, found.numeric))
            return change(right, columns, noise)

    return record(Draws, draws=True)


def after_mean(given):
    return learn(given).transform(given)


def shares_noise(right, given, noise):
    drawn = np.where(np.isnan(given.numeric), right.numeric + right.numeric.mean(), right.numeric)
    return dataclasses.replace(right, numeric=drawn)


KEEP, HOLES, TYPES = "observed-entries-stay-bit-for-bit", "no-hole-is-left", "names-shapes-and-types-stay"
EMPTY, DRAW = "a-column-without-training-values-is-kept-or-refused", "the-generator-decides-what-is-random"
GIVEN, SAVED = "what-is-given-stays-as-it-is", "a-saved-imputer-does-the-same"
DRAWN = "draws-differ-and-each-row-has-its-own"
BROKEN = [
    (DRAWN, drawing(lambda right, given, noise: dataclasses.replace(right, numeric=right.numeric + 1.0)), "changed"),
    (DRAWN, drawing(lambda right, given, noise: given), "where it draws"),
    (DRAWN, drawing(lambda right, given, noise: after_mean(given)), "two draws fill every hole with the same"),
    (DRAWN, drawing(shares_noise), "draws other values alone than among others"),
    (DRAWN, drawing(lambda right, given, noise: right.numeric), "where it draws transform gives ndarray"),
    (KEEP, numbers(lambda given, found: found + 0.0), "an observed number comes back changed"),  # minus zero is lost
    (KEEP, numbers(lambda given, found: found.astype(np.float32)), "an observed number comes back changed"),
    (KEEP, codes(lambda found: np.maximum(found, 1)), "an observed category changes"),
    (HOLES, after(needs_values), "holes are left in"),
    (HOLES, numbers(lambda given, found: np.where(np.isnan(given), np.inf, found)), "with a number that is not finite"),
    (EMPTY, record(fit=drops_empty_columns), "'age' is known numeric values (24, 3) become (24, 2)"),
    (EMPTY, record(fit=leaves_empty_columns), "4 holes are left where no training value of 'age' is known"),
    (EMPTY, record(fit=refuses_without_a_name), "the refusal does not name it: a column is empty"),
    (TYPES, numbers(lambda given, found: found.astype(np.float32)), "numeric values of float64 become float32"),
    (TYPES, codes(lambda found: found.astype(np.int32)), "categorical values of int64 become int32"),
    (TYPES, numbers(lambda given, found: found[:, ::2]), "of 24 rows numeric values (24, 3) become (24, 2)"),
    (
        TYPES,
        after(lambda s, given, found: dataclasses.replace(found, categories=((), ()))),
        "categories become ((), ())",
    ),
    (TYPES, after(lambda s, given, found: found.numeric), "of 24 rows transform gives ndarray"),
    (
        "codes-stay-within-the-categories",
        record(fit=lambda view, p, g: Medians(np.zeros(3), np.array([3, 0]))),
        "code [3]",
    ),
    ("filling-rows-teaches-nothing", after(learns_again), "after other rows were filled, the same rows get others"),
    ("filling-rows-teaches-nothing", after(counts_calls), "filling rows changes what was learned"),
    ("each-row-is-filled-for-itself", numbers(centres), "gets other values alone than among others"),
    (GIVEN, after(writes_to_rows), "it writes to the rows that it is to fill"),
    (GIVEN, record(fit=writes_to_training), "it writes to the training rows"),
    (DRAW, record(fit=reads_global), "it changes the random numbers of numpy"),
    (DRAW, record(fit=moves_global), "it changes the random numbers of Python"),
    (DRAW, record(fit=reads_its_own), "the same generator gives something else the second time"),
    ("held-out-rows-teach-nothing", record(fit=pools), "other values in held-out rows change what it learned"),
    (SAVED, saving(lambda one: ({"n": np.array(["a"])}, {})), "save gives the array 'n' as <U1, not as numbers"),
    (SAVED, saving(lambda one: ({"n": [1.0]}, {})), "save gives the array 'n' as list, not as numbers"),
    (SAVED, saving(lambda one: ({}, {"n": one.numbers})), "values that JSON cannot hold: Object of type ndarray"),
    (SAVED, saving(lambda one: ({}, {"n": float("nan")})), "values that JSON cannot hold: Out of range float"),
    (SAVED, record(load=forgets), "after saving and loading it fills in other values"),
    (SAVED, record(load=forgets_extra), "saved again after loading, it is another"),
]


@pytest.mark.parametrize(
    ("name", "broken", "message"), BROKEN, ids=[f"{name}-{i}" for i, (name, *_) in enumerate(BROKEN)]
)
def test_a_broken_imputer_is_caught_by_name(name, broken, message, caught):
    POOL.clear()
    caught(imputer_checks(broken), name, message)


def test_there_is_a_broken_imputer_for_each_check():
    assert {name for name, *_ in BROKEN} == set(CHECKS) | set(DRAWING)


@pytest.mark.parametrize("fit", [None, draws], ids=["learns", "draws"])
def test_right_imputers_pass_every_check(fit, ends):
    assert ends(imputer_checks(record(fit=fit))) == {}


def test_an_imputer_of_numbers_alone_is_checked_on_numbers(ends):
    def fit(view, parameters, generator):
        if view.covariates.categorical_names:
            raise ValueError("numbers only")
        return learn(view.covariates)

    skipped = {"codes-stay-within-the-categories": "skipped: it takes no categories"}
    assert ends(imputer_checks(record(fit=fit))) == skipped


def test_an_imputer_that_takes_nothing_is_caught(caught):
    def fit(view, parameters, generator):
        raise ValueError("not today")

    message = "it refuses numbers, categories and both: not today; not today; not today"
    caught(imputer_checks(record(fit=fit)), HOLES, message)


def test_a_transductive_imputer_may_look_at_other_rows(result):
    found = result(imputer_checks(record(transductive=True)), "each-row-is-filled-for-itself")
    assert (found.outcome, found.message) == ("skipped", "it declares itself transductive")


@dataclass(frozen=True)
class Shift:
    shift: float = 0.0


def test_a_parameter_that_the_imputer_ignores_is_caught(caught, result):
    def shifts(view, parameters, generator):
        return learn(view.covariates, shift=parameters.shift)

    name = "the-parameter-shift-reaches-what-is-built"
    assert result(imputer_checks(record(fit=shifts, parameters=Shift)), name).outcome == "passed"
    caught(imputer_checks(record(parameters=Shift)), name, "shift changes nothing: 0.0, ")


def test_samples_differ_in_held_out_rows_alone():
    here, there = draw_sample((*NUMERIC, *CATEGORICAL), 0), draw_sample((*NUMERIC, *CATEGORICAL), 1)
    assert np.array_equal(here.train.numeric, there.train.numeric, equal_nan=True)
    assert np.array_equal(here.view.rows, there.view.rows)
    assert here.view.covariates is here.train
    assert not np.array_equal(here.held_out.numeric, there.held_out.numeric, equal_nan=True)
    for part in (here.train, here.held_out):
        assert np.isnan(part.numeric).all(axis=1).any()
        assert (part.categorical == -1).all(axis=1).any()
    assert np.isnan(here.without("mass").view.covariates.numeric[:, 1]).all()
    assert (here.without("site").view.covariates.categorical[:, 1] == -1).all()


OURS = [record.name for plugin, record in IMPUTERS["covariates"].items() if plugin.distribution == "backbone-zoo"]


@pytest.mark.parametrize("name", OURS)
def test_our_imputers_pass_every_check(name, ends):
    found = ends(imputer_checks(IMPUTERS["covariates"].get(name)))
    assert [said for said in found.values() if not said.startswith("skipped")] == []
