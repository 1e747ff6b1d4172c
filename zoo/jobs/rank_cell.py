"""What the process of one backbone does in a ranking: its scores and costs, or a short fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from zoo.config import TrainConfig
from zoo.data.labels import group_codes
from zoo.data.splits import Splits
from zoo.errors import DataError
from zoo.features.boundary import find_boundary
from zoo.features.digests import weights_digest
from zoo.features.extract import keep
from zoo.jobs.costs import planned_costs
from zoo.jobs.feeding import inputs_of, standardise
from zoo.jobs.interval import data_of
from zoo.jobs.job import Job
from zoo.jobs.planning import choose, make_plan
from zoo.jobs.progress import Reporter
from zoo.jobs.settings import optimiser_of, rates_of, settings_of
from zoo.jobs.start import Clock, start_job
from zoo.jobs.training_part import suffix_of
from zoo.metrics.probing import enough_rows, linear_probe, make_folds, nearest_neighbours
from zoo.metrics.transfer import h_score, log_me
from zoo.model.freeze import freeze_parts
from zoo.specs import FreezePolicy, parse_schedule
from zoo.training.loop import Trainer

HELD_OUT = 0.2
"""Of the training rows, what scores a short fine-tuning."""


def score_backbone(parameters: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Scores on training rows, throughput of the frozen backbone, and predicted costs of a fine-tuning.

    Args:
        parameters: `train`, fields of `TrainConfig`; `freeze` and `epochs` of the fine-tuning; `folds`, `rows`.
        seed: of the draw of rows and of the folds.

    Raises:
        ZooError: the data or the backbone cannot be used as they are.
    """
    job = _job(parameters, "head", 1)
    rows, labels, classes = _training_rows(job, parameters["rows"], parameters["folds"], seed)
    features, speed, said = _features(job, rows)
    folds = make_folds(labels, parameters["folds"], seed, group_codes(job.data.table, rows))
    metric, names = job.config.metric, [job.data.tasks[0].classes[label] for label in classes]
    found = {
        "probe": asdict(linear_probe(features, labels, folds, metric, names)),
        "neighbours": asdict(nearest_neighbours(features, labels, folds, metric, names)),
        "log_me": log_me(features, labels),
        "h_score": h_score(features, labels),
    }
    view = job.model.view
    about = {
        "weights": view.weights,
        "input_size": list(view.input.size),
        "features": features.shape[1],
        "parameters": sum(parameter.numel() for parameter in job.model.backbone.parameters()),
        "rows": len(rows),
        "classes_left_out": [name for name in job.data.tasks[0].classes if name not in names],
    }
    del job
    return {**about, **found, **speed, **said, **_costs(parameters)}


def fine_tune(parameters: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The metric of a short fine-tuning on training rows, four fifths of them, scored on the others.

    Args:
        parameters: as of `score_backbone`; `epochs` is that of the short one.
        seed: of the division.
    """
    job = _job(parameters, parameters["freeze"], parameters["epochs"])
    rows, labels, _ = _training_rows(job, parameters["rows"], parameters["folds"], seed)
    groups = group_codes(job.data.table, rows)
    if groups is None:
        train, held = train_test_split(np.arange(len(rows)), test_size=HELD_OUT, stratify=labels, random_state=seed)
    else:
        train, held = make_folds(labels, round(1 / HELD_OUT), seed, groups)[0]
    nobody = np.empty(0, dtype=np.int64)
    splits = Splits(train=np.sort(rows[train]), val=np.sort(rows[held]), test=nobody, how="of the training rows")
    job = replace(job, data=replace(job.data, splits=splits))
    if len(job.intervals) > 1:
        raise DataError("a short fine-tuning has one interval; give --freeze a policy and no schedule")
    fit = _fit(job)
    return {"value": fit[0], "best_epoch": fit[1]}


def _fit(job: Job) -> tuple[float, int]:
    model = job.model
    frozen = freeze_parts(model, model.view, job.policy, "backbone.", batchnorm=job.batchnorm)
    plan = make_plan(job)
    inputs, kept = inputs_of(job, plan)
    standardise(job, plan, kept)
    rates = rates_of(job, cached=plan.boundary.whole)
    optimiser = None if job.policy.head_alone else optimiser_of(job)
    own = model.heads if plan.boundary.whole else model
    with suffix_of(job, plan) as suffix:
        parts = (own, model.heads, suffix, data_of(job, inputs), job.data.tasks, job.answers)
        fit = Trainer(*parts, settings_of(job, plan, rates), optimiser).fit()
    frozen.verify()
    return float(fit.best_value), int(fit.best_epoch)


def _job(parameters: Mapping[str, Any], freeze: str, epochs: int) -> Job:
    fields: dict[str, Any] = {
        name: tuple(own) if isinstance(own, list) else own for name, own in parameters["train"].items()
    }
    config = TrainConfig(out=Path("rank"), freeze=freeze, epochs=epochs, quiet=True, **fields)
    return start_job(config, Reporter(quiet=True), Clock(), claimed=False)


def _training_rows(
    job: Job, most: int | None, folds: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[int]]:
    """Training rows that are labelled and of a class with a row for every fold; their classes, counted anew; which.

    Raises:
        DataError: fewer than two classes are left.
    """
    known = job.labels >= 0
    rows, labels = job.data.splits.train[known], job.labels[known]
    enough = enough_rows(labels, folds)
    rows, labels = rows[enough], labels[enough]
    if most is not None and most < len(rows):
        drawn, _ = train_test_split(np.arange(len(rows)), train_size=most, stratify=labels, random_state=seed)
        drawn = np.sort(drawn)
        rows, labels = rows[drawn], labels[drawn]
        enough = enough_rows(labels, folds)
        rows, labels = rows[enough], labels[enough]
    classes, own = np.unique(labels, return_inverse=True)
    return rows, own.astype(np.int64), classes.tolist()


def _features(job: Job, rows: NDArray[np.int64]) -> tuple[NDArray[np.float32], dict[str, float], dict[str, Any]]:
    """Features of rows as `zoo train --freeze head` keeps them, how fast they come, and how they are computed."""
    model, images = job.model, job.data.images
    policy = parse_schedule("head").policy
    assert isinstance(policy, FreezePolicy)  # noqa: S101 - head is one
    freeze_parts(model, model.view, policy, "backbone.", digest=False)
    model.to(job.device)
    boundary = find_boundary(model.view, model.kind, policy, images.pixels(np.resize(rows, 3)))
    digest = weights_digest(model.backbone, boundary.behind)
    chosen = choose(job, boundary, digest)
    # Even where everything is kept, so that the process has needed what the backbone needs.
    chosen.prefix(images.pixels(np.resize(rows, chosen.prefix.batch)))
    kept = keep(chosen.prefix, images, rows, digest=digest, cache=job.cache)
    seconds = chosen.seconds or float("nan")
    found: NDArray[np.float32] = kept.load().float().numpy()
    said = {"prefix": str(chosen.prefix.recipe), "computed": kept.computed}
    return found, {"images_per_second": 1 / seconds, "features_seconds": kept.seconds}, said


def _costs(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Of the fine-tuning, as if nothing were kept yet."""
    job = _job(parameters, parameters["freeze"], parameters["epochs"])
    costs = [costs for _, _, costs in planned_costs(job, cold=True)]
    totals = [each.total for each in costs]
    return {
        "run_seconds": None if None in totals else sum(total or 0.0 for total in totals),
        "run_memory": max(each.memory for each in costs),
        "run_disk": sum(each.disk for each in costs),
    }
