"""Score a run on labelled data, by default on rows that it has never learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.config import EvaluateConfig
from zoo.data.labels import encode_targets, foreign_labels, label_texts, natural_order
from zoo.data.table import Table, read_table, with_targets
from zoo.errors import DataError
from zoo.jobs.inference import Inference, image_column, start, target_kinds
from zoo.jobs.outcome import score
from zoo.jobs.progress import Reporter
from zoo.run.artifact import Artifact, load_artifact
from zoo.run.files import write_whole
from zoo.run.pipeline import prediction_frame
from zoo.run.uses import read_splits, uses_of
from zoo.specs import Task


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of a run.

    Attributes:
        metrics: by task, as in `metrics.json`.
        rows: number of rows scored.
        which: a sentence that says which rows these are.
        warnings: surprises.
    """

    metrics: Mapping[str, Any]
    rows: int
    which: str
    warnings: tuple[str, ...]


def evaluate(run: str | Path, data: str | Path, **options: object) -> Evaluation:
    """Score a run on labelled data; the same as `zoo evaluate`.

    Args:
        run: the run folder.
        data: folder, CSV or Parquet file, or the name of a data set.
        options: fields of `zoo.config.EvaluateConfig`.

    Raises:
        ZooError: no such run, classes that the run does not know, or no row to score.
    """
    config = EvaluateConfig(run=Path(run), data=str(data), **{"quiet": True, **options})  # type: ignore[arg-type]
    return run_evaluation(config, Reporter(quiet=config.quiet))


def run_evaluation(config: EvaluateConfig, reporter: Reporter) -> Evaluation:
    """Score, and write the predictions where `--out` names a file."""
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
    labels = _labels(table, artifact.tasks)
    rows, which = _rows(config, inference, labels)
    predicted = inference.predictions(rows, config.prior)
    held = {name: [texts[row] for row in rows] for name, texts in labels.items()}
    targets = {
        name: target.take(torch.from_numpy(rows)) for name, target in encode_targets(table, artifact.tasks).items()
    }
    found = score(predicted.by_task, targets, ["scored"] * len(rows), artifact.tasks)
    if config.out is not None:
        own = (table, rows, predicted.by_task, artifact.tasks)
        frame = prediction_frame(*own, spread=predicted.spread, labels=held)
        write_whole(Path(config.out), frame.write_csv())
    metrics = {task: splits["scored"] for task, splits in found.items() if "scored" in splits}
    dropped = (f"{len(inference.dropped)} files could not be used and were left out",) if inference.dropped else ()
    return Evaluation(metrics=metrics, rows=len(rows), which=which, warnings=(*predicted.said, *dropped))


def _table(config: EvaluateConfig, artifact: Artifact) -> Table:
    own = [task.name for task in artifact.tasks]
    folder = Path(config.data).is_dir()
    targets = config.target or (() if folder else tuple(own))
    table = read_table(
        config.data,
        image=image_column(config.run, config.data, config.image),
        targets=targets,
        kinds=target_kinds(artifact.tasks, config.data, config.target),
    )
    if len(table.roles.targets) != len(own):
        raise DataError(f"the run has the targets {', '.join(own)}; name as many columns with --target")
    # The labels may stand in columns of other names here; from now on they bear the run's.
    table = with_targets(table, own)
    covariates = tuple(artifact.covariates["names"]) if artifact.covariates else ()
    return replace(table, roles=replace(table.roles, covariates=covariates))


def _labels(table: Table, tasks: Sequence[Task]) -> dict[str, list[str | None]]:
    found = {}
    for task in tasks:
        texts = label_texts(table, task.name)
        foreign = natural_order(foreign_labels(task, texts, range(len(texts))))
        if foreign:
            raise DataError(
                f"{table.name} has classes that the run does not know: {', '.join(foreign)}; "
                f"it knows {', '.join(task.classes)}"
            )
        found[task.name] = texts
    return found


def _rows(
    config: EvaluateConfig, inference: Inference, labels: Mapping[str, Sequence[str | None]]
) -> tuple[NDArray[np.int64], str]:
    """The rows to score, labelled and readable, and a sentence about them."""
    known = np.array([any(texts[row] is not None for texts in labels.values()) for row in range(len(inference.table))])
    rows = inference.rows[known[inference.rows]]
    used = uses_of(read_splits(config.run))
    digests = [bytes(digest).hex() for digest in inference.images.digests[rows]]
    splits = np.array([used.get(digest, "new") for digest in digests])
    wanted = {"held-out": ("test", "new", "unused"), "all": ("train", "val", "test", "new", "unused")}
    chosen = np.isin(splits, wanted.get(config.rows, (config.rows,)))
    counts = {name: int((splits == name).sum()) for name in ("train", "val", "test", "new", "unused")}
    seen = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"
    if not chosen.any():
        raise DataError(
            f"no labelled row to score: of the {len(rows)} rows the run knows {seen}, and --rows {config.rows} "
            "leaves none; --rows all scores what it was trained on too"
        )
    return rows[
        chosen
    ], f"{int(chosen.sum())} rows ({config.rows}), of {len(rows)} that are known to the run as: {seen}"
