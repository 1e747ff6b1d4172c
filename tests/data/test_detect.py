"""What is missing is found in the file's own pixels, and never bleeds into those that are there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from zoo.data import detect
from zoo.data.decode import UndecodableError, decode
from zoo.data.detect import read_colours
from zoo.specs import InputSpec

SPEC = InputSpec(size=(24, 24), resize=28, interpolation="bicubic")


def with_alpha(image, box):
    alpha = np.full((image.height, image.width), 255, dtype=np.uint8)
    alpha[box] = 0
    return Image.fromarray(np.dstack([np.asarray(image), alpha]))


def test_an_image_without_holes_is_what_decoding_gives(picture, encoded):
    data = encoded(picture(1, (40, 50)))
    found = read_colours(data, SPEC)
    assert found.missing is None
    assert found.flags.tolist() == [0, 0, 0]
    np.testing.assert_array_equal(found.pixels.transpose(1, 2, 0), decode(data, SPEC))


def test_transparent_pixels_are_missing_and_their_colour_stays_out_of_the_others(picture, encoded):
    image = Image.new("RGB", (48, 48), (100, 150, 200))
    hidden = np.asarray(image).copy()
    hidden[10:30, 10:30] = (255, 0, 255)  # what nobody sees
    found = read_colours(encoded(with_alpha(Image.fromarray(hidden), np.s_[10:30, 10:30])), SPEC)
    assert found.flags[0] & detect.TRANSPARENT
    assert 0 < found.missing.mean() < 0.5
    seen = found.pixels[:, ~found.missing[0]]
    assert (seen == np.array([100, 150, 200])[:, None]).all()


def test_an_alpha_channel_that_hides_everything_hides_nothing(picture, encoded):
    image = picture(2, (40, 40))
    found = read_colours(encoded(with_alpha(image, np.s_[:, :])), SPEC)
    assert found.missing is None
    assert found.flags.tolist() == [detect.ALPHA] * 3


def test_nodata_is_a_colour_of_which_every_part_has_the_value(encoded):
    pixels = np.full((48, 48, 3), 90, dtype=np.uint8)
    pixels[::2, :, 1] = 91
    pixels[:, 20:, 2] = 92
    pixels[5:25, 5:25] = 0
    pixels[30:40, 30:40, 0] = 0  # a colour without red is no hole
    found = read_colours(encoded(Image.fromarray(pixels)), replace(SPEC, nodata=0.0))
    assert found.flags[0] & detect.NODATA
    squares = found.missing[0].sum() / found.missing[0].size
    assert squares == pytest.approx((20 / 48 * 28 / 24) ** 2, rel=0.2)
    assert read_colours(encoded(Image.fromarray(pixels)), SPEC).missing is None


def test_grey_with_holes_stands_three_times(encoded):
    pixels = np.full((48, 48), 90, dtype=np.uint8)
    pixels[5:25, 5:25] = 0
    pixels[30:, 3] = 70
    found = read_colours(encoded(Image.fromarray(pixels)), replace(SPEC, nodata=0.0))
    assert found.pixels.shape == (3, 24, 24)
    assert (found.pixels == found.pixels[:1]).all()
    assert (found.missing == found.missing[:1]).all()


def test_an_image_of_which_nothing_is_known_is_no_image(encoded):
    with pytest.raises(UndecodableError, match="no pixel of it is known"):
        read_colours(encoded(Image.new("RGB", (30, 30))), replace(SPEC, nodata=0.0))


def test_a_constant_channel_beside_others_is_missing_and_zero_or_one_colour_are_only_told(picture, encoded):
    pixels = np.asarray(picture(3, (40, 40))).copy()
    pixels[..., 1], pixels[..., 2] = 7, 0
    flags = read_colours(encoded(Image.fromarray(pixels)), SPEC).flags
    assert flags.tolist() == [0, detect.CONSTANT, detect.ZERO]
    plain = read_colours(encoded(Image.new("RGB", (30, 30), (9, 9, 9))), SPEC).flags
    assert plain.tolist() == [detect.UNIFORM] * 3


def test_floats_are_resized_without_their_holes():
    plane = np.full((48, 48), 2.5, dtype=np.float32)
    hole = np.zeros((48, 48), dtype=bool)
    hole[10:30, 10:30] = True
    values, missing = detect.fit_plane(np.where(hole, np.float32(np.nan), plane), hole, SPEC)
    assert values.dtype == np.float32
    assert 0 < missing.sum() < missing.size
    np.testing.assert_allclose(values[~missing], 2.5, rtol=1e-5)
    assert (values[missing] == 0).all()
