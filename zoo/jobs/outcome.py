"""The end of a training job: the model folded, held-out rows predicted and scored, the run folder written."""

from __future__ import annotations

import datetime
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.data.labels import label_texts
from zoo.data.splits import Splits
from zoo.jobs.data import Prepared, data_json
from zoo.jobs.fitting import Fitted, Job
from zoo.metrics.classification import classification_metrics
from zoo.model.freeze import Frozen
from zoo.probe import device_name
from zoo.report.page import Mistake, render_report
from zoo.run.artifact import FORMAT, Artifact, clear, write_model
from zoo.run.files import to_json, write_whole
from zoo.run.pipeline import Pipeline, prediction_frame
from zoo.specs import Task

LIBRARIES = ("backbone-zoo", "torch", "torchvision", "timm", "numpy", "pillow", "safetensors", "scikit-learn")
MISTAKES = 12


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Everything that a finished training has to put on disk."""

    job: Job
    fitted: Fitted
    frozen: Frozen
    verified: str
    clock: Mapping[str, float]
    started: float


def save_outcome(outcome: Outcome) -> tuple[dict[str, Any], dict[str, Any]]:
    """Predict, score and write the run folder, `run.json` last; returns the metrics and the run."""
    began = time.perf_counter()
    job, data, out = outcome.job, outcome.job.data, outcome.job.config.out
    artifact = _artifact(outcome)
    pipeline = Pipeline(artifact, job.device, job.cache)
    rows = np.concatenate([data.splits.val, data.splits.test])
    with job.reporter.bar("predicting held-out rows", "images") as progress:
        probabilities, _ = pipeline.probabilities(data.table, data.images, rows, progress)
    splits = ["val"] * len(data.splits.val) + ["test"] * len(data.splits.test)
    labels = {task.name: label_texts(data.table, task.name) for task in data.tasks}
    held = {name: [texts[row] for row in rows] for name, texts in labels.items()}
    metrics = score(probabilities, held, splits, data.tasks)
    predictions = prediction_frame(data.table, rows, probabilities, data.tasks, splits=splits, labels=held)
    seconds = {**outcome.clock, "predict": time.perf_counter() - began}
    run = _run_json(outcome, seconds)
    mistakes = _mistakes(data, rows, predictions, data.tasks[0])
    page = render_report(
        run, {task: splits for task, splits in metrics.items() if splits}, outcome.fitted.fit.history, mistakes
    )
    clear(out)
    write_model(out, artifact)
    write_whole(out / "metrics.json", to_json(metrics))
    write_whole(out / "history.csv", pl.DataFrame(outcome.fitted.fit.history).write_csv())
    write_whole(out / "predictions.csv", predictions.write_csv())
    write_whole(out / "splits.csv", _splits_frame(data).write_csv())
    write_whole(out / "report.html", page)
    write_whole(out / "run.json", to_json(run))
    return metrics, run


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


def _artifact(outcome: Outcome) -> Artifact:
    job = outcome.job
    model = job.model.cpu().eval()
    model.heads.fold()
    covariates, imputers = job.data.covariates.save() if job.data.covariates else (None, ())
    return Artifact(
        model=model,
        tag=model.view.weights,
        recipe=outcome.fitted.recipe,
        logit_bias={name: answer.logit_bias for name, answer in job.answers.items() if answer.logit_bias},
        covariates=covariates,
        imputers=imputers,
        versions=versions(),
    )


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that a result depends on."""
    import platform

    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed as a distribution"
    return found


def _splits_frame(data: Prepared) -> pl.DataFrame:
    """What each row was used for, with the digest of its file, so that a later evaluation knows what was trained on."""
    names = _split_names(len(data.table), data.splits)
    digests = ["" if row in data.images.bad else bytes(data.images.digests[row]).hex() for row in range(len(names))]
    return pl.DataFrame({"image": data.table.frame[data.table.roles.image], "digest": digests, "split": names})


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
            thumbnail=_jpeg(picture),
        )
        for row, picture in zip(wrong.iter_rows(named=True), pictures, strict=True)
    ]


def _jpeg(pixels: Tensor) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    image.thumbnail((160, 160))
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _run_json(outcome: Outcome, seconds: Mapping[str, float]) -> dict[str, Any]:
    job, fitted = outcome.job, outcome.fitted
    config = {name: str(value) if name == "out" else value for name, value in asdict(job.config).items()}
    total = time.perf_counter() - outcome.started
    return {
        "format": FORMAT,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": {name: round(value, 3) for name, value in {**seconds, "total": total}.items()},
        "versions": versions(),
        "machine": _machine(job.device),
        "command": config,
        "backbone": _backbone_json(outcome),
        "data": data_json(job.config, job.data),
        "freeze": {
            "policy": outcome.frozen.policy,
            "trainable_stages": list(outcome.frozen.stages),
            "trainable_parameters": _count(job, outcome.frozen.trainable),
            "frozen_parameters": _count(job, outcome.frozen.frozen),
            "verified": outcome.verified,
        },
        "decisions": [asdict(decision) for decision in fitted.decisions],
        "imbalance": _imbalance_json(job),
        "imputation": [{"kind": "covariates", "imputer": job.data.covariates.imputer, "filled": dict(job.data.filled)}]
        if job.data.covariates
        else [],
        "training": {
            "epochs": job.config.epochs,
            "best_epoch": fitted.fit.best_epoch,
            "metric": job.config.metric,
            "best_value": fitted.fit.best_value,
            "optimiser": "AdamW",
            "schedule": f"warm-up over {job.config.warmup:.0%} of the steps, then cosine to 0",
            "learning_rate": fitted.rates.head,
            "backbone_learning_rate": fitted.rates.backbone if outcome.frozen.stages else None,
            "weight_decay": fitted.rates.weight_decay,
            "head_l2": fitted.rates.head_l2,
            "batch_size": job.config.batch_size,
            "rows_per_second": round(fitted.fit.rows_per_second, 1),
        },
    }


def _count(job: Job, names: Sequence[str]) -> int:
    sizes = {name: parameter.numel() for name, parameter in job.model.named_parameters()}
    return sum(sizes[name] for name in names)


def _machine(device: torch.device) -> dict[str, Any]:
    return {"device": device.type, "name": device_name(device), "threads": torch.get_num_threads()}


def _backbone_json(outcome: Outcome) -> dict[str, Any]:
    model, frozen = outcome.job.model, set(outcome.frozen.frozen)
    view = model.view
    sizes = {name: parameter.numel() for name, parameter in model.backbone.named_parameters()}
    return {
        "name": view.name,
        "tag": view.weights,
        "licence": view.licence,
        "parameters": sum(sizes.values()),
        "input": {name: getattr(view.input, name) for name in view.input.__slots__},
        "feature": {"name": model.kind, "width": model.heads.width},
        "head": str(model.heads.call),
        "notes": list(view.notes),
        "stages": [
            {
                "name": stage.name,
                "role": stage.role,
                "parameters": sum(sizes[name] for name in stage.parameters),
                "trainable": sum(sizes[name] for name in stage.parameters if f"backbone.{name}" not in frozen),
            }
            for stage in view.stages
        ],
    }


def _imbalance_json(job: Job) -> list[dict[str, Any]]:
    found = []
    for task in job.data.tasks:
        answer = job.answers[task.name]
        if answer.strategies:
            named = {
                key: dict(zip(task.classes, values, strict=True)) if values else None
                for key, values in (("element_weights", answer.element_weights), ("logit_bias", answer.logit_bias))
            }
            strategy = "+".join(answer.strategies)
            found.append({"target": task.name, "strategy": strategy, "corrected": answer.corrected, **named})
    return found
