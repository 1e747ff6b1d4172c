"""Bands that no pretrained network knows are normalised by the training rows; what is missing does not count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from zoo.data.band_statistics import learned_bands, with_statistics
from zoo.data.ingest import ingest
from zoo.data.picture import picture_of
from zoo.errors import DataError
from zoo.specs import InputSpec

NAMES = ("red", "nir")
SPEC = InputSpec(
    size=(8, 8), resize=8, interpolation="nearest", mean=(0.5, 0.4), std=(0.2, 0.3), bands=NAMES, file_bands=NAMES
)


def written(folder, values):
    for row, own in enumerate(values):
        np.save(folder / f"{row}.npy", own)
    return [folder / f"{row}.npy" for row in range(len(values))]


def test_raw_units_are_learned_from_the_known_pixels_of_the_training_rows(tmp_path):
    values = np.random.default_rng(0).normal(300.0, 40.0, (70, 2, 8, 8)).astype(np.float32)
    values[0, 0, :3] = np.nan
    values[69] = 1e6  # not a training row
    images = ingest(written(tmp_path, values), replace(SPEC, dtype="float32"), tmp_path / "cache")
    found, said = with_statistics(images, np.arange(69))
    assert found.spec.full == 1.0
    np.testing.assert_allclose(found.spec.mean, np.nanmean(values[:69], axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(found.spec.std, np.nanstd(values[:69], axis=(0, 2, 3)), rtol=1e-6)
    assert said == "red, nir by mean and deviation of the 69 training rows, in the files' own units"


def test_colours_of_8_bits_stay_as_pretrained_and_other_bands_are_learned(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (6, 2, 8, 8)).astype(np.uint8)
    images = ingest(written(tmp_path, values), SPEC, tmp_path / "cache")
    found, said = with_statistics(images, np.arange(6))
    assert (found.spec.full, found.spec.mean[0], found.spec.std[0]) == (255.0, 0.5, 0.2)
    assert found.spec.mean[1] == pytest.approx(values[:, 1].mean() / 255)
    assert said.endswith("red as the network was pretrained")


def test_ordinary_pictures_have_nothing_to_learn(shapes, tmp_path):
    paths, _ = shapes(2)
    spec = InputSpec(size=(8, 8), resize=8)
    assert not any(learned_bands(spec))
    images = ingest(paths, spec, tmp_path / "cache")
    assert with_statistics(images, np.arange(2)) == (images, "")


def test_a_constant_band_is_divided_by_one_and_an_unknown_one_is_refused(tmp_path):
    values = np.random.default_rng(0).normal(size=(4, 2, 8, 8)).astype(np.float32)
    values[:, 1] = 7.0
    spec = replace(SPEC, dtype="float32", file_bands=("red", "nir"))
    images = ingest(written(tmp_path, values), spec, tmp_path / "cache")
    refusal = r"channel nir is missing or constant in each of the 4 training rows.*say - for it in --channels"
    with pytest.raises(DataError, match=refusal):
        with_statistics(images, np.arange(4))
    values[:, 1, 0, 0] += 1e-6
    images = ingest(written(tmp_path, values), spec, tmp_path / "cache")
    assert with_statistics(images, np.arange(4))[0].spec.std[1] == 1.0


def test_pictures_show_colours_where_there_are_and_raw_units_stretched():
    spec = replace(SPEC, bands=("nir", "blue", "green", "red"), mean=(100.0,) * 4, std=(10.0,) * 4, full=1.0)
    pixels = torch.full((4, 8, 8), 100.0)
    pixels[3] = 120.0
    pixels[1] = 60.0
    assert picture_of(pixels, spec)[:, 0, 0].tolist() == [255, 128, 0]
    grey = replace(SPEC, full=1.0, mean=(0.0, 0.0), std=(1.0, 1.0))
    assert picture_of(torch.full((2, 8, 8), 2.0), grey)[:, 0, 0].tolist() == [255, 255, 255]
    plain = InputSpec(size=(8, 8), resize=8)
    assert picture_of(torch.full((3, 8, 8), 9, dtype=torch.uint8), plain).unique().tolist() == [9]
