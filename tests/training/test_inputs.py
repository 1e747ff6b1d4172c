"""Inputs: cached and live, plain and augmented, give the same; a row that is not there is never another one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo.data.augment import Augmenter
from zoo.data.ingest import ingest
from zoo.data.light import Light
from zoo.features.prefix import normalise
from zoo.specs import InputSpec
from zoo.training.inputs import CachedFeatures, views_of
from zoo.training.live import LiveFeatures, Pixels

CPU = torch.device("cpu")
SPEC = InputSpec(size=(16, 16), resize=16)
AUGMENTER = Augmenter((Light(),), seed=3)


@pytest.fixture
def images(shapes, tmp_path):
    return ingest(shapes(10)[0], SPEC, tmp_path / "images")


class Sums:
    """A prefix whose features round alike in a batch of any size."""

    device = CPU

    def __call__(self, pixels):
        return pixels.double().sum(dim=3).flatten(1).float()


def extracted(images, rows, view=None):
    pixels = images.pixels(rows)
    return Sums()(pixels if view is None else AUGMENTER(pixels, images.digests[rows], view))


def test_cached_features_stay_in_their_precision_and_every_batch_is_in_the_one_asked_for():
    features = torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    positions = torch.tensor([-1, 0, 1, 2, 3, 4, 5])
    rows = torch.tensor([6, 1, 1])
    inputs = CachedFeatures(features, positions, CPU)
    (taken,) = inputs.take(rows)
    assert taken.dtype == torch.float32
    assert torch.equal(taken, features.float()[[5, 0, 0]])
    assert torch.equal(inputs.take(rows, epoch=4)[0], taken)
    assert inputs._plain[0].dtype == torch.bfloat16
    assert CachedFeatures(features, positions, CPU, dtype=torch.bfloat16).take(rows)[0].dtype == torch.bfloat16


def test_several_tensors_may_cross_the_boundary_and_whole_numbers_stay_whole():
    maps, lengths = torch.randn(4, 2, 3), torch.arange(4)
    taken = CachedFeatures((maps, lengths), torch.arange(4), CPU).take(torch.tensor([2, 0]))
    assert torch.equal(taken[0], maps[[2, 0]])
    assert taken[1].tolist() == [2, 0]


@pytest.mark.parametrize("count", [1, 3, 4])
def test_each_row_shows_each_view_once_in_as_many_epochs_as_there_are_views(count):
    rows = torch.arange(500)
    shown = np.stack([views_of(rows, epoch, count, seed=0) for epoch in range(2 * count)])
    assert (np.sort(shown[:count], axis=0) == np.arange(count)[:, None]).all()
    np.testing.assert_array_equal(shown[:count], shown[count:])
    shares = np.bincount(shown[0], minlength=count) / 500
    assert np.abs(shares - 1 / count).max() < 0.08  # in one epoch all views are there, too


def test_the_view_of_a_row_depends_on_seed_and_row_not_on_the_batch():
    rows = torch.tensor([40, 3, 7, 3])
    whole = views_of(torch.arange(50), 2, 4, seed=1)
    np.testing.assert_array_equal(views_of(rows, 2, 4, seed=1), whole[rows.numpy()])
    assert (views_of(torch.arange(50), 2, 4, seed=2) != whole).any()
    assert views_of(rows, 6, None, seed=0).tolist() == [6, 6, 6, 6]


def test_training_rows_have_views_and_validation_rows_features_and_neither_the_others(images):
    train, val = np.arange(6), np.arange(6, 10)
    positions, view_positions = torch.full((10,), -1), torch.full((10,), -1)
    positions[6:], view_positions[:6] = torch.arange(4), torch.arange(6)
    views = [extracted(images, train, view) for view in range(3)]
    given = {"views": views, "view_positions": view_positions, "seed": 5}
    inputs = CachedFeatures(extracted(images, val), positions, CPU, **given)
    rows = torch.tensor([4, 0, 3])
    for epoch in range(4):
        expected = [views[view][row] for row, view in zip(rows, views_of(rows, epoch, 3, 5), strict=True)]
        assert torch.equal(inputs.take(rows, epoch)[0], torch.stack(expected))
    assert torch.equal(inputs.take(torch.tensor([9, 6]))[0], extracted(images, np.array([9, 6])))
    with pytest.raises(ValueError, match="row 4 has no features"):
        inputs.take(rows)
    with pytest.raises(ValueError, match="row 8 has no views"):
        inputs.take(torch.tensor([1, 8]), epoch=0)


def test_views_of_different_shapes_are_refused():
    features = torch.zeros(3, 4)
    with pytest.raises(ValueError, match=r"views differ in shape: \[\(2, 4\)\] and \[\(3, 4\)\]"):
        CachedFeatures(features, torch.arange(3), CPU, views=[features, features[:2]])


@pytest.mark.parametrize("count", [1, 2, 5])
def test_cached_views_are_bit_for_bit_the_live_ones(images, count):
    rows = np.arange(10)
    views = [extracted(images, rows, view) for view in range(count)]
    cached = CachedFeatures(extracted(images, rows), torch.arange(10), CPU, views=views, seed=AUGMENTER.seed)
    live = LiveFeatures(Sums(), images, augment=AUGMENTER, views=count)
    for epoch in (None, 0, 1, 7):
        some = torch.tensor([8, 2, 5, 2])
        assert torch.equal(cached.take(some, epoch)[0], live.take(some, epoch)[0])


def test_pixels_show_another_view_each_epoch_in_training_and_the_image_itself_in_validation(images):
    plain = Pixels(images, CPU, channels_last=False)
    augmented = Pixels(images, CPU, channels_last=True, augment=AUGMENTER)
    rows = torch.tensor([3, 1])
    (itself,) = plain.take(rows)
    assert torch.equal(itself, normalise(images.pixels(rows), SPEC))
    assert torch.equal(plain.take(rows, 2)[0], itself)
    assert torch.equal(augmented.take(rows)[0], itself)
    assert augmented.take(rows)[0].is_contiguous(memory_format=torch.channels_last)
    for epoch in (0, 1):
        pixels = AUGMENTER(images.pixels(rows), images.digests[rows.numpy()], epoch)
        assert torch.equal(augmented.take(rows, epoch)[0], normalise(pixels, SPEC))
    assert not torch.equal(augmented.take(rows, 0)[0], augmented.take(rows, 1)[0])


def test_pixels_may_go_round_in_a_few_views(images):
    rows = torch.arange(10)
    few = Pixels(images, CPU, channels_last=False, augment=AUGMENTER, views=2)
    assert torch.equal(few.take(rows, 0)[0], few.take(rows, 2)[0])
    assert not torch.equal(few.take(rows, 0)[0], few.take(rows, 1)[0])
    with pytest.raises(ValueError, match="views must be at least 1, not 0"):
        Pixels(images, CPU, channels_last=False, views=0)


def test_batches_are_what_take_gives_for_each_part(images):
    parts = list(torch.split(torch.randperm(10), 4))
    for inputs in (
        Pixels(images, CPU, channels_last=False, augment=AUGMENTER),
        LiveFeatures(Sums(), images, augment=AUGMENTER),
        CachedFeatures(torch.randn(10, 3), torch.arange(10), CPU),
    ):
        for epoch in (None, 1):
            given = list(inputs.batches(parts, epoch))
            assert len(given) == 3
            assert all(torch.equal(one[0], inputs.take(part, epoch)[0]) for one, part in zip(given, parts, strict=True))


def test_what_is_taken_can_be_trained_through(images):
    weight = torch.ones(48, requires_grad=True)
    (features,) = LiveFeatures(Sums(), images, augment=AUGMENTER).take(torch.arange(4), 0)
    (features * weight).sum().backward()
    assert weight.grad is not None
