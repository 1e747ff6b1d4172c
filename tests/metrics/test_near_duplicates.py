"""Near-duplicates are found wherever they stand, equal files first."""

import numpy as np
import pytest
import torch

from zoo.metrics import near_duplicates as home
from zoo.metrics.near_duplicates import near_duplicates


def rows(count=60):
    features = torch.randn((count, 32), generator=torch.Generator().manual_seed(0)).abs() + 2
    return features, np.random.default_rng(0).integers(0, 256, (count, 16), dtype=np.uint8)


@pytest.mark.parametrize("block", [7, 1024])
def test_planted_pairs_are_found_and_no_others(monkeypatch, block):
    monkeypatch.setattr(home, "BLOCK", block)
    features, digests = rows()
    features[41] = features[3] + 0.01 * torch.randn(32, generator=torch.Generator().manual_seed(1))
    features[59], digests[59] = features[20], digests[20]
    found = near_duplicates(features, digests, 0.95)
    assert [(pair.first, pair.second, pair.exact) for pair in found.pairs] == [(20, 59, True), (3, 41, False)]
    assert found.total == 2
    assert 0.95 <= found.pairs[1].cosine <= found.pairs[0].cosine == 1


def test_features_that_all_point_one_way_are_no_duplicates():
    features, digests = rows()
    raw = torch.nn.functional.normalize(features, dim=1)
    assert float((raw @ raw.T).min()) > 0.9
    assert near_duplicates(features, digests, 0.9).total == 0


def test_of_too_many_the_most_alike_are_kept_and_all_are_counted():
    features, digests = rows(10)
    digests[:] = digests[0]
    found = near_duplicates(features, digests, 0.95, limit=5)
    assert (len(found.pairs), found.total) == (5, 45)
