"""Imputers of pixels and channels: each holds the contract, and fills with what its name says."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from skimage.restoration import inpaint_biharmonic

from zoo.errors import ZooError
from zoo.features.prefix import normalise
from zoo.registry.lookup import IMPUTERS
from zoo.run.filling import _scaled
from zoo.specs import ImageRows, TrainView, bind, parse_options
from zoo.specs.training import SPLITTERS_SEAL
from zoo.testing.check import perform
from zoo.testing.imputers import imputer_checks
from zoo.testing.pictures import SPECS, draw_pictures
from zoo_imputation import _inpainting

PIXELS = ("mean", "linear", "telea", "ns", "biharmonic")
COUNT = 3


@pytest.mark.parametrize(
    ("kind", "name"), [*(("pixels", name) for name in (*PIXELS, "mae")), ("channels", "mean"), ("channels", "subset")]
)
def test_each_holds_the_contract(kind, name):
    found = [perform(check) for check in imputer_checks(IMPUTERS[kind].get(name))]
    assert [f"{one.check}: {one.message}" for one in found if one.outcome not in ("passed", "skipped")] == []


class Training:
    """Images of training rows that a test made up."""

    channels = ("red", "green", "blue")
    zero = np.array([10.0, 20.0, 30.0])

    def __init__(self, values, missing):
        self.rows = ImageRows(channels=self.channels, values=values, missing=missing)
        self.size, self.dtype = values.shape[2:], str(values.dtype)

    def __len__(self):
        return len(self.rows)

    def batches(self, rows=64):
        for at in range(0, len(self), rows):
            part = slice(at, at + rows)
            yield dataclasses.replace(self.rows, values=self.rows.values[part], missing=self.rows.missing[part])


def slopes(count, side=24, dtype=np.float32):
    """Each a plane of its own slope, so that linear and biharmonic interpolation are exact."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side
    a, b, c = (random.uniform(10, 60, (count, COUNT, 1, 1)) for _ in range(3))
    return (a * y + b * x + c).astype(dtype)


def boxes(count, side=24):
    missing = np.zeros((count, COUNT, side, side), dtype=bool)
    missing[:, :, 6:14, 8:17] = True
    return missing


def fit(option, values, missing, kind="pixels"):
    (call,) = parse_options(option)
    found = IMPUTERS[kind].get(call.name)
    view = TrainView(SPLITTERS_SEAL, rows=np.arange(len(values)), statistics={}, covariates=None)
    view.images = Training(values, missing)
    return found.fit(view, bind(call, found.parameters), np.random.default_rng(0))


def rows(values, missing):
    return ImageRows(channels=Training.channels, values=values, missing=missing)


def test_the_mean_is_that_of_the_known_training_pixels_and_whole_numbers_are_rounded():
    values = np.zeros((2, COUNT, 4, 4), dtype=np.uint8)
    values[0], values[1] = 10, 25
    missing = np.zeros(values.shape, dtype=bool)
    missing[1, :, 2:] = True  # 16 pixels of 10 and 8 of 25
    filled = fit("mean", values, missing).transform(rows(values, missing))
    assert (filled.values[1, :, 2:] == 15).all()
    exact = fit("mean", values.astype(np.float32), missing).transform(rows(values.astype(np.float32), missing))
    assert (exact.values[1, :, 2:] == 15.0).all()


def test_linear_interpolation_is_exact_on_slopes_and_takes_the_nearest_at_the_border():
    values, missing = slopes(2), boxes(2)
    filled = fit("linear", values, missing).transform(rows(values, missing))
    np.testing.assert_allclose(filled.values, values, rtol=1e-5)
    edge = np.zeros_like(missing)
    edge[:, :, :, :5] = True
    flat = np.full_like(values, 7.0)
    assert (fit("linear", values, missing).transform(rows(flat, edge)).values == 7.0).all()
    line = np.ones_like(missing)
    line[:, :, 12] = False  # one known row: no triangle at all
    assert np.isfinite(fit("linear", values, missing).transform(rows(values, line)).values).all()


@pytest.mark.parametrize(("name", "method"), [("telea", cv2.INPAINT_TELEA), ("ns", cv2.INPAINT_NS)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_opencv_fills_each_channel_with_the_radius_that_was_asked_for(name, method, dtype):
    values, missing = slopes(2, dtype=dtype), boxes(2)
    filled = fit(f"{name}(radius=5)", values, missing).transform(rows(values, missing))
    for row in range(2):
        for place in range(COUNT):
            plane = np.where(missing[row, place], 0, values[row, place]).astype(dtype)
            wanted = cv2.inpaint(plane, missing[row, place].astype(np.uint8), 5, method)
            assert np.array_equal(filled.values[row, place], wanted)


def test_biharmonic_is_scikit_images():
    values, missing = slopes(1), boxes(1)
    filled = fit("biharmonic", values, missing).transform(rows(values, missing))
    plane = np.where(missing[0, 0], 0, values[0, 0]).astype(np.float64)
    wanted = inpaint_biharmonic(plane, missing[0, 0], split_into_regions=True)
    np.testing.assert_allclose(filled.values[0, 0], wanted, rtol=1e-6)
    np.testing.assert_allclose(filled.values, values, rtol=1e-4)


def test_a_grey_picture_of_three_channels_is_filled_once(monkeypatch):
    calls = []
    fill = _inpainting.METHODS["telea"]({"radius": 3.0})
    counted = {"telea": lambda options: lambda plane, mask: calls.append(0) or fill(plane, mask)}
    monkeypatch.setattr(_inpainting, "METHODS", counted)
    values = np.repeat(slopes(2)[:, :1], 3, axis=1)
    filled = fit("telea", values, boxes(2)).transform(rows(values, boxes(2)))
    assert len(calls) == 2
    assert (filled.values == filled.values[:, :1]).all()


def test_the_autoencoder_learns_what_images_have_in_common_and_sees_what_is_their_own():
    random = np.random.default_rng(0)
    pattern = 40 * np.sin(np.arange(32) / 32 * 4 * np.pi)  # in every image
    values = np.broadcast_to(pattern + random.uniform(50, 150, (64, 1, 1, 1)), (64, COUNT, 32, 32)).astype(np.float32)
    missing = np.zeros(values.shape, dtype=bool)
    missing[:, :, 8:24, 8:24] = True
    options = "mae(steps=100, side=32, patch=8, width=32, depth=1)"
    found = fit(options, values[:56], np.zeros_like(missing[:56])).transform(rows(values[56:], missing[56:]))
    plain = fit("mean", values[:56], missing[:56]).transform(rows(values[56:], missing[56:]))
    rmse = [float(np.sqrt(np.square((own.values - values[56:])[missing[56:]]).mean())) for own in (found, plain)]
    assert rmse[0] < 0.5 * rmse[1]


@pytest.mark.parametrize("name", ["mean", "subset"])
@pytest.mark.parametrize("unit", list(SPECS))
def test_a_channel_that_is_filled_is_a_channel_whose_kernels_are_gone(name, unit):
    spec = SPECS[unit]
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(3, 8, 3, padding=1, bias=False)
    with draw_pictures("channels", unit) as pictures:
        fitted = IMPUTERS["channels"].get(name).fit(pictures.view, None, np.random.default_rng(0))
        given = dataclasses.replace(pictures.train, values=pictures.train.values.astype(np.float32))
        filled = _scaled(fitted.transform(given), spec.zero)
    absent = torch.from_numpy(given.missing.all(axis=(2, 3)))
    assert absent.any(dim=0).all()
    ready = normalise(torch.from_numpy(filled), spec)
    plain = normalise(torch.from_numpy(np.nan_to_num(given.values)), spec)
    with torch.no_grad():
        for row, lost in enumerate(absent):
            kept = convolution.weight[:, ~lost]
            wanted = torch.nn.functional.conv2d(plain[row][~lost][None], kept, padding=1)
            found = convolution(ready[row][None])
            if name == "mean":
                assert (ready[row][lost] == 0).all()
                torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
            else:
                torch.testing.assert_close(found, wanted * 3 / int((~lost).sum()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("option", [*PIXELS, "mae(steps=4, side=16, width=16, depth=1)"])
def test_other_channels_than_those_of_training_are_refused(option):
    values, missing = slopes(1), boxes(1)
    fitted = fit(option, values, missing)
    other = dataclasses.replace(rows(values, missing), channels=("red", "green", "nir"))
    with pytest.raises(ValueError, match=r"fitted on channels \('red', .*\), not \('red', 'green', 'nir'\)"):
        fitted.transform(other)


@pytest.mark.parametrize("kind", ["pixels", "channels"])
def test_without_images_or_known_pixels_there_is_nothing_to_learn(kind):
    values, missing = slopes(1), boxes(1)
    with pytest.raises(ValueError, match="there are no images to learn from"):
        fit("mean", values[:0], missing[:0], kind)
    missing[:, 1] = True
    with pytest.raises(ValueError, match="no pixel of channel green is known in the training rows; leave it out"):
        fit("mean", values, missing, kind)


def test_a_method_whose_package_is_not_there_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(_inpainting, "find_spec", lambda name: None)
    with pytest.raises(ZooError, match=r"telea needs opencv-python-headless.*pip install \"backbone-zoo\[pixels\]\""):
        fit("telea", slopes(1), boxes(1))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("telea(radius=0)", "radius must be positive, not 0"),
        ("mae(side=30, patch=8)", "side must be a multiple of patch, not 30 of 8"),
        ("mae(width=30)", "width must be a multiple of 4, not 30"),
        ("mae(masked=1.0)", r"masked must lie in \(0, 1\), not 1\.0"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(option, message):
    (call,) = parse_options(option)
    with pytest.raises(ZooError, match=message):
        bind(call, IMPUTERS["pixels"].of_call(call).parameters)
