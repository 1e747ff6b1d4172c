"""Operations of published policies: torchvision's, bit for bit, and an image's own in whatever batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from zoo.data.operations import INDEX, NAMES, magnitudes, operate
from zoo.errors import ZooError

SPACES = [(v2.RandAugment(), "narrow", 31), (v2.TrivialAugmentWide(), "wide", 31), (v2.AutoAugment(), "narrow", 10)]


def some_images(count, size=(24, 20), channels=3):
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, channels, 4, 4, generator=generator)
    return (torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1) * 255).round().to(torch.uint8)


def one(image, name, magnitude):
    return operate(image[None], np.array([INDEX[name]]), np.array([magnitude]))[0]


@pytest.mark.parametrize(("theirs", "space", "bins"), SPACES)
def test_every_operation_at_every_magnitude_is_torchvisions(theirs, space, bins):
    (image,) = some_images(1, (23, 31))
    compared = 0
    for name, (levels, signed) in theirs._AUGMENTATION_SPACE.items():
        table = levels(bins, 23, 31)
        for level in range(1 if table is None else bins):
            for negative in (False, True):
                expected = 0.0 if table is None else float(table[level]) * (-1 if negative and signed else 1)
                arrays = np.array([INDEX[name]]), np.array([level]), np.array([negative])
                (ours,) = magnitudes(space, bins, (23, 31), *arrays)
                assert ours == expected, name
                wanted = theirs._apply_image_or_video_transform(
                    image, name, expected, interpolation=theirs.interpolation, fill=theirs._fill
                )
                assert torch.equal(one(image, name, ours), wanted), (name, expected)
                compared += 1
    assert compared == 2 * (11 * bins + len(theirs._AUGMENTATION_SPACE) - 11)


@pytest.mark.parametrize("size", [(21, 33), (300, 310)])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_becomes_the_same_in_any_batch(size, channels):
    images = some_images(7, size, channels)
    for name in NAMES:
        strength = {"Posterize": 4.0, "TranslateX": 5.0, "TranslateY": -5.0, "Rotate": 20.0}.get(name, 0.27)
        operations, strengths = np.full(7, INDEX[name]), np.full(7, strength)
        whole = operate(images, operations, strengths)
        for row in range(7):
            assert torch.equal(one(images[row], name, strength), whole[row]), name
        assert torch.equal(operate(images.flip(0), operations, strengths).flip(0), whole), name


def test_each_image_gets_its_own_operation_and_the_given_ones_stay():
    images = some_images(6)
    before = images.clone()
    names = ["Invert", "Identity", "Solarize", "Invert", "Solarize", "Equalize"]
    strengths = np.array([0.0, 0.0, 0.5, 0.0, 0.25, 0.0])
    got = operate(images, np.array([INDEX[name] for name in names]), strengths)
    for row, name in enumerate(names):
        assert torch.equal(got[row], one(images[row], name, strengths[row]))
    assert torch.equal(got[0], 255 - images[0])
    assert torch.equal(got[1], images[1])
    assert torch.equal(images, before)


def test_channels_without_a_meaning_as_colours_are_refused():
    with pytest.raises(
        ZooError, match="images of 8 bits and 1 or 3 channels, not of 8 bits and 5; say --augment light"
    ):
        operate(some_images(2, channels=5), np.zeros(2, dtype=np.int64), np.zeros(2))
