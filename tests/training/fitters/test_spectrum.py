"""One decomposition gives the ridge regression of every strength, as scikit-learn solves it."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from zoo.training.fitters.spectrum import ridge_path


def rows(count, width, classes=3):
    generator = torch.Generator().manual_seed(count)
    features = torch.randn(count, width, generator=generator, dtype=torch.float64) + 0.5
    targets = torch.rand(count, classes, generator=generator, dtype=torch.float64)
    return features, targets, torch.rand(count, generator=generator, dtype=torch.float64) + 0.1


@pytest.mark.parametrize("strength", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize(("count", "width"), [(60, 7), (20, 50)], ids=["tall", "wide"])
def test_weights_agree_with_scikit_learns_ridge_at_every_strength(count, width, strength):
    features, targets, weights = rows(count, width)
    parts = [
        tuple(part) for part in zip(*(torch.split(column, 9) for column in (features, targets, weights)), strict=True)
    ]
    weight, bias = ridge_path(parts, count, width).solve(strength)
    own = Ridge(alpha=count * strength, solver="cholesky").fit(features, targets, sample_weight=weights)
    np.testing.assert_allclose(weight.numpy(), own.coef_, atol=1e-8)
    np.testing.assert_allclose(bias.numpy(), own.intercept_, atol=1e-8)


@pytest.mark.parametrize(("count", "width"), [(60, 7), (20, 50)], ids=["tall", "wide"])
def test_without_penalty_it_is_least_squares_with_the_smallest_norm(count, width):
    features, targets, weights = rows(count, width)
    features[:, 1] = features[:, 0]  # no row tells these two apart
    weight, bias = ridge_path([(features, targets, torch.ones_like(weights))], count, width).solve(0.0)
    centred = features - features.mean(0)
    expected = torch.linalg.pinv(centred) @ (targets - targets.mean(0))
    np.testing.assert_allclose(weight.T.numpy(), expected.numpy(), atol=1e-6)
    np.testing.assert_allclose(bias.numpy(), (targets.mean(0) - features.mean(0) @ expected).numpy(), atol=1e-6)
