"""What evaluate and predict share: a run loaded, images read, bad files dealt with, probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zoo.data.bad_files import apply_bad_files
from zoo.data.bands import file_bands
from zoo.data.files import read_file
from zoo.data.images import Images
from zoo.data.ingest import ingest
from zoo.data.table import Table
from zoo.disk import cache_folder
from zoo.errors import DataError
from zoo.jobs.progress import Reporter
from zoo.probe import pick_device, reuse_memory
from zoo.run.artifact import Artifact
from zoo.run.files import read_json
from zoo.run.filling import Filling
from zoo.run.pipeline import Pipeline, Predicted
from zoo.run.prior import with_prior
from zoo.specs import InputSpec, Layout, TargetKind, Task

BadFiles = Literal["stop", "drop"]


@dataclass(frozen=True, kw_only=True)
class Inference:
    """A run and images that are ready for it.

    Attributes:
        rows: positions of the readable images, int64 (N,).
        dropped: row -> reason, for images left out.
        said: sentences about holes in the images.
    """

    artifact: Artifact
    pipeline: Pipeline
    table: Table
    images: Images
    rows: NDArray[np.int64]
    dropped: Mapping[int, str]
    said: tuple[str, ...]
    reporter: Reporter

    def predictions(self, rows: NDArray[np.int64], prior: str | None = None) -> Predicted:
        """What is predicted of `rows`.

        With a `prior`, as of `zoo.run.prior.with_prior`, class probabilities are those under that prior, and there is
        no spread of them.
        """
        with self.reporter.bar("predicting", "images") as progress:
            found = self.pipeline.predictions(self.table, self.images, rows, progress)
        found = replace(found, said=(*self.said, *found.said))
        if prior is None:
            return found
        under, more = with_prior(found.by_task, self.artifact, prior)
        return Predicted(by_task=under, said=(*found.said, *more))


def image_column(run: Path, data: str, given: str | None) -> str | None:
    """The column with the images: what the user named, else the run's own where a file has it."""
    if given is not None or not Path(data).is_file():
        return given
    stated: str = read_json(run / "run.json")["data"]["roles"]["image"]
    return stated if stated in read_file(Path(data)).columns else None


def with_file_bands(spec: InputSpec, names: Sequence[str], layout: Layout | None) -> InputSpec:
    """A run's input for files whose bands have these names in this order; as in training where none are given.

    Raises:
        DataError: the run reads ordinary pictures, or none of these bands.
    """
    if (names or layout) and not spec.bands:
        raise DataError("the run reads ordinary pictures; leave out --channels and --layout")
    named = file_bands(names, spec.bands) if names else spec.file_bands
    return replace(spec, file_bands=named, layout=layout or spec.layout)


def target_kinds(tasks: Sequence[Task], data: str, columns: Sequence[str]) -> dict[str, TargetKind]:
    """The kinds of the columns of some data that hold the targets of a run.

    Args:
        tasks: of the run.
        data: the folder, the file, or the name of the data set.
        columns: that the user names, in the order of the tasks or by their names; empty for the run's own names.
    """
    own = [task.name for task in tasks]
    names = list(columns) or (["label"] if Path(data).expanduser().is_dir() else own)
    if set(names) == set(own):
        names = own
    if len(names) != len(own):
        return {}  # the caller says so
    return {name: TargetKind(kind=task.kind, names=_names(task)) for name, task in zip(names, tasks, strict=True)}


def _names(task: Task) -> tuple[str, ...]:
    return task.classes if task.joined or task.kind == "ordinal" else ()


def start(
    artifact: Artifact,
    table: Table,
    bad_files: BadFiles,
    *,
    device: str | None,
    workers: int | None,
    reporter: Reporter,
    channels: Sequence[str] = (),
    layout: Layout | None = None,
) -> Inference:
    """Make a run ready here and read the images of a table.

    `channels` and `layout` say of these files what they do in training, where they differ. Files that cannot be read
    stop it or, with `drop`, are left out however many they are: nothing is learned here.

    Raises:
        DataError: files that cannot be read, or no image at all.
    """
    if workers is not None and workers < 1:
        raise DataError(f"--workers must be positive, not {workers}")
    cache = cache_folder()
    reuse_memory()
    spec = with_file_bands(artifact.model.view.input, channels, layout)
    artifact.model.view = replace(artifact.model.view, input=spec)
    pipeline = Pipeline(artifact, pick_device(device), cache)
    with reporter.bar("reading images", "images") as progress:
        images = ingest(table.paths, spec, cache / "images", workers=workers, progress=progress)
    filling = Filling.load(artifact.imputers)
    holed = filling.unfilled(images)
    decision = apply_bad_files(
        table,
        images.bad | holed,
        bad_files,
        max_share=1.0,
        max_class_share=1.0,
        advice="train with --impute pixels=NAME or --impute channels=NAME for what is missing" if holed else "",
    )
    rows = np.flatnonzero(decision.usable)
    if not len(rows):
        raise DataError(f"{table.name}: none of its {len(table)} images can be {'used' if holed else 'read'}")
    with reporter.bar("filling holes in images", "images") as progress:
        images = filling.apply(images, rows, cache / "images", progress)
    said = tuple(
        f"{count} images lack {kind}; {name} filled them as it learned to in training"
        for kind, name in filling.names.items()
        if (count := images.filled_rows(kind))
    )
    return Inference(
        artifact=artifact,
        pipeline=pipeline,
        table=table,
        images=images,
        rows=rows,
        dropped=decision.dropped,
        said=said,
        reporter=reporter,
    )
