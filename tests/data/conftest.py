"""Tiny images and tables, drawn where a test needs them."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from zoo.data.table import Table
from zoo.specs import Roles

DrawTree = Callable[[Mapping[str, int]], Path]
MakeTable = Callable[..., Table]


def picture(seed: int = 0, size: tuple[int, int] = (12, 10), mode: str = "RGB") -> Image.Image:
    """A smooth random picture, so that JPEG keeps it; `size` is (width, height)."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC).convert(mode)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(name="picture")
def _picture() -> Callable[..., Image.Image]:
    """`picture(seed, (width, height), mode)`."""
    return picture


@pytest.fixture(name="encoded")
def _encoded() -> Callable[..., bytes]:
    """`encoded(image, kind, **options)`."""
    return encoded


@pytest.fixture
def draw_tree(tmp_path: Path) -> DrawTree:
    """Draw `count` different images in each named folder below a fresh root."""

    def draw(folders: Mapping[str, int]) -> Path:
        root = tmp_path / "tree"
        root.mkdir(exist_ok=True)
        seed = 0
        for folder, count in folders.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                seed += 1
                (root / folder / f"{index}.png").write_bytes(encoded(picture(seed)))
        return root

    return draw


@pytest.fixture
def make_table(tmp_path: Path) -> MakeTable:
    """A table from columns; image paths are made up where none are given."""

    def make(columns: Mapping[str, list[object]], **roles: object) -> Table:
        rows = len(next(iter(columns.values())))
        frame = pl.DataFrame({"image": [f"{row}.png" for row in range(rows)], **columns}, strict=False)
        return Table(name="made", frame=frame, roles=Roles(**roles), root=tmp_path)

    return make
