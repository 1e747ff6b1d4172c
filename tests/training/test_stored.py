"""Features on disk give what features in memory give, ahead of the step or not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo.data.store import RowStore
from zoo.features.extract import Kept
from zoo.training.inputs import CachedFeatures, StoredFeatures
from zoo.training.prefetch import Prefetched

CPU = torch.device("cpu")
ROWS = 40


def kept(folder, name, rows, shape=(3, 2), dtype=torch.float32):
    """`rows` rows on disk in two shards, in another order than they are asked for."""
    generator = torch.Generator().manual_seed(len(name))
    held = torch.randn((rows, *shape), generator=generator).to(dtype)
    digests = np.random.default_rng(0).integers(0, 255, (rows, 16), dtype=np.uint8)
    store = RowStore(folder, {"name": name}, shape, dtype)
    order = np.random.default_rng(1).permutation(rows)
    for part in np.array_split(order, 2):
        store.append(digests[part], held[torch.from_numpy(part)])
    return Kept(store=store, ids=store.find(digests), computed=0, seconds=0.0), held


@pytest.fixture
def both(tmp_path):
    """The same features, of 30 rows as they are and of 10 in three views, on disk and in memory."""
    plain, plain_rows = kept(tmp_path, "plain", 30)
    views = [kept(tmp_path, "view" + "x" * number, 10) for number in range(3)]
    positions = torch.full((ROWS,), -1)
    positions[10:] = torch.arange(30)
    view_positions = torch.full((ROWS,), -1)
    view_positions[:10] = torch.arange(10)
    options = {"view_positions": view_positions, "seed": 4}
    stored = StoredFeatures(plain, positions, CPU, views=[view for view, _ in views], **options)
    cached = CachedFeatures(plain_rows, positions, CPU, views=[rows for _, rows in views], **options)
    return stored, cached


@pytest.mark.parametrize(("rows", "epoch"), [([30, 12, 12, 39], None), ([3, 9, 0, 3, 5], 0), ([3, 9, 0, 3, 5], 7)])
def test_rows_on_disk_are_those_in_memory(both, rows, epoch):
    stored, cached = (inputs.take(torch.tensor(rows), epoch) for inputs in both)
    assert len(stored) == len(cached) == 1
    assert torch.equal(stored[0], cached[0])


def test_each_view_on_disk_is_shown_in_turn(both):
    stored, _ = both
    shown = torch.stack([stored.take(torch.arange(10), epoch)[0] for epoch in range(4)])
    assert torch.equal(shown[0], shown[3])
    assert not torch.equal(shown[0], shown[1])


def test_read_ahead_they_are_the_same(both):
    stored, cached = both
    parts = torch.split(torch.randperm(10, generator=torch.Generator().manual_seed(0)), 3)
    for ahead, given in zip(Prefetched(stored).batches(parts, 2), cached.batches(parts, 2), strict=True):
        assert torch.equal(ahead[0], given[0])


def test_a_row_that_is_not_there_is_refused(both):
    stored, _ = both
    with pytest.raises(ValueError, match="row 4 has no features"):
        stored.take(torch.tensor([12, 4]))
    with pytest.raises(ValueError, match="row 12 has no views"):
        stored.take(torch.tensor([4, 12]), epoch=0)


def test_they_stay_in_their_precision_on_disk_and_come_in_the_one_asked_for(tmp_path):
    plain, rows = kept(tmp_path, "half", 8, dtype=torch.bfloat16)
    stored = StoredFeatures(plain, torch.arange(8), CPU)
    assert stored.gather(torch.arange(8), None)[0].dtype == torch.bfloat16
    assert torch.equal(stored.take(torch.arange(8))[0], rows.float())
    half = StoredFeatures(plain, torch.arange(8), CPU, dtype=torch.bfloat16)
    assert torch.equal(half.take(torch.arange(8))[0], rows)


def test_a_batch_may_be_written_to_without_harm_to_the_rows(both):
    for inputs in both:
        rows = torch.arange(12, 16)
        before = inputs.take(rows)[0].clone()
        inputs.take(rows)[0].zero_()
        assert torch.equal(inputs.take(rows)[0], before)


def test_only_what_is_asked_for_is_read(tmp_path):
    plain, rows = kept(tmp_path, "plain", 12)
    assert plain.nbytes == rows.numel() * 4
    assert torch.equal(plain.gather(np.array([7, 0])), rows[[7, 0]])
    assert torch.equal(plain.load(), rows)
