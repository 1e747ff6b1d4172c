"""Filled images: kept apart by what filled them, the same whatever is beside them, and checked against the contract."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from zoo.data.ingest import ingest
from zoo.data.training_images import TrainingImages
from zoo.errors import OptionError, PluginError
from zoo.run.filling import Filling
from zoo.specs import InputSpec, TrainView, parse_options
from zoo.specs.training import SPLITTERS_SEAL

NAMES = ("red", "green", "blue", "nir")
SPEC = InputSpec(
    size=(8, 8),
    resize=8,
    interpolation="nearest",
    mean=(0.25, 0.5, 0.5, 0.5),
    std=(0.2,) * 4,
    bands=NAMES,
    file_bands=NAMES,
    nodata=0.0,
)


@pytest.fixture
def images(tmp_path):
    """Six images of four bands: rows 1 and 4 lack pixels, rows 2 and 4 the band nir."""
    random = np.random.default_rng(0)
    paths = []
    for row in range(6):
        values = random.integers(1, 256, (4, 8, 8)).astype(np.uint8)
        if row in (1, 4):
            values[:3, 2:5, 2:5] = 0
        if row in (2, 4):
            values[3] = 0
        paths.append(tmp_path / f"{row}.npy")
        np.save(paths[-1], values)
    return ingest(paths, SPEC, tmp_path / "images")


def view_of(images):
    view = TrainView(SPLITTERS_SEAL, rows=np.arange(6), statistics={}, covariates=None)
    view.images = TrainingImages(images, np.arange(6))
    return view


def fitted(images, **options):
    calls = {kind: parse_options(text)[0] for kind, text in options.items()}
    return Filling.fit(calls, view_of(images), seed=0)


def test_what_nothing_fills_is_named_with_its_reason(images):
    said = fitted(images).unfilled(images)
    assert said == {
        1: "pixels are missing (nodata), and nothing fills them",
        2: "channel nir is missing, and nothing fills it",
        4: "pixels are missing (nodata), and nothing fills them",
    }
    assert list(fitted(images, pixels="mean").unfilled(images)) == [2, 4]
    assert fitted(images, pixels="mean", channels="mean").unfilled(images) == {}


def test_a_row_is_filled_alike_whatever_is_beside_it_and_whole_ones_stay(images, tmp_path):
    filling = fitted(images, pixels="telea", channels="mean")
    every = filling.apply(images, np.arange(6), tmp_path / "one")
    alone = filling.apply(images, np.array([1]), tmp_path / "two")
    assert (every.dtype, alone.dtype) == (torch.float32, torch.uint8)
    assert torch.equal(every.pixels(np.array([1])), alone.pixels(np.array([1])).float())
    assert torch.equal(every.pixels(np.array([0, 3, 5])), images.pixels(np.array([0, 3, 5])).float())
    nir = every.pixels(np.array([2, 4]))[:, 3]
    assert nir.unique().tolist() == [127.5]
    assert every.filled_rows("pixels") == 2
    assert every.filled_rows("channels") == 2
    assert images.filled_rows("pixels") == 0


def test_features_are_kept_under_the_file_and_what_filled_it(images, tmp_path):
    every = np.arange(6)
    one = fitted(images, pixels="telea", channels="mean").apply(images, every, tmp_path / "c").keys
    other = fitted(images, pixels="ns", channels="mean").apply(images, every, tmp_path / "c").keys
    same = (one == other).all(axis=1)
    assert same.tolist() == [True, False, True, True, False, True]
    assert (one == images.digests).all(axis=1).tolist() == [True, False, False, True, False, True]


def test_what_was_filled_once_is_not_filled_again(images, tmp_path, monkeypatch):
    filling = fitted(images, pixels="telea", channels="subset")
    first = filling.apply(images, np.arange(6), tmp_path / "c")
    loaded = Filling.load(filling.save())
    monkeypatch.setattr(Filling, "_filled", lambda *_: pytest.fail("filled again"))
    again = loaded.apply(images, np.arange(6), tmp_path / "c")
    assert torch.equal(again.pixels(np.arange(6)), first.pixels(np.arange(6)))


def test_a_subset_of_channels_is_scaled_about_what_normalisation_takes_off(images, tmp_path):
    mean = fitted(images, pixels="mean", channels="mean").apply(images, np.arange(6), tmp_path / "c")
    subset = fitted(images, pixels="mean", channels="subset").apply(images, np.arange(6), tmp_path / "c")
    zero = torch.tensor(SPEC.zero).view(-1, 1, 1)
    rows = np.array([2, 4])
    torch.testing.assert_close(subset.pixels(rows) - zero, (mean.pixels(rows) - zero) * 4 / 3)
    whole = np.array([0, 1])
    assert torch.equal(subset.pixels(whole), mean.pixels(whole))


def test_an_imputer_that_cannot_learn_is_the_users_mistake(images):
    lost = dataclasses.replace(images, facts=images.facts.copy())
    lost.facts[:, 3, 1] |= 8  # absent everywhere
    with pytest.raises(OptionError, match="mean: no pixel of channel nir is known in the training rows"):
        fitted(lost, channels="mean")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: None, "transform gave no images of the same shape"),
        (
            lambda rows: dataclasses.replace(rows, values=rows.values[:, :1]),
            "transform gave no images of the same shape",
        ),
        (lambda rows: dataclasses.replace(rows, values=rows.values.astype(float)), "turned uint8 into float64"),
        (lambda rows: dataclasses.replace(rows, values=rows.values + np.uint8(1)), "it changes what was observed"),
    ],
)
def test_an_imputer_that_breaks_its_contract_is_named(images, tmp_path, change, message):
    filling = fitted(images, pixels="mean")
    broken = dataclasses.replace(filling, fitted={"pixels": Broken(change)})
    with pytest.raises(PluginError, match=rf"\(imputer of pixels mean\): .*{message}"):
        broken.apply(images, np.array([1]), tmp_path / "c")


class Broken:
    def __init__(self, change):
        self.transform = change

    def save(self):
        return {}, {}


def test_an_imputer_that_leaves_holes_is_named(images, tmp_path):
    filling = fitted(images, channels="mean")
    nan = Broken(lambda rows: dataclasses.replace(rows, values=np.where(rows.missing, np.float32(np.nan), rows.values)))
    with pytest.raises(PluginError, match="it leaves holes that are not finite"):
        dataclasses.replace(filling, fitted={"channels": nan}).apply(images, np.array([2]), tmp_path / "c")
