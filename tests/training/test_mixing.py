"""Mixed images, and whose they are."""

import pytest
import torch

from zoo.specs import Target
from zoo.training.mixing import Mixer, moved_on


@pytest.fixture
def images():
    return torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_mixup_blends_each_image_with_the_one_before_by_the_share_it_states(images):
    torch.manual_seed(1)
    shares = set()
    for _ in range(5):
        mixed, share = Mixer(mixup=1.0, cutmix=0.0)(images)
        torch.testing.assert_close(mixed, share * images + (1 - share) * images.roll(1, 0))
        shares.add(share)
    assert len(shares) == 5


def test_cutmix_pastes_a_box_of_the_one_before_and_counts_its_pixels(images):
    torch.manual_seed(1)
    for _ in range(5):
        mixed, share = Mixer(mixup=0.0, cutmix=1.0)(images)
        own, other = mixed == images, mixed == images.roll(1, 0)
        assert (own | other).all()
        assert float(own.float().mean()) == pytest.approx(share, abs=1e-6)


def test_with_both_a_batch_gets_one_of_them(images):
    torch.manual_seed(0)
    kinds = set()
    for _ in range(20):
        mixed, share = Mixer(mixup=1.0, cutmix=1.0)(images)
        kinds.add(bool(((mixed == images) | (mixed == images.roll(1, 0))).all()))
        assert 0 <= share <= 1
    assert kinds == {True, False}


def test_an_image_alone_is_left_as_it_is(images):
    mixed, share = Mixer(mixup=1.0, cutmix=1.0)(images[:1])
    assert share == 1.0
    assert torch.equal(mixed, images[:1])


def test_targets_move_with_the_images():
    target = Target(
        value=torch.tensor([0, 1, 2]), mask=torch.tensor([True, False, True]), weight=torch.tensor([1.0, 2.0, 3.0])
    )
    moved = moved_on(target)
    assert moved.value.tolist() == [2, 0, 1]
    assert moved.mask.tolist() == [True, True, False]
    assert moved.weight.tolist() == [3.0, 1.0, 2.0]
