"""Published policies: drawn by content, view and seed alone, with torchvision's outcomes and the papers' shares."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from zoo.data.augment import Augmenter, parse_augmentation
from zoo.data.autoaugment import policies
from zoo.data.operations import COMMON, INDEX, NAMES
from zoo.data.presets import AutoAugment, RandAugment, TrivialAugment

TEXTS = ["randaugment", "trivialaugment", "autoaugment", "autoaugment(policy=cifar10)", "light+randaugment(n=3, m=20)"]
SIZE = (24, 20)


def some_keys(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 16), dtype=np.uint8)


def some_images(count, size=SIZE, channels=3):
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, channels, 4, 4, generator=generator)
    return (torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1) * 255).round().to(torch.uint8)


def augmenter(text, seed=7):
    return Augmenter(parse_augmentation(text), seed)


@pytest.mark.parametrize("text", TEXTS)
def test_pixels_of_an_image_are_the_same_in_any_batch_order_and_thread(text):
    images, keys, views = some_images(9, (33, 47)), some_keys(9), np.arange(9) % 4
    own = augmenter(text)
    whole = own(images, keys, views)
    assert whole.dtype == torch.uint8
    assert whole.shape == images.shape
    assert not torch.equal(whole, images)
    assert torch.equal(own(images.flip(0), keys[::-1], views[::-1]).flip(0), whole)

    def alone(row):
        return own(images[row : row + 1], keys[row : row + 1], int(views[row]))[0]

    with ThreadPoolExecutor(4) as pool:
        assert torch.equal(torch.stack(list(pool.map(alone, range(9)))), whole)


@pytest.mark.parametrize("text", TEXTS)
def test_views_seeds_and_images_differ(text):
    images, keys = some_images(1).expand(40, -1, -1, -1), some_keys(40)
    own = augmenter(text)
    first = own(images, keys, 0)
    assert torch.equal(own(images, keys, 0), first)
    for other in (own(images, keys, 1), augmenter(text, seed=8)(images, keys, 0), first.flip(0)):
        assert (other != first).flatten(1).any(dim=1).float().mean() > 0.5


def test_pixels_are_the_same_in_another_process():
    code = (
        "import numpy as np, torch; from zoo.data.augment import Augmenter, parse_augmentation;"
        "torch.set_num_threads(1);"
        "x = (torch.arange(8 * 3 * 16 * 16) % 251).to(torch.uint8).view(8, 3, 16, 16);"
        "k = np.arange(128, dtype=np.uint8).reshape(8, 16);"
        "y = Augmenter(parse_augmentation('light+randaugment+autoaugment+trivialaugment'), seed=5)(x, k, 4);"
        "print(y.flatten().tolist())"
    )
    images = (torch.arange(8 * 3 * 16 * 16) % 251).to(torch.uint8).view(8, 3, 16, 16)
    keys = np.arange(128, dtype=np.uint8).reshape(8, 16)
    here = augmenter("light+randaugment+autoaugment+trivialaugment", seed=5)(images, keys, 4)
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(there) == here.flatten().tolist()


@pytest.mark.gpu
@pytest.mark.parametrize("text", TEXTS)
def test_pixels_on_a_gpu_are_the_same_in_any_batch(text):
    images, keys = some_images(9, (64, 48)).cuda(), some_keys(9)
    whole = augmenter(text)(images, keys, 3)
    assert whole.is_cuda
    for row in range(9):
        assert torch.equal(augmenter(text)(images[row : row + 1], keys[row : row + 1], 3)[0], whole[row])


@pytest.mark.parametrize("text", TEXTS)
def test_the_global_random_state_is_neither_read_nor_moved(text):
    images, keys = some_images(9), some_keys(9)
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first = augmenter(text)(images, keys, 0)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(4)
    assert torch.equal(augmenter(text)(images, keys, 0), first)


def test_one_operation_of_randaugment_gives_what_torchvisions_gives_and_nothing_else():
    (image,), theirs = some_images(1), v2.RandAugment(num_ops=1, magnitude=12)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        wanted = {theirs(image).numpy().tobytes() for _ in range(500)}
    got = augmenter("randaugment(n=1, m=12)")(image.expand(500, -1, -1, -1), some_keys(500), 0)
    assert {each.numpy().tobytes() for each in got} == wanted
    assert len(wanted) == 5 + 2 * 9


def test_shares_of_operations_levels_and_signs_are_the_papers():
    keys = some_keys(6000)
    for operations, strengths in RandAugment(n=3, m=9).draw(0, keys, 2, SIZE):
        assert np.abs(np.bincount(operations) / 6000 - 1 / 14).max() < 0.015
        turned = strengths[operations == INDEX["Rotate"]]
        np.testing.assert_allclose(np.abs(turned), 9.0)
        assert abs(np.mean(turned > 0) - 0.5) < 0.1
    rounds = [operations for operations, _ in RandAugment(n=3, m=9).draw(0, keys, 2, SIZE)]
    assert np.abs(np.corrcoef(rounds) - np.eye(3)).max() < 0.05
    ((operations, strengths),) = TrivialAugment().draw(0, keys, 2, SIZE)
    assert set(operations) == set(COMMON)
    turned = strengths[operations == INDEX["Rotate"]]
    np.testing.assert_allclose(np.unique(np.abs(turned)), np.linspace(0, 135, 31), rtol=1e-6)
    assert np.unique(strengths[operations == INDEX["Posterize"]]).tolist() == [2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("name", ["imagenet", "cifar10", "svhn"])
def test_autoaugment_has_torchvisions_pairs_and_applies_them_as_often_as_they_say(name):
    table, theirs = policies(name), v2.AutoAugment(v2.AutoAugmentPolicy(name))._policies
    pairs = [
        tuple((NAMES[table.operations[row, i]], table.probabilities[row, i], table.levels[row, i]) for i in range(2))
        for row in range(len(table.operations))
    ]
    assert pairs == [tuple((what, share, level or 0) for what, share, level in pair) for pair in theirs]
    drawn = AutoAugment(policy=name).draw(0, some_keys(20000), 0, SIZE)
    for each, (operations, _) in enumerate(drawn):
        expected = np.zeros(len(NAMES))
        np.add.at(expected, table.operations[:, each], table.probabilities[:, each] / 25)
        expected[INDEX["Identity"]] = 1 - expected.sum()
        assert np.abs(np.bincount(operations, minlength=len(NAMES)) / 20000 - expected).max() < 0.015


def test_grey_images_stay_grey():
    grey = some_images(40, channels=1)
    for text in TEXTS[:4]:
        shown = augmenter(text)(grey.expand(-1, 3, -1, -1).contiguous(), some_keys(40), 0)
        assert (shown - shown[:, :1]).abs().max() == 0
        assert augmenter(text)(grey, some_keys(40), 0).shape == grey.shape
