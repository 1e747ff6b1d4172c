"""Augmentation: presets one after the other, or another for some rows; grammar, description and addresses."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from zoo.data.augment import Augmenter, by_class, described, parse_augmentation
from zoo.data.light import Light
from zoo.data.presets import AutoAugment, RandAugment, TrivialAugment
from zoo.errors import OptionError

LIGHT, STRONG = (Light(),), (Light(), RandAugment(m=25))


def some_keys(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 16), dtype=np.uint8)


def some_images(count, size=(24, 20)):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, *size), generator=generator, dtype=torch.uint8)


def test_steps_act_one_after_the_other_in_the_order_given():
    images, keys = some_images(12), some_keys(12)
    light, rand = (Augmenter(parse_augmentation(text), 3) for text in ("light", "randaugment(m=20)"))
    both = Augmenter(parse_augmentation("light+randaugment(m=20)"), 3)(images, keys, 2)
    assert torch.equal(both, rand(light(images, keys, 2), keys, 2))
    turned = Augmenter(parse_augmentation("randaugment(m=20)+light"), 3)(images, keys, 2)
    assert torch.equal(turned, light(rand(images, keys, 2), keys, 2))
    assert not torch.equal(both, turned)


def test_presets_are_read_by_the_one_grammar():
    assert parse_augmentation("none") == ()
    assert parse_augmentation("light(flip=false, crop=0.5, rotate=0)") == (Light(flip=False, crop=0.5, rotate=0.0),)
    assert parse_augmentation("randaugment") == (RandAugment(n=2, m=9),)
    assert parse_augmentation("randaugment(3, m=7)") == (RandAugment(n=3, m=7),)
    assert parse_augmentation("autoaugment") == (AutoAugment(policy="imagenet"),)
    assert parse_augmentation("autoaugment(policy=svhn)+light+trivialaugment") == (
        AutoAugment(policy="svhn"),
        Light(),
        TrivialAugment(),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ligth", r"unknown augmentation 'ligth'; there are none, light, randaugment, .*; did you mean light\?"),
        ("RandAug", r"unknown augmentation 'RandAug'; .* and noise; did you mean randaugment\?"),
        ("strong", "there are none, light, randaugment, autoaugment, trivialaugment, erase and noise"),
        ("light+none", "none is no augmentation at all; leave it out beside others"),
        ("none+light", "none is no augmentation at all; leave it out beside others"),
        ("light+randaugment+light(crop=1)", "light stands twice; each augmentation acts once"),
        ("none(crop=1)", "none has no parameter 'crop'"),
        ("light(flip=1)", "flip must be bool, not 1"),
        ("light(crop=0)", r"crop is the smallest share of the area that is kept, in \(0, 1\], not 0.0"),
        ("light(crop=1.5)", "crop is the smallest share"),
        ("light(rotate=200)", r"rotate is the largest turn in degrees, in \[0, 180\], not 200.0"),
        ("light(brightness=2)", r"brightness must be in \[0, 1\], not 2.0"),
        ("light(contrast=-1)", r"contrast must be in \[0, 1\], not -1.0"),
        ("light(noise=5)", r"noise must be in \[0, 1\], not 5.0"),
        ("randaugment(n=0)", "randaugment: n is the number of operations, at least 1, not 0"),
        ("randaugment(m=31)", "randaugment: m is the magnitude, from 0 to 30, not 31"),
        ("randaugment(m=-1)", "randaugment: m is the magnitude, from 0 to 30, not -1"),
        ("randaugment(m=0.5)", "randaugment: m must be int, not 0.5"),
        ("randaugment(magnitude=5)", "randaugment has no parameter 'magnitude'; it takes n, m"),
        ("trivialaugment(m=5)", "trivialaugment has no parameter 'm'; it takes no parameters"),
        ("autoaugment(policy=coco)", "autoaugment: policy must be imagenet or cifar10 or svhn, not 'coco'"),
    ],
)
def test_what_a_preset_does_not_take_is_refused(text, message):
    with pytest.raises(OptionError, match=message):
        parse_augmentation(text)


def test_the_description_is_json_and_tells_every_difference():
    texts = ["light", "light(rotate=5)", "randaugment", "randaugment(n=1)", "randaugment(m=8)", "trivialaugment"]
    texts += ["autoaugment", "autoaugment(policy=svhn)", "light+randaugment", "randaugment+light"]
    augmenters = [Augmenter(parse_augmentation(text), seed=1) for text in texts]
    said = {json.dumps(each.describe(0)) for each in augmenters}
    said |= {json.dumps(augmenters[0].describe(1)), json.dumps(Augmenter(LIGHT, seed=2).describe(0))}
    assert len(said) == len(texts) + 2
    assert augmenters[0].describe(3)["view"] == 3
    assert "torchvision" in described(STRONG)[1]


def test_rows_may_have_steps_of_their_own_and_batches_do_not_matter():
    images, keys = some_images(6), some_keys(6)
    chosen = np.array([9, 0, 1, 2, 0, 1, 2, 9]) % 9  # by row of a table of eight
    mixed, rows = Augmenter(LIGHT, 3, others=(STRONG, ()), chosen=chosen), np.arange(1, 7)
    shown = mixed(images, keys, 4, rows)
    for at, row in enumerate(rows):
        steps = (LIGHT, STRONG, ())[chosen[row]]
        assert torch.equal(shown[at], Augmenter(steps, 3)(images, keys, 4)[at])
    order = np.array([4, 0, 5])
    assert torch.equal(mixed(images[order], keys[order], np.full(3, 4), rows[order]), shown[order])
    assert torch.equal(shown[2], images[2])
    assert shown.data_ptr() != images.data_ptr()


def test_an_image_is_kept_under_its_digest_and_what_happens_to_it_where_that_is_its_own():
    keys, rows = some_keys(4), np.arange(4)
    assert (Augmenter(LIGHT, 3).addresses(keys, rows) == keys).all()
    one = Augmenter(LIGHT, 3, others=(STRONG, ()), chosen=np.array([0, 1, 2, 1])).addresses(keys, rows)
    assert (one == keys).all(axis=1).tolist() == [True, False, False, False]
    same = Augmenter(LIGHT, 3, others=(STRONG, ()), chosen=np.array([0, 1, 2, 1])).addresses(keys[[0, 0, 0, 0]], rows)
    assert len(np.unique(same, axis=0)) == 3
    assert (same[1] == same[3]).all()
    # The number that stands for the same steps does not matter, and other parameters do.
    other = Augmenter(LIGHT, 3, others=((), STRONG), chosen=np.array([0, 2, 1, 2])).addresses(keys, rows)
    assert (other == one).all()
    weaker = Augmenter(LIGHT, 3, others=((Light(), RandAugment(m=2)), ()), chosen=np.array([0, 1, 2, 1]))
    assert (weaker.addresses(keys, rows) == one).all(axis=1).tolist() == [True, False, True, False]


def test_classes_are_shown_by_presets_of_their_own_and_holes_as_all_are():
    labels = np.array([0, 1, 2, -1, 1, 0])
    own = by_class(LIGHT, {1: "light+randaugment(m=25)", 2: "none"}, labels, 5)
    assert (own.steps, own.others, own.seed) == (LIGHT, (STRONG, ()), 5)
    assert own.chosen.tolist() == [0, 1, 2, 0, 1, 0]
    assert own.changes(np.arange(6)).tolist() == [True, True, False, True, True, True]
    assert by_class((), {1: "light"}, labels, 5).changes(np.array([1, 0, 3])).tolist() == [True, False, False]
    assert Augmenter((), 0).changes(np.arange(2)).tolist() == [False, False]
    with pytest.raises(OptionError, match="unknown augmentation 'heavy'"):
        by_class((), {0: "heavy"}, labels, 0)


def test_choices_that_stand_for_nothing_are_refused():
    for wrong in (-1, 2):
        with pytest.raises(ValueError, match=f"chosen numbers the others from 1 to 1, not {wrong}"):
            Augmenter(LIGHT, 0, others=(STRONG,), chosen=np.array([0, wrong]))
    with pytest.raises(ValueError, match="chosen must say which rows have which of the others"):
        Augmenter(LIGHT, 0, others=(STRONG,))
    with pytest.raises(ValueError, match="rows must be given where rows have steps of their own"):
        Augmenter(LIGHT, 0, others=(STRONG,), chosen=np.array([0, 1]))(some_images(2), some_keys(2), 0)


def test_images_keys_and_views_of_another_kind_are_refused():
    images, keys = some_images(2), some_keys(2)
    for steps in (LIGHT, (RandAugment(),)):
        own = Augmenter(steps, 0)
        for bad in (images.float(), images[0], images[:1]):
            with pytest.raises(ValueError, match=r"images must be uint8 \(B, C, H, W\) with B keys, not torch"):
                own(bad, keys, 0)
        for bad_keys in (keys[:, :8], keys.astype(np.int64)):
            with pytest.raises(ValueError, match=r"keys must be uint8 \(B, 16\), not"):
                own(images, bad_keys, 0)
        with pytest.raises(ValueError, match="views are numbered from 0, not -1"):
            own(images, keys, np.array([0, -1]))
        assert own(images[:0], keys[:0], 0).shape == (0, 3, 24, 20)
