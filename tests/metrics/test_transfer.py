"""Scores of features against what their definitions say, computed the slow way."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf

from zoo.metrics.transfer import h_score, log_me


def sample(rows, width, seed=0, signal=1.0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, rows)
    labels[:3] = [0, 1, 2]
    features = generator.normal(size=(rows, width))
    features[:, : min(3, width)] += signal * np.eye(3)[labels][:, : min(3, width)]
    return features, labels


def naive_log_me(features, labels):
    """The evidence as the density of N(0, I / b + F F' / a), maximised by a general optimiser."""
    rows, found = len(features), []
    for name in np.unique(labels):
        column = (labels == name).astype(float)

        def loss(logs, column=column):
            alpha, beta = np.exp(logs)
            covariance = np.eye(rows) / beta + features @ features.T / alpha
            return -multivariate_normal(np.zeros(rows), covariance).logpdf(column) / rows

        starts = [(0.0, 0.0), (3.0, 1.0), (1.0, 3.0)]
        found.append(-min(minimize(loss, start, method="Nelder-Mead", tol=1e-10).fun for start in starts))
    return np.mean(found)


@pytest.mark.parametrize(("rows", "width"), [(40, 5), (30, 12), (20, 30)])
def test_log_me_is_the_largest_evidence(rows, width):
    features, labels = sample(rows, width, signal=2.0)
    assert log_me(features, labels) == pytest.approx(naive_log_me(features, labels), abs=2e-4)


@pytest.mark.parametrize("score", [log_me, h_score])
def test_features_that_tell_the_classes_apart_score_higher(score):
    values = [score(*sample(120, 16, signal=signal)) for signal in (0.0, 1.0, 4.0)]
    assert values == sorted(values)
    assert values[2] > values[0]


@pytest.mark.parametrize(("rows", "width"), [(60, 8), (20, 40)])
def test_h_score_is_the_trace_of_its_definition(rows, width):
    features, labels = sample(rows, width)
    held = LedoitWolf().fit(features)
    means = np.stack([features[labels == label].mean(axis=0) for label in labels])
    between = np.cov(means, rowvar=False, bias=True)
    direct = np.trace(np.linalg.inv(held.covariance_) @ ((1 - held.shrinkage_) * between))
    assert h_score(features, labels) == pytest.approx(direct, rel=1e-9)


def test_a_dead_feature_changes_no_h_score_of_many_rows():
    features, labels = sample(60, 8)
    assert h_score(np.c_[features, np.ones(60)], labels) == pytest.approx(h_score(features, labels), rel=1e-9)


@pytest.mark.parametrize("score", [log_me, h_score])
@pytest.mark.parametrize(
    ("features", "labels", "said"),
    [
        (np.ones((4, 2)), np.zeros(4, int), "one class only"),
        (np.zeros((4, 2)), np.array([0, 0, 1, 1]), "features are all zero"),
        (np.full((4, 2), np.nan), np.array([0, 0, 1, 1]), "not all finite"),
        (np.ones((4, 2)), np.array([0, 1]), r"features must be \(N, D\) and labels \(N,\)"),
    ],
)
def test_what_cannot_be_scored_is_refused(score, features, labels, said):
    with pytest.raises(ValueError, match=said):
        score(features, labels)


def test_features_that_never_vary_have_no_h_score():
    with pytest.raises(ValueError, match="the same in every row"):
        h_score(np.ones((4, 2)), np.array([0, 0, 1, 1]))
