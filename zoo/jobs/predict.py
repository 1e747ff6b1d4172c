"""Predict the classes of images with a run."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from zoo.config import PredictConfig
from zoo.data.table import Table, read_table, table_of_images
from zoo.errors import DataError
from zoo.jobs.inference import image_column, start
from zoo.jobs.progress import Reporter
from zoo.registry.lookup import DATASETS
from zoo.run.artifact import Artifact, load_artifact
from zoo.run.files import write_whole
from zoo.run.pipeline import prediction_frame

TABLES = (".csv", ".tsv", ".parquet")


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Predictions by image.

    Attributes:
        frame: see `zoo.run.pipeline.prediction_frame`.
        warnings: surprises, such as covariates that were not given.
        dropped: image -> reason, for files left out.
    """

    frame: pl.DataFrame
    warnings: tuple[str, ...]
    dropped: dict[str, str]


def predict(run: str | Path, images: str | Path | Sequence[str | Path], **options: object) -> pl.DataFrame:
    """Predict the classes of images; the same as `zoo predict`.

    Args:
        run: the run folder.
        images: image files, folders of images, or one CSV or Parquet file or data set's name.
        options: fields of `zoo.config.PredictConfig`.

    Returns:
        One row an image: image, and for each task the prediction, its confidence and each class's probability.

    Raises:
        ZooError: no such run, or images that cannot be read.
    """
    many = [images] if isinstance(images, str | Path) else list(images)
    config = PredictConfig(run=Path(run), images=tuple(str(one) for one in many), **{"quiet": True, **options})  # type: ignore[arg-type]
    found = run_prediction(config, Reporter(quiet=config.quiet))
    for said in (*found.warnings, *(f"left out {image}: {reason}" for image, reason in found.dropped.items())):
        warnings.warn(said, stacklevel=2)
    return found.frame


def run_prediction(config: PredictConfig, reporter: Reporter) -> Predictions:
    """Predict, and write the predictions where `--out` names a file."""
    if not config.images:
        raise DataError("name at least one image, a folder, a CSV or Parquet file, or a data set")
    artifact = load_artifact(config.run)
    table = _table(config, artifact)
    inference = start(
        artifact,
        table,
        config.bad_files,
        device=config.device,
        workers=config.workers,
        reporter=reporter,
        channels=config.channels,
        layout=config.layout,
    )
    found = inference.predictions(inference.rows, config.prior)
    own = (inference.table, inference.rows, found.by_task, inference.artifact.tasks)
    frame = prediction_frame(*own, spread=found.spread)
    if config.out is not None:
        write_whole(Path(config.out), frame.write_csv())
    dropped = {str(table.frame[table.roles.image][row]): reason for row, reason in inference.dropped.items()}
    return Predictions(frame=frame, warnings=found.said, dropped=dropped)


def _table(config: PredictConfig, artifact: Artifact) -> Table:
    first = Path(config.images[0])
    is_table = first.suffix.lower() in TABLES or (not first.exists() and config.images[0] in DATASETS.names())
    if not is_table:
        return table_of_images([Path(image) for image in config.images])
    if len(config.images) > 1:
        raise DataError(f"{config.images[0]} is a table; give it alone, or image files and folders")
    wanted = tuple(artifact.covariates["names"]) if artifact.covariates else ()
    image = image_column(config.run, config.images[0], config.image)
    table = read_table(config.images[0], image=image, need_targets=False)
    return replace(table, roles=replace(table.roles, covariates=wanted))
