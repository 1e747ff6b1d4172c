"""The end of a training job: the model folded, held-out rows predicted and scored, the run folder written."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.data.labels import label_texts
from zoo.data.picture import picture_of
from zoo.data.splits import Splits
from zoo.data.table import Table
from zoo.features.prefix import Prefix
from zoo.jobs.data import Prepared
from zoo.jobs.job import Fitted, Job
from zoo.jobs.mistakes import worst_mistakes
from zoo.jobs.parent import Parent
from zoo.jobs.pseudo import Labels, pseudo_column
from zoo.jobs.record import Outcome, run_json, versions
from zoo.metrics.kinds import report
from zoo.report.page import Mistake, render_report
from zoo.run.artifact import Artifact, clear, write_model
from zoo.run.files import to_json, write_whole
from zoo.run.pipeline import Pipeline, prediction_frame
from zoo.run.uses import with_inherited
from zoo.specs import InputSpec, Target, Task
from zoo.training.ledger import centred


def save_outcome(outcome: Outcome) -> tuple[dict[str, Any], dict[str, Any]]:
    """Predict, score and write the run folder, `run.json` last; returns the metrics and the run."""
    began = time.perf_counter()
    job, data, out = outcome.job, outcome.job.data, outcome.job.config.out
    artifact = artifact_of(job, outcome.fitted)
    held = held_out(job, artifact, outcome.fitted.prefix)
    metrics = score(held.predicted, held.targets, held.splits, data.tasks)
    predictions = prediction_frame(
        data.table,
        held.rows,
        held.predicted,
        data.tasks,
        spread=held.spread,
        splits=held.splits,
        labels=held.labels,
    )
    without = _without_covariates(job, artifact, held, outcome.fitted.prefix)
    seconds = {**outcome.clock, "predict": time.perf_counter() - began}
    run = {**run_json(outcome, seconds), **({"without_covariates": without} if without else {})}
    mistakes = [
        Mistake(**own, thumbnail=thumbnail_of(picture, data.images.spec))
        for own, picture in worst_mistakes(data, held.rows, held.predicted, held.targets)
    ]
    page = render_report(
        run, {task: splits for task, splits in metrics.items() if splits}, outcome.fitted.fit.history, mistakes
    )
    clear(out, made=data.before is not None)
    write_model(out, artifact)
    write_whole(out / "metrics.json", to_json(metrics))
    write_whole(out / "history.csv", pl.DataFrame(outcome.fitted.fit.history).write_csv())
    write_whole(out / "predictions.csv", predictions.write_csv())
    write_whole(out / "splits.csv", _splits_frame(data.before or data, job.parent, outcome.fitted.pseudo).write_csv())
    write_whole(out / "report.html", page)
    write_whole(out / "run.json", to_json(run))
    return metrics, run


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """Validation and test rows as a trained model sees them.

    Attributes:
        rows: int64 (N,), positions in the table.
        splits: `val` or `test`, of each row.
        labels: of each row by task as the table has it, None where unknown.
        targets: of the rows, by task.
        predicted, spread: by task, as `zoo.run.pipeline.Predicted` has them.
    """

    rows: NDArray[np.int64]
    splits: Sequence[str]
    labels: Mapping[str, Sequence[str | None]]
    targets: Mapping[str, Target]
    predicted: Mapping[str, Tensor]
    spread: Mapping[str, Tensor]


def held_out(job: Job, artifact: Artifact, prefix: Prefix | None = None, table: Table | None = None) -> HeldOut:
    """Predict the validation and test rows, as `zoo predict` would.

    Args:
        job: whose rows they are.
        artifact: what predicts.
        prefix: the frozen part where it is made already.
        table: whose covariates are taken, by default those of the job's own table.
    """
    data = job.data
    # Features of a network that this run has trained serve nobody but this run.
    pipeline = Pipeline(artifact, job.device, job.cache if job.keeps_features else None, prefix)
    rows = np.concatenate([data.splits.val, data.splits.test])
    with job.reporter.bar("predicting held-out rows", "images") as progress:
        found = pipeline.predictions(table or data.table, data.images, rows, progress)
    labels = {task.name: label_texts(data.table, task.name) for task in data.tasks}
    return HeldOut(
        rows=rows,
        splits=["val"] * len(data.splits.val) + ["test"] * len(data.splits.test),
        labels={name: [texts[row] for row in rows] for name, texts in labels.items()},
        targets={name: target.take(torch.from_numpy(rows)) for name, target in data.targets.items()},
        predicted=found.by_task,
        spread=found.spread,
    )


def _without_covariates(job: Job, artifact: Artifact, held: HeldOut, prefix: Prefix | None) -> dict[str, Any]:
    """Metrics by task and split of the same rows with no covariate, where training learned to do without them."""
    table = job.data.table
    if job.data.absence is None:
        return {}
    nothing = [pl.lit(None, dtype=table.frame.schema[name]).alias(name) for name in table.roles.covariates]
    bare = held_out(job, artifact, prefix, replace(table, frame=table.frame.with_columns(nothing)))
    return score(bare.predicted, held.targets, held.splits, job.data.tasks)


def score(
    predicted: Mapping[str, Tensor], targets: Mapping[str, Target], splits: Sequence[str], tasks: Sequence[Task]
) -> dict[str, Any]:
    """Metrics by task and split over the rows that have a label; a split without such a row has none.

    Args:
        predicted: of N rows, by task, as `zoo.run.pipeline.Predicted` has it.
        targets: of the same rows.
        splits: of each of them.
        tasks: in their order.
    """
    found: dict[str, Any] = {}
    for task in tasks:
        found[task.name] = {}
        for split in dict.fromkeys(splits):
            chosen = torch.tensor([row for row, own in enumerate(splits) if own == split])
            target = targets[task.name].take(chosen)
            if bool(target.mask.any()):
                found[task.name][split] = report(task, predicted[task.name][chosen], target)
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
    kinds = {task.name: task.kind for task in job.data.tasks}
    for name, answer in job.answered[-1].items():
        parts = [own for own in (answer.logit_bias, fitted.afterwards.bias.get(name)) if own]
        if parts:
            bias[name] = tuple(map(sum, zip(*parts, strict=True)))
        if kinds[name] != "classification":
            continue
        before = answer.log_prior or job.data.view.statistics(name).log_prior
        if len(before) < sum(len(task.classes) for task in job.data.tasks if task.name == name):
            continue  # a class that the run before knew and no training row has: nothing is known of its share
        more = fitted.afterwards.bias.get(name) or (0.0,) * len(before)
        prior[name] = tuple(centred([own + added for own, added in zip(before, more, strict=True)]))
    return {"logit_bias": bias, "log_prior": prior}


def _splits_frame(data: Prepared, parent: Parent | None, pseudo: Labels) -> pl.DataFrame:
    """What each row was used for, with the digest of its file, so that a later evaluation knows what was trained on.

    Rows that trained by pseudo-labels name them in a column of their own.

    Files that only the run before knows stand there too: what it was trained on, this one was.
    """
    names = _split_names(len(data.table), data.splits)
    digests = ["" if row in data.images.bad else bytes(data.images.digests[row]).hex() for row in range(len(names))]
    own = pl.DataFrame({"image": data.table.frame[data.table.roles.image], "digest": digests, "split": names})
    if pseudo:
        own = own.with_columns(pl.Series("pseudo", pseudo_column(data, pseudo), dtype=pl.String))
    return with_inherited(own, parent.splits, parent.folder.resolve().name) if parent else own


def _split_names(rows: int, splits: Splits) -> list[str]:
    names = ["unused"] * rows
    for name in ("train", "val", "test"):
        for row in getattr(splits, name):
            names[row] = name
    return names


def thumbnail_of(pixels: Tensor, spec: InputSpec) -> bytes:
    """A small JPEG file of one image in raw units, (C, H, W)."""
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.fromarray(picture_of(pixels, spec).permute(1, 2, 0).contiguous().numpy())
    image.thumbnail((160, 160))
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
