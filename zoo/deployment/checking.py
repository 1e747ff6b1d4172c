"""An exported file held against the run that it was made from, on images of the run's own data."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from zoo.data.images import Images
from zoo.data.ingest import ingest
from zoo.data.table import Table, read_table, table_of_images
from zoo.deployment.graphs import Loaded
from zoo.deployment.outputs import comparable
from zoo.deployment.served import raw_columns, served_dtype
from zoo.errors import ZooError
from zoo.run.artifact import Artifact
from zoo.run.covariates import Covariates
from zoo.run.filling import Filling
from zoo.run.pipeline import Pipeline
from zoo.specs import Task

IMAGES = 8
"""How many images are compared."""

LIMIT = 1e-3
"""Largest difference of a probability, or of a number in standard deviations, that passes; both in float32."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Inputs of an exported file, and what the run makes of them.

    Attributes:
        images: (N, C, H, W), see `served_dtype`.
        covariates: float64 (N, columns), or None.
        wanted: probabilities float64 (N, K), or numbers in standard deviations, of the run by task, from float32.
        rounding: largest difference of those from what the run itself predicts, where it computes in bf16; else 0.
        what: which images these are, in words.
        tasks: of the run.
    """

    images: Tensor
    covariates: Tensor | None
    wanted: Mapping[str, Tensor]
    rounding: float
    what: str
    tasks: tuple[Task, ...]


@dataclass(frozen=True, kw_only=True)
class Check:
    """How far the file is from the run.

    Attributes:
        difference: the largest of any probability, or of a number in standard deviations.
        rounding: see `Sample`.
        images: how many.
        what: which, in words.
    """

    difference: float
    rounding: float
    images: int
    what: str

    def __str__(self) -> str:
        own = f"; the run itself predicts in bf16, up to {self.rounding:.1e} from that" if self.rounding else ""
        return (
            f"predictions differ from the run's in float32 by {self.difference:.1e} at most, over {self.images} "
            f"{self.what} (limit {LIMIT:.0e}){own}"
        )


def take_sample(folder: Path, artifact: Artifact, run: Mapping[str, Any]) -> Sample:
    """Read images of the run's data, or draw random ones where these are gone, and let the run predict them."""
    with tempfile.TemporaryDirectory(prefix="zoo-export-") as name, _images(folder, artifact, run, Path(name)) as found:
        table, images, rows, what = found
        if artifact.covariates is not None:  # the file takes covariates without holes, which there is one way to fill
            artifact = replace(artifact, covariates={**artifact.covariates, "draws": 0})
        exact = replace(artifact, recipe=replace(artifact.recipe, precision="fp32"))
        wanted = _predicted(exact, table, images, rows)
        rounding = 0.0
        if artifact.recipe != exact.recipe:
            rounding = _apart(_predicted(artifact, table, images, rows), wanted)
        covariates = None
        if artifact.covariates is not None:
            whole, _, _ = Covariates.load(artifact.covariates, artifact.imputers).complete(table.take(rows))
            covariates = raw_columns(Covariates.load(artifact.covariates, artifact.imputers).encoder.schema, whole)
        pixels = images.pixels(rows).to(served_dtype(artifact))
    own: dict[str, Any] = {"rounding": rounding, "what": what, "tasks": artifact.tasks}
    return Sample(images=pixels, covariates=covariates, wanted=wanted, **own)


def _predicted(artifact: Artifact, table: Table, images: Images, rows: NDArray[np.int64]) -> dict[str, Tensor]:
    """What a run predicts, comparable."""
    found = Pipeline(artifact, torch.device("cpu"), None).predictions(table, images, rows).by_task
    return {task.name: comparable(task, found[task.name], softmax=True) for task in artifact.tasks}


@contextmanager
def _images(
    folder: Path, artifact: Artifact, run: Mapping[str, Any], work: Path
) -> Iterator[tuple[Table, Images, NDArray[np.int64], str]]:
    """Table, images and rows of them, from the run's data or random; what is decoded goes to `work`, not the cache."""
    spec = artifact.model.view.input
    try:
        table, what = _own_table(folder, artifact, run), "held-out images of the run's data"
        images = ingest(table.paths, spec, work / "pixels", workers=1)
        filling = Filling.load(artifact.imputers)
        rows = np.setdiff1d(np.flatnonzero(images.ids >= 0), list(filling.unfilled(images)))
        images = filling.apply(images, rows, work / "pixels")
        lost = "" if len(rows) else "none of them can be read"
    except (ZooError, OSError, KeyError, TypeError) as error:
        lost = str(error).split("\n")[0] if isinstance(error, ZooError) else "its record does not say where they are"
    if lost:
        table, what = _random_table(artifact, work), f"random images, because those of the run are not here: {lost}"
        images = ingest(table.paths, spec, work / "pixels", workers=1)
        rows = np.arange(len(table))
    yield table, images, rows, what


def _own_table(folder: Path, artifact: Artifact, run: Mapping[str, Any]) -> Table:
    """Some held-out rows of the table that the run was made from."""
    roles = run["data"]["roles"]
    table = read_table(run["command"]["data"], image=roles["image"], need_targets=False)
    column = table.roles.image
    used = pl.read_csv(folder / "splits.csv", schema_overrides={"image": pl.String})
    held = set(used.filter(pl.col("split").is_in(["test", "val"]))["image"])
    places = [row for row, image in enumerate(table.frame[column].to_list()) if image in held]
    chosen = np.array(places, dtype=np.int64)[np.linspace(0, len(places) - 1, min(IMAGES, len(places))).astype(int)]
    wanted = tuple(artifact.covariates["names"]) if artifact.covariates else ()
    return replace(table.take(chosen), roles=replace(table.roles, covariates=wanted))


def _random_table(artifact: Artifact, work: Path) -> Table:
    height, width = artifact.model.view.input.size
    generator = np.random.default_rng(0)
    paths = [work / f"{number}.png" for number in range(IMAGES)]
    for path in paths:
        # Coarse patches: what is left of fine noise after resizing is grey.
        patches = Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        patches.resize((width, height), Image.Resampling.BICUBIC).save(path)
    return table_of_images(paths)


def check(loaded: Loaded, sample: Sample, batch: int | None, *, logits: bool) -> Check:
    """Run the file that was written and compare.

    Args:
        loaded: the file at work.
        sample: from `take_sample`.
        batch: the number of images that the file takes; None for any, which is tried with all and with one.
        logits: whether the file gives logits.

    Raises:
        ZooError: it differs by more than `LIMIT`, or gives what is no number.
    """
    found = [_outputs(loaded, sample, batch or len(sample.images))]
    if batch is None:
        found.append(_outputs(loaded, replace(sample, images=sample.images[:1], covariates=_first(sample)), 1))
    worst = 0.0
    for outputs in found:
        shares = {task.name: comparable(task, outputs[task.name], softmax=not logits) for task in sample.tasks}
        wanted = {task: each[: len(shares[task])] for task, each in sample.wanted.items()}
        worst = max(worst, _apart(shares, wanted))
    held = Check(difference=worst, rounding=sample.rounding, images=len(sample.images), what=sample.what)
    if not worst <= LIMIT:
        raise ZooError(
            f"the exported file is not the run: its {held}. Nothing was written; please report it, and use another "
            "--format meanwhile"
        )
    return held


def _first(sample: Sample) -> Tensor | None:
    return None if sample.covariates is None else sample.covariates[:1]


def _outputs(loaded: Loaded, sample: Sample, batch: int) -> dict[str, Tensor]:
    """Outputs of all images, `batch` at a time; the last batch is filled up with what comes first."""
    count = len(sample.images)
    parts = []
    for start in range(0, count, batch):
        rows = torch.arange(start, start + batch) % count
        parts.append(loaded(sample.images[rows], None if sample.covariates is None else sample.covariates[rows]))
    return {task: torch.cat([part[task] for part in parts])[:count] for task in sample.wanted}


def _apart(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """The largest difference of anything predicted; infinite where one is no number."""
    apart = torch.cat([(one[task] - other[task]).abs().flatten() for task in other])
    return float(apart.max()) if bool(apart.isfinite().all()) else math.inf
