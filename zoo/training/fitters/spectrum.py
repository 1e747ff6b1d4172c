"""Ridge regression in closed form: one eigendecomposition serves every strength.

Hoerl and Kennard 1970. With rows x_i (width D), targets t_i (K), weights w_i and N rows, W and b minimise

    1/2 * mean_i w_i |W x_i + b - t_i|^2 + strength/2 * |W|^2

in which the bias is free. scikit-learn's `Ridge(alpha=N * strength)` minimises the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

Rows = tuple[Tensor, Tensor, Tensor]
"""Features (N, D), targets (N, K) and weights (N,), float64."""


@dataclass(frozen=True, kw_only=True)
class RidgePath:
    """The solutions for all strengths; R is the smaller of D and N.

    Attributes:
        basis: (D, R), what the eigenvectors are in the space of features.
        values: (R,), eigenvalues, not negative.
        projected: (R, K), targets in the basis.
        feature_mean, target_mean: weighted means (D,) and (K,).
    """

    basis: Tensor
    values: Tensor
    projected: Tensor
    feature_mean: Tensor
    target_mean: Tensor

    def solve(self, strength: float) -> tuple[Tensor, Tensor]:
        """Weights (K, D) and biases (K,), float64; with strength 0 the solution of the smallest norm."""
        shifted = self.values + strength
        # Directions in which the rows do not differ: no data, no penalty, no weight.
        kept = shifted > 1e-12 * self.values.max().clamp_min(1e-300)
        inverse = torch.where(kept, 1.0 / torch.where(kept, shifted, 1.0), 0.0)
        weight = (self.basis @ (self.projected * inverse[:, None])).T
        return weight, self.target_mean - weight @ self.feature_mean


def ridge_path(parts: Iterable[Rows], rows: int, width: int) -> RidgePath:
    """Read `rows` rows of `width` features once, part by part, and decompose the smaller of the two Gram matrices."""
    return _wide(list(parts), rows) if rows < width else _tall(parts, rows)


def _tall(parts: Iterable[Rows], rows: int) -> RidgePath:
    """Through the products of features (D, D): only sums over rows are kept."""
    total: list[Tensor] = []
    for features, targets, weights in parts:
        weighed = features * weights[:, None]
        sums = [weights.sum(), weighed.sum(dim=0), weights @ targets, features.T @ weighed, weighed.T @ targets]
        total = [old + new for old, new in zip(total, sums, strict=True)] if total else sums
    weight, feature_sum, target_sum, squares, products = total
    feature_mean, target_mean = feature_sum / weight, target_sum / weight
    values, vectors = torch.linalg.eigh((squares - torch.outer(feature_sum, feature_mean)) / rows)
    centred = (products - torch.outer(feature_sum, target_mean)) / rows
    return RidgePath(
        basis=vectors,
        values=values.clamp_min(0.0),
        projected=vectors.T @ centred,
        feature_mean=feature_mean,
        target_mean=target_mean,
    )


def _wide(parts: list[Rows], rows: int) -> RidgePath:
    """Through the products of rows (N, N), where there are fewer rows than features."""
    features, targets, weights = (torch.cat(column) for column in zip(*parts, strict=True))
    weight = weights.sum()
    feature_mean, target_mean = weights @ features / weight, weights @ targets / weight
    root = (weights / rows).sqrt()[:, None]
    centred = root * (features - feature_mean)
    values, vectors = torch.linalg.eigh(centred @ centred.T)
    return RidgePath(
        basis=centred.T @ vectors,
        values=values.clamp_min(0.0),
        projected=vectors.T @ (root * (targets - target_mean)),
        feature_mean=feature_mean,
        target_mean=target_mean,
    )
