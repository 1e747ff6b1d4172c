"""How well frozen features suit labels, without training a head: LogME and the regularised H-score."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf

Array = NDArray[np.float64]

ROUNDS = 200
TOLERANCE = 1e-6
"""Relative change of the ratio of precisions at which the evidence stands still."""


def log_me(features: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """Log of the maximum evidence of a Bayesian linear model for each class against the rest, by row; more is better.

    You, Liu, Wang & Long, LogME: Practical Assessment of Pre-trained Models for Transfer Learning, ICML 2021. The
    evidence of a column y of 0 and 1 under y ~ N(F w, 1/b), w ~ N(0, 1/a) is maximised over a and b by MacKay's fixed
    point, and the mean over the classes is taken. Where there are fewer rows than features, the directions without data
    count with their prior precision; the authors' code leaves these D - N terms out, which shifts backbones of
    different width against one another.

    Args:
        features: (N, D).
        labels: int64 (N,), one of at least two classes each.

    Raises:
        ValueError: fewer than two classes, shapes that do not fit, or features that are not finite or all zero.
    """
    held, classes = _checked(features, labels)
    spectrum, left = _spectrum(held)
    found = []
    for name in classes:
        column = (labels == name).astype(np.float64)
        found.append(_evidence(spectrum, left.T @ column, float(column @ column), held.shape))
    return float(np.mean(found))


def _checked(features: NDArray[np.floating], labels: NDArray[np.int64]) -> tuple[Array, NDArray[np.int64]]:
    held = np.asarray(features, dtype=np.float64)
    if held.ndim != 2 or labels.shape != held.shape[:1]:
        raise ValueError(f"features must be (N, D) and labels (N,), not {held.shape} and {labels.shape}")
    if not np.isfinite(held).all():
        raise ValueError("features are not all finite")
    if not held.any():
        raise ValueError("features are all zero")
    classes = np.unique(labels)
    if len(classes) < 2:
        raise ValueError("labels are of one class only; there is nothing to tell apart")
    return held, classes


def _spectrum(features: Array) -> tuple[Array, Array]:
    """Squared singular values (k,) above rounding, and left singular vectors (N, k)."""
    left, singular, _ = np.linalg.svd(features, full_matrices=False)
    kept = singular > singular[0] * max(features.shape) * np.finfo(np.float64).eps
    return singular[kept] ** 2, left[:, kept]


def _evidence(spectrum: Array, along: Array, square: float, shape: tuple[int, ...]) -> float:
    """Log evidence by row of one column.

    Args:
        spectrum: squared singular values of the features (k,).
        along: the column in the left singular vectors (k,).
        square: its squared norm.
        shape: rows and features.
    """
    rows, width = shape
    beyond = max(square - float(along @ along), 0.0)  # what no weights can explain
    ratio, alpha, beta = 1.0, 1.0, 1.0
    for _ in range(ROUNDS):
        weights = float(np.sum(spectrum * along**2 / (ratio + spectrum) ** 2))
        error = float(np.sum((along / (1 + spectrum / ratio)) ** 2)) + beyond
        effective = float(np.sum(spectrum / (ratio + spectrum)))
        alpha = effective / max(weights, 1e-12)
        beta = max(rows - effective, 1e-12) / max(error, 1e-12)
        before, ratio = ratio, alpha / beta
        if abs(ratio - before) <= TOLERANCE * before:
            break
    weights = float(np.sum(spectrum * along**2 / (ratio + spectrum) ** 2))
    error = float(np.sum((along / (1 + spectrum / ratio)) ** 2)) + beyond
    determinant = float(np.sum(np.log(alpha + beta * spectrum))) + (width - len(spectrum)) * math.log(alpha)
    total = width * math.log(alpha) + rows * math.log(beta / (2 * math.pi))
    return (total - determinant - beta * error - alpha * weights) / (2 * rows)


def h_score(features: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """Spread between the classes' means in units of the features' own spread, with shrinkage; more is better.

    Bao et al., An Information-Theoretic Approach to Transferability in Task Transfer Learning, ICIP 2019: the trace of
    cov(F)^-1 cov(E[F | y]). With fewer rows than features that is meaningless, so cov(F) is Ledoit and Wolf's, and
    cov(E[F | y]) is multiplied by one minus their shrinkage: Ibrahim, Ponomareva & Mazumder, Newer is not always
    better: Rethinking transferability metrics, their peculiarities, stability and performance, ECML 2022.

    Args:
        features: (N, D).
        labels: int64 (N,), one of at least two classes each.

    Raises:
        ValueError: as `log_me`; or features that are the same in every row.
    """
    held, classes = _checked(features, labels)
    held = held[:, held.std(axis=0) > 0]  # a dead feature tells nothing and would make the covariance singular
    if not held.shape[1]:
        raise ValueError("features are the same in every row")
    held = held - held.mean(axis=0)
    covariance, shrinkage = ledoit_wolf(held, assume_centered=True)
    means = np.stack([held[labels == name].mean(axis=0) for name in classes])
    shares = np.array([(labels == name).mean() for name in classes])
    solved = np.linalg.solve(np.atleast_2d(covariance), means.T)
    return float((1 - shrinkage) * np.sum(shares * np.sum(means.T * solved, axis=0)))
