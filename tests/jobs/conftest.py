"""A small backbone with weights, offered by a plugin that only the tests have, so that every job runs offline.

And what the tests of several processes share: noisy images, an environment, torchrun.
"""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from markupsafe import Markup
from PIL import Image

from zoo.registry import catalogue, plugins
from zoo.registry.plugins import Plugin
from zoo.specs import BackboneEntry, BackboneSource, Weights


def _build(model, tag):
    from zoo.registry.lookup import SOURCES

    torch.manual_seed(0)
    view = SOURCES.get("timm").build(model, None)
    return dataclasses.replace(view, name=f"tiny/{model}", weights=tag or "none")


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """`tiny/test_efficientnet`, `tiny/test_vit`: fixed random numbers that count as pretrained."""
    names = ("test_efficientnet", "test_vit", "test_resnet")
    source = BackboneSource(
        name="tiny",
        entries=lambda: [BackboneEntry(name=name, weights=(Weights(tag="fixed"),)) for name in names],
        build=_build,
    )
    extra = Plugin(name="tiny", distribution="tiny-plugin", version="1", records={"zoo_backbones": (source,)})
    loaded = plugins.load_plugins()
    rows = [catalogue.CatalogueRow(source="tiny", distribution="tiny-plugin", entry=e) for e in source.entries()]
    known = catalogue.Catalogue(rows=tuple(rows))
    monkeypatch.setattr("zoo.registry.lookup.load_plugins", lambda: (*loaded, extra))
    monkeypatch.setattr("zoo.model.view.catalogue", lambda: known)


@pytest.fixture(autouse=True)
def quick_pictures(request, monkeypatch):
    """Curves in reports are drawn where a test is marked `pictures`; elsewhere they would take half of a small run."""
    if "pictures" not in request.keywords:
        monkeypatch.setattr("zoo.report.pictures.svg", lambda figure: Markup('<svg class="curves"></svg>'))


@pytest.fixture(scope="session")
def noise(tmp_path_factory):
    """Fifty-one noisy images of two classes, so that nothing divides evenly."""
    root, draws = tmp_path_factory.mktemp("noise"), np.random.default_rng(0)
    for row in range(51):
        folder = root / ("dark" if row % 3 else "bright")
        folder.mkdir(exist_ok=True)
        pixels = draws.integers(0, 160, (64, 64, 3)) + (0 if row % 3 else 60)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{row}.png")
    return root


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    return {**os.environ, "ZOO_CACHE": str(tmp_path_factory.mktemp("cache")), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def torchrun(environment):
    """Two processes that train one run after the other, as `together.py` says."""

    def run(runs, folder, restarts=0):
        path = folder / "runs.json"
        path.write_text(json.dumps(runs))
        words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        words += [f"--max-restarts={restarts}", str(Path(__file__).with_name("together.py")), str(path)]
        found = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=500)
        assert found.returncode == 0, found.stderr[:6000]

    return run
