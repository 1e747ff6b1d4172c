"""Fixtures that every test may use."""

from __future__ import annotations

import os

# Threads of the tests' maths: two cores are there, shared by the processes that run tests; more only fight over them.
# A process that runs tests for another inherits what that one has set, so that here the number is not only a default.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"
else:
    os.environ.setdefault("OMP_NUM_THREADS", "2")

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw


def draw_shape(path: Path, label: int, seed: int, size: int = 48) -> Path:
    """A red disc (0) or a blue square (1) somewhere on a noisy ground."""
    generator = np.random.default_rng(seed)
    image = Image.fromarray(generator.integers(0, 60, (size, size, 3), dtype=np.uint8))
    x, y = generator.integers(4, size // 2, 2)
    box = [int(x), int(y), int(x) + size // 3, int(y) + size // 3]
    draw = ImageDraw.Draw(image)
    fill = (230, 60, 60) if label == 0 else (60, 60, 230)
    (draw.ellipse if label == 0 else draw.rectangle)(box, fill=fill)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


@pytest.fixture
def shapes(tmp_path):
    """Draws N pictures of discs and squares; gives their paths and labels 0 and 1."""

    def draw(count: int):
        labels = [row % 2 for row in range(count)]
        paths = [draw_shape(tmp_path / "shapes" / f"{row}.png", label, row) for row, label in enumerate(labels)]
        return paths, labels

    return draw


@pytest.fixture
def shape_folder(tmp_path):
    """A folder class/image of discs and squares, more discs than squares."""

    def draw(discs: int = 40, squares: int = 20, name: str = "data") -> Path:
        root = tmp_path / name
        for row in range(discs):
            draw_shape(root / "disc" / f"{row}.png", 0, row)
        for row in range(squares):
            draw_shape(root / "square" / f"{row}.png", 1, 1000 + row)
        return root

    return draw


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's caches; the tests of one session share one of their own."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path_factory.getbasetemp() / "zoo-cache"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files marked `long` begin first, so that at the end no process waits for another."""
    items.sort(key=lambda item: "long" not in item.keywords)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if "gpu" in item.keywords:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
