"""The end of a training job: the model folded, held-out rows predicted and scored, the run folder written."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.data.labels import label_texts
from zoo.data.picture import picture_of
from zoo.data.splits import Splits
from zoo.features.prefix import Prefix
from zoo.jobs.data import Prepared
from zoo.jobs.job import Fitted, Job
from zoo.jobs.parent import Parent
from zoo.jobs.record import Outcome, run_json, versions
from zoo.metrics.classification import classification_metrics
from zoo.report.page import Mistake, render_report
from zoo.run.artifact import Artifact, clear, write_model
from zoo.run.files import to_json, write_whole
from zoo.run.pipeline import Pipeline, prediction_frame
from zoo.run.uses import with_inherited
from zoo.specs import InputSpec, Task
from zoo.training.ledger import centred

MISTAKES = 12


def save_outcome(outcome: Outcome) -> tuple[dict[str, Any], dict[str, Any]]:
    """Predict, score and write the run folder, `run.json` last; returns the metrics and the run."""
    began = time.perf_counter()
    job, data, out = outcome.job, outcome.job.data, outcome.job.config.out
    artifact = artifact_of(job, outcome.fitted)
    held = held_out(job, artifact, outcome.fitted.prefix)
    metrics = score(held.probabilities, held.labels, held.splits, data.tasks)
    predictions = prediction_frame(
        data.table, held.rows, held.probabilities, data.tasks, splits=held.splits, labels=held.labels
    )
    seconds = {**outcome.clock, "predict": time.perf_counter() - began}
    run = run_json(outcome, seconds)
    mistakes = _mistakes(data, held.rows, predictions, data.tasks[0])
    page = render_report(
        run, {task: splits for task, splits in metrics.items() if splits}, outcome.fitted.fit.history, mistakes
    )
    clear(out)
    write_model(out, artifact)
    write_whole(out / "metrics.json", to_json(metrics))
    write_whole(out / "history.csv", pl.DataFrame(outcome.fitted.fit.history).write_csv())
    write_whole(out / "predictions.csv", predictions.write_csv())
    write_whole(out / "splits.csv", _splits_frame(data, job.parent).write_csv())
    write_whole(out / "report.html", page)
    write_whole(out / "run.json", to_json(run))
    return metrics, run


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """Validation and test rows as a trained model sees them.

    Attributes:
        rows: int64 (N,), positions in the table.
        splits: `val` or `test`, of each row.
        labels: of each row by task, None where unknown.
        probabilities: (N, K) by task.
    """

    rows: NDArray[np.int64]
    splits: Sequence[str]
    labels: Mapping[str, Sequence[str | None]]
    probabilities: Mapping[str, Tensor]


def held_out(job: Job, artifact: Artifact, prefix: Prefix | None = None) -> HeldOut:
    """Predict the validation and test rows, as `zoo predict` would; through `prefix` where it is made already."""
    data = job.data
    # Features of a network that this run has trained serve nobody but this run.
    pipeline = Pipeline(artifact, job.device, job.cache if job.keeps_features else None, prefix)
    rows = np.concatenate([data.splits.val, data.splits.test])
    with job.reporter.bar("predicting held-out rows", "images") as progress:
        probabilities, _ = pipeline.probabilities(data.table, data.images, rows, progress)
    labels = {task.name: label_texts(data.table, task.name) for task in data.tasks}
    return HeldOut(
        rows=rows,
        splits=["val"] * len(data.splits.val) + ["test"] * len(data.splits.test),
        labels={name: [texts[row] for row in rows] for name, texts in labels.items()},
        probabilities=probabilities,
    )


def score(
    probabilities: Mapping[str, Tensor],
    labels: Mapping[str, Sequence[str | None]],
    splits: Sequence[str],
    tasks: Sequence[Task],
) -> dict[str, Any]:
    """Metrics by task and split over the rows whose label is known; a split without such a row has none."""
    found: dict[str, Any] = {}
    for task in tasks:
        found[task.name] = {}
        index = {name: position for position, name in enumerate(task.classes)}
        for split in dict.fromkeys(splits):
            chosen = [row for row, own in enumerate(splits) if own == split and labels[task.name][row] in index]
            if chosen:
                truth = torch.tensor([index[str(labels[task.name][row])] for row in chosen])
                scores = classification_metrics(probabilities[task.name][chosen], truth, task.classes)
                found[task.name][split] = scores.to_json()
    return found


def artifact_of(job: Job, fitted: Fitted) -> Artifact:
    """What is saved of a trained model, and predicts."""
    model = job.model.cpu().eval()
    covariates, imputers = job.data.covariates.save() if job.data.covariates else (None, ())
    imputers = (*imputers, *job.data.filling.save())
    return Artifact(
        model=model,
        tag=model.view.weights,
        recipe=fitted.recipe,
        **_at_inference(job, fitted),
        covariates=covariates,
        imputers=imputers,
        versions=versions(),
    )


def _at_inference(job: Job, fitted: Fitted) -> dict[str, dict[str, tuple[float, ...]]]:
    """What is added to the logits, by task, and the class prior that is in them then."""
    bias: dict[str, tuple[float, ...]] = {}
    prior: dict[str, tuple[float, ...]] = {}
    for name, answer in job.answered[-1].items():
        parts = [own for own in (answer.logit_bias, fitted.afterwards.bias.get(name)) if own]
        if parts:
            bias[name] = tuple(map(sum, zip(*parts, strict=True)))
        before = answer.log_prior or job.data.view.statistics(name).log_prior
        if len(before) < sum(len(task.classes) for task in job.data.tasks if task.name == name):
            continue  # a class that the run before knew and no training row has: nothing is known of its share
        more = fitted.afterwards.bias.get(name) or (0.0,) * len(before)
        prior[name] = tuple(centred([own + added for own, added in zip(before, more, strict=True)]))
    return {"logit_bias": bias, "log_prior": prior}


def _splits_frame(data: Prepared, parent: Parent | None) -> pl.DataFrame:
    """What each row was used for, with the digest of its file, so that a later evaluation knows what was trained on.

    Files that only the run before knows stand there too: what it was trained on, this one was.
    """
    names = _split_names(len(data.table), data.splits)
    digests = ["" if row in data.images.bad else bytes(data.images.digests[row]).hex() for row in range(len(names))]
    own = pl.DataFrame({"image": data.table.frame[data.table.roles.image], "digest": digests, "split": names})
    return with_inherited(own, parent.splits, parent.folder.resolve().name) if parent else own


def _split_names(rows: int, splits: Splits) -> list[str]:
    names = ["unused"] * rows
    for name in ("train", "val", "test"):
        for row in getattr(splits, name):
            names[row] = name
    return names


def _mistakes(data: Prepared, rows: NDArray[np.int64], frame: pl.DataFrame, task: Task) -> list[Mistake]:
    """The most confident wrong predictions among test rows, or validation rows where there is no test split."""
    split = "test" if len(data.splits.test) else "val"
    wrong = (
        frame.with_row_index("at")
        .filter(pl.col("split") == split, pl.col(task.name).is_not_null())
        .filter(pl.col(task.name) != pl.col(f"{task.name}.predicted"))
        .sort(f"{task.name}.confidence", descending=True)
        .head(MISTAKES)
    )
    pictures = data.images.pixels(rows[wrong["at"].to_numpy()]) if len(wrong) else torch.empty(0)
    return [
        Mistake(
            image=row["image"],
            true=row[task.name],
            predicted=row[f"{task.name}.predicted"],
            probability=row[f"{task.name}.confidence"],
            thumbnail=thumbnail_of(picture, data.images.spec),
        )
        for row, picture in zip(wrong.iter_rows(named=True), pictures, strict=True)
    ]


def thumbnail_of(pixels: Tensor, spec: InputSpec) -> bytes:
    """A small JPEG file of one image in raw units, (C, H, W)."""
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.fromarray(picture_of(pixels, spec).permute(1, 2, 0).contiguous().numpy())
    image.thumbnail((160, 160))
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
