"""Probes learn from other rows than they are scored on, keep groups whole, and are the same each time."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.errors import DataError
from zoo.metrics.probing import enough_rows, linear_probe, make_folds, nearest_neighbours

LABELS = np.arange(60) % 3
NAMES = ("a", "b", "c")


def features(signal):
    noise = np.random.default_rng(0).normal(size=(60, 6))
    noise[:, :3] += signal * np.eye(3)[LABELS]
    return noise.astype(np.float32)


@pytest.mark.parametrize("probe", [linear_probe, nearest_neighbours])
def test_a_probe_finds_what_is_there_and_nothing_in_noise(probe):
    folds = make_folds(LABELS, 5, 0)
    found = probe(features(6.0), LABELS, folds, "balanced_accuracy", NAMES)
    assert found.mean > 0.95
    assert found == probe(features(6.0), LABELS, folds, "balanced_accuracy", NAMES)
    assert probe(features(0.0), LABELS, folds, "balanced_accuracy", NAMES).mean < 0.6
    assert np.isfinite(probe(features(6.0), LABELS, folds, "log_loss", NAMES).mean)


def test_groups_stay_whole():
    groups = np.arange(60) // 6
    for train, held in make_folds(LABELS, 5, 0, groups):
        assert not set(groups[train]) & set(groups[held])


def test_too_few_groups_are_refused():
    with pytest.raises(DataError, match="2 groups cannot stand in 5 folds"):
        make_folds(LABELS, 5, 0, np.arange(60) % 2)


def test_groups_that_are_classes_are_refused():
    labels = np.arange(60) % 2
    with pytest.raises(DataError, match="one would learn from a single class"):
        make_folds(labels, 2, 0, labels)


def test_rare_classes_are_left_out_and_two_must_remain():
    labels = np.array([0] * 6 + [1] * 6 + [2] * 2)
    assert enough_rows(labels, 5).tolist() == [True] * 12 + [False] * 2
    with pytest.raises(DataError, match="1 of 2 classes have 5 training rows or more"):
        enough_rows(np.array([0] * 6 + [1] * 2), 5)
