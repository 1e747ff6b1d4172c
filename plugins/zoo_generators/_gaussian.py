"""A normal distribution for each class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from zoo_generators.parameters import Gaussian


@dataclass(frozen=True, slots=True, eq=False)
class FittedGaussian:
    """Means (K, D), and by class a factor L (D, D) of the covariance, L times its transpose."""

    means: Tensor
    factors: dict[int, Tensor]

    def sample(self, label: int, count: int, generator: torch.Generator) -> Tensor:
        """New features float32 (count, D)."""
        drawn = torch.randn((count, self.means.shape[1]), generator=generator, dtype=torch.float64)
        return (self.means[label] + drawn @ self.factors[label].T).float()


def fit_gaussian(
    features: Tensor, labels: Tensor, classes: int, parameters: Gaussian, generator: torch.Generator
) -> FittedGaussian:
    """Means and shrunk covariances (Ledoit & Wolf 2004, by scikit-learn), which stand on few rows of many numbers too.

    Raises:
        ValueError: own covariances, and a class has one row.
    """
    del generator  # nothing is drawn
    rows = features.double()
    present = torch.unique(labels).tolist()
    means = torch.zeros((classes, features.shape[1]), dtype=torch.float64)
    for label in present:
        means[label] = rows[labels == label].mean(dim=0)
    about = rows - means[labels]
    if parameters.shared:
        factor = _factor(about)
        return FittedGaussian(means, dict.fromkeys(present, factor))
    lone = [label for label in present if int((labels == label).sum()) < 2]
    if lone:
        raise ValueError(f"class number {lone[0]} has one training row, which has no covariance; say shared=true")
    return FittedGaussian(means, {label: _factor(about[labels == label]) for label in present})


def _factor(about: Tensor) -> Tensor:
    from sklearn.covariance import ledoit_wolf

    covariance, _ = ledoit_wolf(about.numpy(), assume_centered=True)
    values, vectors = torch.linalg.eigh(torch.from_numpy(covariance))
    factor: Tensor = vectors * values.clamp(min=0).sqrt()
    return factor
