"""The light preset: a function of (seed, view, content) alone, and each part does what it says."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from zoo.data.augment import Augmenter
from zoo.data.light import Draws, Light

NOTHING = Light(flip=False, crop=1.0, rotate=0.0, brightness=0.0, contrast=0.0, noise=0.0)
FIELDS = [field.name for field in dataclasses.fields(Draws)]


def only(**parameters):
    return Augmenter((dataclasses.replace(NOTHING, **parameters),), seed=0)


def some_keys(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 16), dtype=np.uint8)


def some_images(count, size=(24, 20), channels=3):
    """Smooth images, so that neighbouring pixels say something of each other."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, channels, 4, 4, generator=generator)
    return (torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1) * 255).round().to(torch.uint8)


LIGHT = Augmenter((Light(vertical=True),), seed=7)


def draw(augmenter, keys, view):
    return augmenter.steps[0].draw(augmenter.seed, keys, view)


def test_draws_of_an_image_are_the_same_in_any_batch_and_order():
    keys = some_keys(50)
    whole = draw(LIGHT, keys, 3)
    turned, one = draw(LIGHT, keys[::-1], 3), draw(LIGHT, keys[17:18], 3)
    each = draw(LIGHT, keys, np.full(50, 3))
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(turned, name)[::-1], getattr(whole, name))
        np.testing.assert_array_equal(getattr(one, name), getattr(whole, name)[17:18])
        np.testing.assert_array_equal(getattr(each, name), getattr(whole, name))


@pytest.mark.parametrize("size", [(24, 20), (33, 47), (224, 224)])
def test_pixels_of_an_image_are_the_same_in_any_batch_and_order(size):
    images, keys = some_images(7, size), some_keys(7)
    whole = LIGHT(images, keys, 2)
    for row in range(7):
        assert torch.equal(LIGHT(images[row : row + 1], keys[row : row + 1], 2), whole[row : row + 1])
    assert torch.equal(LIGHT(images.flip(0), keys[::-1], 2).flip(0), whole)


def test_each_image_may_show_a_view_of_its_own():
    images, keys = some_images(4), some_keys(4)
    mixed = LIGHT(images, keys, np.array([5, 0, 5, 9]))
    for row, view in enumerate([5, 0, 5, 9]):
        assert torch.equal(mixed[row], LIGHT(images, keys, view)[row])


def test_pixels_are_the_same_in_another_process():
    code = (
        "import numpy as np, torch; from zoo.data.augment import Augmenter; from zoo.data.light import Light;"
        "x = (torch.arange(3 * 16 * 16) % 251).to(torch.uint8).view(1, 3, 16, 16);"
        "y = Augmenter((Light(),), seed=5)(x, np.full((1, 16), 9, dtype=np.uint8), 4);"
        "print(y.flatten().tolist())"
    )
    images = (torch.arange(3 * 16 * 16) % 251).to(torch.uint8).view(1, 3, 16, 16)
    here = Augmenter((Light(),), seed=5)(images, np.full((1, 16), 9, dtype=np.uint8), 4)
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(there) == here.flatten().tolist()


@pytest.mark.gpu
def test_pixels_are_the_same_on_a_gpu_within_a_level():
    images, keys = some_images(9, (64, 48)), some_keys(9)
    there = LIGHT(images.cuda(), keys, 3)
    assert there.is_cuda
    assert (there.cpu().int() - LIGHT(images, keys, 3).int()).abs().max() <= 1


def test_views_seeds_and_images_differ():
    images, keys = some_images(2), some_keys(2)
    first = LIGHT(images, keys, 0)
    assert not torch.equal(first, LIGHT(images, keys, 1))
    assert not torch.equal(first, Augmenter(LIGHT.steps, seed=8)(images, keys, 0))
    same = LIGHT(images[:1].expand(2, -1, -1, -1), keys, 0)
    assert not torch.equal(same[0], same[1])
    assert torch.equal(LIGHT(images, keys, 0), first)


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002 - the state in question
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    LIGHT(some_images(2), some_keys(2), 0)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_draws_fill_the_ranges_that_the_parameters_give():
    draws = Light(crop=0.25, rotate=30, vertical=True, noise=0.1).draw(0, some_keys(4000), 1)
    for name, low, high in [
        ("side", 0.5, 1.0),
        ("angle", -np.pi / 6, np.pi / 6),
        ("brightness", 0.8, 1.2),
        ("contrast", 0.8, 1.2),
        ("noise", -25.5, 25.5),
        ("window", 0, 2**20),
    ]:
        values = getattr(draws, name)
        assert low <= values.min() < low + 0.01 * (high - low), name
        assert high - 0.01 * (high - low) < values.max() <= high, name
    assert abs(np.mean(draws.side**2) - 0.625) < 0.01  # the area is uniform, not the side
    assert (np.abs(draws.x) <= 1 - draws.side).all()
    assert (np.abs(draws.y) <= 1 - draws.side).all()
    assert abs(np.mean(draws.across)) < 0.05
    assert abs(np.mean(draws.down)) < 0.05
    numbers = np.stack([getattr(draws, name) for name in FIELDS])
    assert np.abs(np.corrcoef(numbers) - np.eye(len(FIELDS))).max() < 0.07


def test_nothing_asked_for_changes_nothing():
    images = some_images(5)
    assert torch.equal(only()(images, some_keys(5), 0), images)
    assert torch.equal(only(flip=True, vertical=True)(images[:0], some_keys(0), 0), images[:0])


def test_a_flip_is_a_mirror_image_to_the_pixel():
    images, keys = some_images(40, (24, 21)), some_keys(40)
    augmenter = only(flip=True, vertical=True)
    got, draws = augmenter(images, keys, 0), draw(augmenter, keys, 0)
    assert {(-1, -1), (-1, 1), (1, -1), (1, 1)} == set(zip(draws.across, draws.down, strict=True))
    for row in range(40):
        mirrored = [axis for axis, sign in ((2, draws.across[row]), (1, draws.down[row])) if sign < 0]
        assert torch.equal(got[row], images[row].flip(mirrored))


def test_a_crop_is_a_window_enlarged():
    # A ramp along each axis: what comes out says where it came from.
    height, width = 40, 60
    ramp = torch.zeros(30, 2, height, width)
    ramp[:, 0] = 4.0 * torch.arange(width)
    ramp[:, 1] = 6.0 * torch.arange(height)[:, None]
    keys, augmenter = some_keys(30), only(crop=0.3)
    got, draws = augmenter(ramp.to(torch.uint8), keys, 0).double(), draw(augmenter, keys, 0)
    across = (np.arange(width) + 0.5) / width * 2 - 1
    for row in range(30):
        expected = ((across * draws.side[row] + draws.x[row]) + 1) / 2 * width - 0.5
        inside = slice(2, -2)
        np.testing.assert_allclose(got[row, 0, 20, inside] / 4, expected[inside], atol=0.2)
    tall = got[:, 1, :, 30]
    assert ((tall[:, -3] - tall[:, 2]).numpy() / 6 < (height - 5) * draws.side + 0.5).all()


def test_a_turn_is_a_turn_of_the_image_counter_clockwise_and_shears_nothing():
    height, width = 61, 91
    image = torch.zeros(1, 1, height, width, dtype=torch.uint8)
    image[0, 0, 28:33, 60:65] = 255  # 17 pixels right of the centre
    keys, augmenter = some_keys(40), only(rotate=90.0)
    got, draws = augmenter(image.expand(40, -1, -1, -1), keys, 0).double(), draw(augmenter, keys, 0)
    y, x = torch.meshgrid(torch.arange(61.0) - 30, torch.arange(91.0) - 45, indexing="ij")
    weight = got[:, 0] / got[:, 0].sum(dim=(1, 2), keepdim=True)
    found = np.stack([(weight * x).sum(dim=(1, 2)), -(weight * y).sum(dim=(1, 2))], axis=1)
    expected = 17 * np.stack([np.cos(draws.angle), np.sin(draws.angle)], axis=1)
    np.testing.assert_allclose(found, expected, atol=0.5)


def test_what_comes_from_outside_is_a_reflection_and_no_black_corner():
    images = torch.full((20, 3, 32, 32), 200, dtype=torch.uint8)
    assert (only(rotate=180.0)(images, some_keys(20), 0) == 200).all()


def test_brightness_is_a_factor_clipped_at_full_scale():
    images, keys, augmenter = some_images(20), some_keys(20), only(brightness=0.5)
    factor = draw(augmenter, keys, 0).brightness[:, None, None, None]
    expected = np.clip(images.numpy() * factor, 0, 255)
    assert np.abs(augmenter(images, keys, 0).numpy() - expected).max() <= 0.501


def test_contrast_is_a_factor_on_the_distance_from_the_images_mean():
    images, keys, augmenter = some_images(20), some_keys(20), only(contrast=0.5)
    values, factor = images.numpy().astype(float), draw(augmenter, keys, 0).contrast[:, None, None, None]
    mean = values.mean(axis=(1, 2, 3), keepdims=True)
    expected = np.clip(mean + factor * (values - mean), 0, 255)
    assert np.abs(augmenter(images, keys, 0).numpy() - expected).max() <= 0.501


def test_brightness_comes_before_contrast():
    images, keys, augmenter = some_images(20), some_keys(20), only(brightness=0.3, contrast=0.3)
    draws = draw(augmenter, keys, 0)
    values = images.numpy() * draws.brightness[:, None, None, None]
    mean = values.mean(axis=(1, 2, 3), keepdims=True)
    expected = np.clip(mean + draws.contrast[:, None, None, None] * (values - mean), 0, 255)
    assert np.abs(augmenter(images, keys, 0).numpy() - expected).max() <= 0.51


def test_noise_is_gaussian_of_the_drawn_deviation_and_another_one_for_each_image():
    images = torch.full((12, 3, 64, 64), 128, dtype=torch.uint8)
    keys, augmenter = some_keys(12), only(noise=0.1)
    noise = augmenter(images, keys, 0).numpy().reshape(12, -1) - 128.0
    wanted = np.abs(draw(augmenter, keys, 0).noise)
    np.testing.assert_allclose(noise.std(axis=1), np.sqrt(wanted**2 + 1 / 12), rtol=0.05)
    assert np.abs(noise.mean(axis=1)).max() < 1
    strong = noise[wanted > 5]
    kurtosis = (strong**4).mean(axis=1) / (strong**2).mean(axis=1) ** 2
    assert np.abs(kurtosis - 3).max() < 0.3
    between = np.corrcoef(strong) - np.eye(len(strong))
    assert np.abs(between).max() < 0.05


def test_any_number_of_channels_will_do():
    for channels in (1, 5):
        assert LIGHT(some_images(2, channels=channels), some_keys(2), 0).shape == (2, channels, 24, 20)
