"""What the benchmark compares, and one side of it in a process of its own. Imports nothing heavy by itself."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One fine-tuning that every side does in its own way.

    Attributes:
        freeze: as `zoo train --freeze` takes it; the other sides train the same layers.
        epochs: by default.
        sides: in the order of a round.
    """

    backbone: str
    weights: str | None
    freeze: str
    epochs: int
    sides: tuple[str, ...]


LITE0, RESNET18 = "lite/efficientnet_lite0", "torchvision/resnet18"
PEERS = ("zoo", "tutorial", "fastai")

# Without a cache every epoch costs the same, so that the ratio does not depend on their number: two are enough.
SCENARIOS = {
    "head": Scenario(
        backbone=LITE0, weights=None, freeze="head", epochs=10, sides=("zoo", "limit", "tutorial", "fastai")
    ),
    "last": Scenario(backbone=LITE0, weights=None, freeze="last(1)", epochs=10, sides=PEERS),
    "everything-lite0": Scenario(backbone=LITE0, weights=None, freeze="none", epochs=2, sides=PEERS),
    "everything-resnet18": Scenario(backbone=RESNET18, weights="none", freeze="none", epochs=2, sides=PEERS),
}

MODULES = {
    "zoo": "sides.ours",
    "limit": "sides.limit",
    "tutorial": "sides.tutorial",
    "tutorial-amp": "sides.tutorial",
    "fastai": "sides.with_fastai",
    "fastai-amp": "sides.with_fastai",
    "fastai-fine_tune": "sides.with_fastai",
}
"""Every side, those too that run only when they are asked for, and the module that does it."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a side starts from.

    Attributes:
        side: by its full name, such as `tutorial-amp`.
        table: CSV file with the columns image (absolute path), defective and split.
        folder: an empty one that is thrown away.
        workers: of data loaders.
        recipe: how the prefix of this round's `zoo` computed; for `limit` alone.
    """

    side: str
    scenario: Scenario
    table: Path
    folder: Path
    epochs: int
    batch_size: int
    seed: int
    device: str
    workers: int
    recipe: dict


def run(parameters, seed):
    """One side with an empty cache: what the grid calls. What it imports is timed apart."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ZOO_CACHE"] = str(Path(folder, "cache"))
        started = time.perf_counter()
        side = import_module(MODULES[parameters["side"]])
        imported = time.perf_counter() - started
        from sides.common import settings, write_table

        given = Given(
            side=parameters["side"],
            scenario=SCENARIOS[parameters["scenario"]],
            table=write_table(Path(folder, "table.csv"), parameters["rows"], seed),
            folder=Path(folder),
            epochs=parameters["epochs"],
            batch_size=parameters["batch_size"],
            seed=seed,
            device=parameters["device"],
            workers=min(8, os.cpu_count() or 1),
            recipe=parameters.get("recipe", {}),
        )
        return {"import_seconds": imported, **side.run(given), "settings": settings()}
