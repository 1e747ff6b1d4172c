"""Other class priors: known ones by the closed form, unknown ones by expectation maximisation."""

import numpy as np
import pytest
import torch

from zoo.run.prior import adjusted, estimated


def gaussians(shares, rows, seed=0):
    """Probabilities of two Gaussian classes under equal priors, for rows drawn with other shares; and the labels."""
    random = np.random.default_rng(seed)
    labels = (random.random(rows) < shares[1]).astype(int)
    x = random.normal(2.0 * labels, 1.0)
    ratio = torch.from_numpy(np.exp(2 * x - 2))
    return torch.stack([1 / (1 + ratio), ratio / (1 + ratio)], dim=1), torch.from_numpy(labels)


def test_a_known_prior_gives_what_bayes_rule_says():
    probabilities, _ = gaussians((0.5, 0.5), 50)
    found = adjusted(probabilities, torch.zeros(2), torch.tensor([0.9, 0.1], dtype=torch.float64))
    odds = probabilities[:, 1] / probabilities[:, 0] / 9
    assert torch.allclose(found[:, 1], odds / (1 + odds))


def test_expectation_maximisation_finds_the_shares_of_the_rows():
    probabilities, labels = gaussians((0.85, 0.15), 20000)
    prior = estimated(probabilities, torch.zeros(2))
    assert prior.tolist() == pytest.approx([0.85, 0.15], abs=0.01)
    found = adjusted(probabilities, torch.zeros(2), prior)
    assert float((found.argmax(dim=1) == labels).double().mean()) > float(
        (probabilities.argmax(dim=1) == labels).double().mean()
    )


def test_its_own_prior_changes_nothing():
    probabilities, _ = gaussians((0.5, 0.5), 50)
    prior = torch.tensor([0.3, -0.3])
    assert torch.allclose(adjusted(probabilities, prior, prior.double().softmax(dim=0)), probabilities)
