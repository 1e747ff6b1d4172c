"""The picture of a range test."""

import io

import numpy as np
import pytest
from PIL import Image

from zoo.report.range_picture import _limits, range_picture

RATES = np.geomspace(1e-7, 10, 50).tolist()
LOSSES = [1.4] * 20 + np.linspace(1.4, 0.4, 20).tolist() + np.geomspace(0.5, 400, 10).tolist()


def pixels(**options):
    drawn = range_picture(RATES, LOSSES, LOSSES, options.get("chosen"), "learning rate")
    return np.asarray(Image.open(io.BytesIO(drawn)).convert("RGB")).astype(int)


def orange(picture):
    return int(((picture[..., 0] > 200) & (picture[..., 2] < 80)).sum())


def test_the_suggestion_is_marked_where_there_is_one():
    assert orange(pixels(chosen=1e-3)) > 100
    assert orange(pixels()) == 0


def test_the_same_test_gives_the_same_picture():
    assert np.array_equal(pixels(chosen=1e-3), pixels(chosen=1e-3))


def test_an_explosion_leaves_the_picture_and_the_descent_fills_it():
    low, top = _limits(LOSSES)
    assert low == pytest.approx(0.35)
    assert top == pytest.approx(1.9)


@pytest.mark.parametrize("losses", [[1.0], [1.0] * 30])
def test_a_curve_without_range_can_be_drawn(losses):
    low, top = _limits(losses)
    assert low < 1 < top
    assert range_picture(RATES[: len(losses)], losses, losses, None, "learning rate")


def test_a_test_that_took_no_step_can_be_drawn():
    assert range_picture([], [], [], None, "learning rate")
