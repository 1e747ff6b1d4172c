"""Erased boxes, noise and lost pixels: drawn by seed, view and content alone, of the size that was asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo.data.augment import Augmenter, parse_augmentation
from zoo.data.erasing import Erase, Noise
from zoo.errors import OptionError
from zoo.specs import InputSpec

COUNT = 200


def keys(count=COUNT):
    return np.random.default_rng(5).integers(0, 256, (count, 16)).astype(np.uint8)


def images(count=COUNT, channels=3):
    random = np.random.default_rng(6)
    return torch.from_numpy(random.integers(60, 200, (count, channels, 32, 24)).astype(np.uint8))


def shown(text, given, chosen=slice(None), view=0, spec=None):
    return Augmenter(parse_augmentation(text), 3, spec=spec)(given[chosen], keys()[: len(given)][chosen], view)


@pytest.mark.parametrize(
    "text", ["erase(p=1.0)", "erase(value=noise)", "noise(std=0.2)", "noise(lost=0.4)", "erase+noise"]
)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_an_image_is_changed_alike_in_whatever_batch(text, channels):
    given = images(12, channels)
    whole = shown(text, given)
    assert torch.equal(shown(text, given, slice(3, 5)), whole[3:5])
    assert torch.equal(shown(text, given), whole)
    assert not torch.equal(shown(text, given, view=1), whole)
    assert whole.dtype == torch.uint8
    assert (whole != given).flatten(1).any(dim=1).any()


def test_boxes_are_erased_as_often_and_as_large_as_asked():
    step = Erase(p=0.4, smallest=0.1, largest=0.2)
    boxes = step.boxes(0, keys(2000), np.zeros(2000, dtype=np.int64), (100, 100))
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / 100**2
    erased = areas > 0
    assert erased.mean() == pytest.approx(0.4, abs=0.04)
    assert areas[erased].min() > 0.09
    assert areas[erased].max() < 0.21
    assert boxes.min() >= 0
    assert boxes.max() <= 100


def test_a_box_holds_the_images_own_mean_or_black_and_the_rest_stays():
    given = images(20)
    found = shown("erase(p=1.0, smallest=0.2, largest=0.3)", given)
    changed = (found != given).any(dim=1, keepdim=True)
    means = given.float().mean(dim=(2, 3)).round().byte()
    assert all((found[row, :, changed[row, 0]] == means[row][:, None]).all() for row in range(20))
    black = shown("erase(p=1.0, smallest=0.2, largest=0.3, value=black)", given)
    assert ((black == 0) | (black == given)).all()
    assert (black == 0).float().mean() == pytest.approx(0.25, abs=0.05)


def test_noise_has_the_deviation_and_loses_the_share_that_were_asked_for():
    flat = torch.full((400, 1, 32, 24), 128, dtype=torch.uint8)
    spread = (
        Augmenter((Noise(std=0.1),), 0)(flat, np.resize(keys(), (400, 16)), np.arange(400)).float().std(dim=(1, 2, 3))
    )
    assert 0 <= spread.min() < 3
    assert 20 < spread.max() < 27
    given = images()
    lost = Augmenter((Noise(std=0.0, lost=0.5),), 0)(given, keys(), 0)
    shares = (lost != given).any(dim=1).float().mean(dim=(1, 2))
    assert float(shares.mean()) == pytest.approx(0.25, abs=0.05)
    assert float(shares.max()) < 0.56


def test_raw_units_are_changed_in_proportion_to_their_deviation():
    spec = InputSpec(
        size=(32, 24), resize=32, mean=(1000.0,), std=(50.0,), full=1.0, bands=("nir",), file_bands=("nir",)
    )
    flat = torch.full((200, 1, 32, 24), 1000.0)
    for text in ("noise(std=0.1)", "light(noise=0.1, brightness=0, contrast=0)"):
        found = shown(text, flat, spec=spec)
        assert found.dtype == torch.float32
        assert 17 < float(found.std(dim=(1, 2, 3)).max()) < 23  # a tenth of four deviations
        assert float(found.mean()) == pytest.approx(1000.0, abs=1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("erase(p=0)", r"p is the share of the views, in \(0, 1\], not 0"),
        ("erase(smallest=0.5)", r"0 < smallest <= largest <= 1, not 0\.5 and 0\.33"),
        ("erase(ratio=2.0)", r"ratio must be in \(0, 1\], not 2\.0"),
        ("noise(std=2.0)", r"std must be in \[0, 1\], not 2\.0"),
        ("noise(lost=1.0)", r"lost must be in \[0, 1\), not 1\.0"),
        ("noise(std=0.0)", "changes nothing; leave it out"),
    ],
)
def test_what_cannot_be_meant_is_refused(text, message):
    with pytest.raises(OptionError, match=message):
        parse_augmentation(text)


@pytest.mark.parametrize("text", ["light", "randaugment(n=2, m=20)", "trivialaugment", "light+erase+noise"])
def test_a_mask_goes_where_the_pixels_that_it_marks_go(text):
    # An image that is bright where the mask is: moved alone, and as its mask, it must come to lie in the same place.
    mask = torch.zeros(60, 3, 64, 64, dtype=torch.bool)
    mask[:, :, 20:40, 10:30] = True
    image = torch.where(mask, 255, 0).to(torch.uint8)
    moving = text.replace("light", "light(noise=0, brightness=0, contrast=0)").replace("+erase+noise", "")
    augmenter = Augmenter(parse_augmentation(moving), 1)
    moved = augmenter.masks(mask, keys(60), 2)
    assert moved.dtype == torch.bool
    if "light" in text:
        agree = (augmenter(image, keys(60), 2) >= 128) == moved
        assert agree.float().mean() > 0.995
    whole = Augmenter(parse_augmentation(text), 1).masks(mask, keys(60), 2)
    assert not torch.equal(whole, mask)
    assert torch.equal(whole, moved)


def test_masks_of_rows_with_steps_of_their_own_follow_them():
    mask = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    mask[:, :, :, :4] = True
    mirror = parse_augmentation("light(crop=1.0, rotate=0, noise=0)")
    augmenter = Augmenter((), 0, others=(mirror,), chosen=np.array([0, 1]))
    views = [augmenter.masks(mask, keys(2), view, rows=np.array([0, 1])) for view in range(6)]
    assert all(torch.equal(each[0], mask[0]) for each in views)
    assert any(each[1, 0, :, -4:].all() for each in views)
