"""Paired differences: their mean, its interval, and what counts as more than noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from zoo.metrics.paired import paired

values = st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=2, max_size=12)


@given(values)
def test_without_overlap_it_is_the_paired_t_test_of_scipy(differences):
    found = paired(differences)
    assert found.mean == pytest.approx(np.mean(differences), abs=1e-12)
    assert found.spread == pytest.approx(np.std(differences, ddof=1), abs=1e-9)
    if found.spread > 1e-6:
        interval = stats.ttest_1samp(differences, 0.0).confidence_interval(0.95)
        assert (found.mean - found.reach, found.mean + found.reach) == pytest.approx(tuple(interval), abs=1e-9)
        assert found.clear == (interval.low > 0 or interval.high < 0)


def test_splits_that_share_their_rows_widen_the_interval_as_nadeau_and_bengio_say():
    differences = [0.1, 0.12, 0.08, 0.11, 0.09]
    plain, corrected = paired(differences), paired(differences, overlap=0.25)
    assert corrected.reach / plain.reach == pytest.approx(math.sqrt((1 / 5 + 0.25) / (1 / 5)))
    assert corrected.clear
    assert not paired([0.1, -0.05, 0.08, 0.02, -0.01], overlap=0.25).clear


def test_one_pair_says_nothing_of_noise():
    found = paired([0.5])
    assert (found.mean, found.spread, found.reach, found.clear) == (0.5, None, None, False)


def test_equal_differences_are_clear_unless_they_are_nothing():
    assert paired([0.25, 0.25, 0.25]).clear
    assert not paired([0.0, 0.0, 0.0]).clear
