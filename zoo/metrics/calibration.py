"""Whether a classifier is right as often as it says."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

BINS = 15
"""Bins of equal width in which confidence is compared with accuracy, as many as Guo et al. 2017 have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bin:
    """Rows whose predicted class has a probability of more than `low` and at most `high`.

    Attributes:
        rows: how many there are.
        confidence: their mean probability of the predicted class; None without rows.
        accuracy: the share of them that is right; None without rows.
    """

    low: float
    high: float
    rows: int
    confidence: float | None
    accuracy: float | None


def calibration(probabilities: Tensor, labels: Tensor) -> tuple[float, tuple[Bin, ...]]:
    """Expected calibration error (Guo et al. 2017) of the predicted class, and the `BINS` bins it is the mean over.

    Args:
        probabilities: float64 (N, K).
        labels: int64 (N,).
    """
    confidence, predicted = probabilities.max(dim=1)
    edges = torch.linspace(0, 1, BINS + 1, dtype=torch.float64)
    places = torch.bucketize(confidence, edges[1:-1])
    columns = torch.stack([torch.ones_like(confidence), confidence, (predicted == labels).double()], dim=1)
    sums = torch.zeros(BINS, 3, dtype=torch.float64).index_add_(0, places, columns)
    error = float((sums[:, 1] - sums[:, 2]).abs().sum() / len(labels))
    bins = [
        Bin(
            low=low,
            high=high,
            rows=int(rows),
            confidence=sure / rows if rows else None,
            accuracy=hit / rows if rows else None,
        )
        for low, high, (rows, sure, hit) in zip(edges[:-1].tolist(), edges[1:].tolist(), sums.tolist(), strict=True)
    ]
    return error, tuple(bins)
