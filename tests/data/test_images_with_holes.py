"""The hole map beside the store: read once, found again, bounded, and never lost in silence."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from zoo.data import ingest as module
from zoo.data.ingest import ingest
from zoo.specs import Holes, InputSpec

SPEC = InputSpec(size=(8, 8), resize=8, interpolation="nearest")


@pytest.fixture
def pictures(tmp_path, picture):
    """Four images, of which the second and the last have a transparent corner."""
    paths = [tmp_path / f"{row}.png" for row in range(4)]
    for row, path in enumerate(paths):
        alpha = np.full((8, 8), 255, dtype=np.uint8)
        alpha[:2, : 2 * (row % 2)] = 0
        Image.fromarray(np.dstack([np.asarray(picture(row, (8, 8))), alpha])).save(path)
    return paths


def test_masks_stand_beside_the_pixels_of_those_rows_alone(pictures, tmp_path):
    images = ingest(pictures, SPEC, tmp_path / "cache")
    assert list(images.missing_pixels) == [1, 3]
    assert images.missing_pixels[3].shape == (3, 8, 8)
    assert images.missing_pixels[3][:, :2, :2].all()
    assert images.missing_pixels[3].sum() == 12
    with pytest.raises(KeyError):
        images.missing_pixels[0]
    assert len(images.holes.masks) == 2
    assert images.holes.masks.row_nbytes == 3 * 8
    assert Holes(pixels=images.missing_pixels, channels=images.missing_channels).count("pixels") == 2


def test_what_was_found_is_not_looked_for_again(pictures, tmp_path, monkeypatch):
    first = ingest(pictures, SPEC, tmp_path / "cache")
    monkeypatch.setattr(module, "read_colours", lambda *_: pytest.fail("decoded again"))
    again = ingest(pictures[::-1], SPEC, tmp_path / "cache")
    assert list(again.missing_pixels) == [0, 2]
    assert np.array_equal(again.facts[::-1], first.facts)


@pytest.mark.parametrize("part", ["facts", "masks"])
def test_a_hole_map_that_was_lost_is_made_anew(pictures, tmp_path, part):
    first = ingest(pictures, SPEC, tmp_path / "cache")
    shutil.rmtree(getattr(first.holes, part).folder)
    again = ingest(pictures, SPEC, tmp_path / "cache")
    assert again.decoded == (4 if part == "facts" else 2)
    assert list(again.missing_pixels) == [1, 3]


def test_another_nodata_value_is_another_store(pictures, tmp_path):
    plain = ingest(pictures, SPEC, tmp_path / "cache")
    other = ingest(pictures, replace(SPEC, nodata=0.0), tmp_path / "cache")
    assert other.store.folder != plain.store.folder
    assert other.decoded == 4
