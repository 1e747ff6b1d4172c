"""Learning curves: known laws are found, hopeless ones are not extrapolated, and classes come in the right order."""

import re

import numpy as np
import pytest

from zoo.errors import DataError
from zoo.metrics.learning_curve import Curve, Laws, fit_curve, fit_laws, law_json, need, rank_gains
from zoo.metrics.subsets import Measured, measure, sizes_of, too_few

SIZES = (10, 20, 40, 80, 160, 320)


def measured(errors, sizes=SIZES, rows=4000, orders=5, seed=0):
    """Validation rows that are missed with a given probability at each size."""
    levels = np.random.default_rng(seed).random((orders, rows))
    found = np.stack([levels >= error for error in errors])
    return Measured(sizes=sizes, found=found, others=np.zeros((len(sizes), orders)))


def power(a, b, c):
    return [a * n**-b + c for n in SIZES]


@pytest.mark.parametrize(("a", "b", "c"), [(2.0, 0.5, 0.05), (1.2, 0.3, 0.0), (5.0, 1.0, 0.2)])
def test_a_known_law_is_recovered(a, b, c):
    laws = fit_laws(SIZES, np.array([power(a, b, c)]))
    assert laws.exponent[0] == pytest.approx(b, rel=0.06)
    assert laws.floor[0] == pytest.approx(c, abs=0.02)
    assert laws.error(640.0)[0] == pytest.approx(a * 640**-b + c, abs=0.005)


def test_a_law_has_neither_a_negative_floor_nor_a_negative_scale():
    laws = fit_laws(SIZES, np.array([np.linspace(0.5, 0.01, 6), np.linspace(0.1, 0.5, 6)]))
    assert (laws.floor >= 0).all()
    assert (laws.scale >= 0).all()
    assert laws.error(1e6)[1] == pytest.approx(laws.error(1.0)[1])  # what rises with rows is taken for flat


def test_rows_for_a_target_invert_the_law():
    laws = fit_laws(SIZES, np.array([power(2.0, 0.5, 0.05)]))
    assert laws.error(float(laws.rows_for(0.1)[0]))[0] == pytest.approx(0.1)
    assert np.isinf(laws.rows_for(0.01)[0])


def test_a_target_in_reach_is_estimated_with_an_interval_around_the_truth():
    found = need(fit_curve(measured(power(2.0, 0.5, 0.0))), 0.92)  # 625 rows, of which 320 are there
    assert found.state == "estimated"
    assert found.more == pytest.approx(305, rel=0.35)
    assert found.low <= 305
    assert found.high is None or found.high >= 305


def test_a_target_that_is_reached_needs_nothing():
    assert need(fit_curve(measured(power(2.0, 0.5, 0.0))), 0.8).state == "reached"


@pytest.mark.parametrize(
    ("errors", "target", "why"),
    [
        ([0.5] * 6, 0.9, "does not clearly rise"),
        (power(3.0, 0.9, 0.3), 0.9, "levels off before 0.9 in 100% of the resamples"),
        (power(1.2, 0.15, 0.0), 0.9, "would have to hold for|levels off"),
        ([0.9, 0.88, 0.86, 0.84, 0.82, 0.4], 0.9, "the curve missed its recall by 0.4"),
    ],
)
def test_what_cannot_be_said_is_not_said(errors, target, why):
    found = need(fit_curve(measured(errors)), target)
    assert found.state == "unknown"
    assert found.more is None
    assert re.search(why, found.why)


def test_resamples_that_say_anything_say_nothing():
    one, ten = np.ones(1), np.ones(10)
    law = Laws(scale=0.25 * one, exponent=0.3 * one, floor=0 * one, unit=320.0)
    either = np.repeat([0.15, 0.35], 5)
    resampled = Laws(scale=either, exponent=0.15 * ten, floor=0 * ten, unit=320.0)
    own = measured([0.6, 0.5, 0.45, 0.4, 0.3, 0.25])
    found = need(Curve(measured=own, law=law, resampled=resampled, missed=(0.0, 0.0, 0.0)), 0.8)
    assert found.state == "unknown"
    assert "between none at all and more than can be said" in found.why


def test_few_validation_rows_give_wide_intervals():
    few, many = (fit_curve(measured(power(2.0, 0.5, 0.0), rows=rows)).gains(100)[1] for rows in (20, 4000))
    assert np.ptp(np.quantile(few, (0.05, 0.95))) > np.ptp(np.quantile(many, (0.05, 0.95)))


def test_classes_come_in_the_order_of_their_gains():
    curves = {"flat": fit_curve(measured([0.3] * 6)), "steep": fit_curve(measured(power(2.0, 0.4, 0.0)))}
    curves["slow"] = fit_curve(measured(power(0.5, 0.3, 0.0)))
    gains = rank_gains(curves)
    assert list(gains) == ["steep", "slow", "flat"]
    assert gains["steep"].first > 0.95
    assert gains["flat"].recall == pytest.approx(0, abs=1e-3)
    assert gains["steep"].low <= gains["steep"].recall <= gains["steep"].high


def test_the_law_is_written_in_rows():
    law = law_json(fit_curve(measured(power(2.0, 0.5, 0.05))))
    assert law["a"] * 100 ** -law["b"] + law["c"] == pytest.approx(0.25, abs=0.02)


def blobs(counts, apart, seed=0):
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(len(counts), 16))
    codes = np.repeat(np.arange(len(counts)), counts)
    return (centres[codes] * apart + generator.normal(size=(len(codes), 16))).astype(np.float32), codes


@pytest.mark.parametrize("alone", [True, False])
def test_more_rows_find_more_and_all_orders_end_alike(alone):
    features, codes = blobs([320, 160, 80], 0.6)
    train, val = ((features[part::2], codes[part::2]) for part in (0, 1))
    found = measure(train, val, [0, 1, 2], orders=3, alone=alone)
    for code, rows in enumerate((160, 80, 40)):
        own = found[code]
        assert own.sizes[-1] == rows
        assert list(own.sizes) == sorted(set(own.sizes))
        assert len(own.sizes) >= 5
        assert own.found.shape[1:] == (3, rows)
        assert (own.found[-1] == own.found[-1, :1]).all()
        assert own.found[-1].mean() > own.found[0].mean()
        assert np.isfinite(own.others).all()


def test_the_same_seed_measures_the_same():
    train = val = blobs([60, 60], 0.4)
    one, again = (measure(train, val, [0, 1], orders=3)[1].found for _ in range(2))
    assert (one == again).all()


@pytest.mark.parametrize("rows", [20, 47, 160, 1000, 100_000])
def test_sizes_are_five_at_least_and_end_with_all(rows):
    sizes = sizes_of(rows)
    assert len(sizes) >= 5
    assert sizes[-1] == rows
    assert sizes[0] >= 5


def test_classes_with_too_few_rows_have_no_curve_and_say_why():
    train, val = np.repeat([0, 1, 2], [100, 19, 50]), np.repeat([0, 1, 2], [30, 10, 4])
    refused = too_few(train, val, ("ok", "crack", "hole"))
    assert refused == {
        1: "crack has 19 training rows, and a curve needs 20",
        2: "hole has 4 validation rows, and its recall needs 5",
    }


def test_no_class_with_enough_rows_is_refused():
    with pytest.raises(DataError, match=r"no class has enough rows for a learning curve: a has 3 training rows"):
        too_few(np.repeat([0, 1], 3), np.repeat([0, 1], 3), ("a", "b"))
