"""What to do about the data: which class to collect, which images are near-duplicates, which labels look wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from zoo.config import AdviseConfig, TrainConfig
from zoo.data.labels import group_codes
from zoo.errors import RunError, ZooError
from zoo.features.boundary import find_boundary
from zoo.features.digests import weights_digest
from zoo.features.extract import extract
from zoo.jobs.advice_record import NAMES, AdviceData, advice_json, labels_json, pairs_json, thumbnails
from zoo.jobs.planning import choose
from zoo.jobs.progress import Reporter
from zoo.jobs.start import Clock, start_job
from zoo.metrics.label_errors import FOLDS, Suspect, out_of_sample, require_cleanlab, suspects
from zoo.metrics.learning_curve import Curve, fit_curve
from zoo.metrics.near_duplicates import near_duplicates
from zoo.metrics.subsets import MIN_ORDERS, MIN_SIZES, measure, too_few
from zoo.model.freeze import freeze_parts
from zoo.registry.near import suggest
from zoo.report.advise_page import render_advice
from zoo.run.files import to_json, write_whole


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What the data need.

    Attributes:
        folder: where `advise.html` and `advise.json` are.
        found: what stands in `advise.json`.
    """

    folder: Path
    found: Mapping[str, Any]


def advise(data: str | Path, *, backbone: str, out: str | Path = "runs/advise", **options: Any) -> Advice:
    """Learning curves by class, near-duplicates and doubtful labels; the same as `zoo advise`.

    Args:
        data: folder, CSV or Parquet file, or the name of a data set.
        backbone: `source/model` or `source/model.tag`; it stays frozen.
        out: folder for `advise.html` and `advise.json`.
        options: fields of `zoo.config.AdviseConfig`, such as `target_recall=0.8`.

    Raises:
        ZooError: with one clear message, for everything that the caller can mend.
    """
    known = [field.name for field in fields(AdviseConfig)]
    for name in options:
        if name not in known:
            raise ZooError(f"advise has no option {name!r}{suggest(name, known)}")
    config = AdviseConfig(data=str(data), backbone=backbone, out=Path(out), **options)
    return run_advice(config, Reporter(quiet=config.quiet))


def run_advice(config: AdviseConfig, reporter: Reporter) -> Advice:
    """Compute, and write the page and the figures; what is cheap to refuse is refused first."""
    _check(config)
    data = _features(config, reporter)
    curves, refused = _curves(config, data, reporter)
    twins = near_duplicates(data.features, data.job.data.images.digests[data.rows], config.duplicates)
    wrong, left_out = _suspects(config, data, reporter)
    found = advice_json(config, data, curves, refused)
    found["duplicates"] = pairs_json(config, data, twins)
    found["labels"] = labels_json(config, data, wrong, left_out)
    page = render_advice(found, curves, thumbnails(found, data))
    try:
        config.out.mkdir(parents=True, exist_ok=True)
        write_whole(config.out / "advise.json", to_json(found))
        write_whole(config.out / "advise.html", page)
    except OSError as error:
        raise RunError(f"cannot write to {config.out}: {error.strerror or error}") from None
    return Advice(folder=config.out, found=found)


def _check(config: AdviseConfig) -> None:
    for flag, value in {"target-recall": config.target_recall, "duplicates": config.duplicates}.items():
        if not 0 < value <= 1 or (flag == "target-recall" and value == 1):
            raise ZooError(f"--{flag} must be a share between 0 and 1, not {value}")
    for flag, count, least in (("sizes", config.sizes, MIN_SIZES), ("orders", config.orders, MIN_ORDERS)):
        if count < least:
            raise ZooError(f"--{flag} must be at least {least}, not {count}: a curve of fewer says nothing")
    if config.labels:
        require_cleanlab()


def _features(config: AdviseConfig, reporter: Reporter) -> AdviceData:
    """Features of all rows of the splits, from the cache that `zoo train --freeze head` uses."""
    shared = {field.name for field in fields(TrainConfig)} & {field.name for field in fields(AdviseConfig)}
    given = {name: getattr(config, name) for name in shared - {"target"}}
    target = (config.target,) if config.target else ()
    task = tuple(f"{name}=classification" for name in target)  # classes, also where they are spelled as decimals
    own = TrainConfig(**given, target=target, task=task, freeze="head", epochs=1)
    job = start_job(own, reporter, Clock(), claimed=False)
    model, splits, images = job.model.to(job.device), job.data.splits, job.data.images
    freeze_parts(model, model.view, job.policy, "backbone.", digest=False, batchnorm=job.batchnorm)
    boundary = find_boundary(model.view, model.kind, job.policy, images.pixels(np.resize(splits.train, 3)))
    digest = weights_digest(model.backbone, boundary.behind)
    chosen = choose(job, boundary, digest)
    names = np.concatenate([np.full(len(getattr(splits, name)), name) for name in NAMES])
    rows = np.concatenate([splits.train, splits.val, splits.test])
    order = np.argsort(rows)
    rows, names = rows[order], names[order]
    with reporter.bar("computing features", "images") as progress:
        features = extract(chosen.prefix, images, rows, digest=digest, cache=job.cache, progress=progress).float()
    held = job.data.targets[job.data.tasks[0].name]
    codes = np.where(held.mask.numpy(), held.value.numpy(), -1)[rows]
    return AdviceData(job=job, features=features, rows=rows, codes=codes, splits=names)


def _curves(config: AdviseConfig, data: AdviceData, reporter: Reporter) -> tuple[dict[str, Curve], dict[str, str]]:
    """The curve of each class that has the rows for it, and why the others have none; test rows are not touched."""
    features = data.features.numpy()
    train, val = data.known("train"), data.known("val")
    refused = too_few(data.codes[train], data.codes[val], data.classes)
    judged = [code for code in range(len(data.classes)) if code not in refused]
    with reporter.bar("fitting on subsets", "fits") as progress:
        measured = measure(
            (features[train], data.codes[train]),
            (features[val], data.codes[val]),
            judged,
            sizes=config.sizes,
            orders=config.orders,
            seed=config.seed,
            alone=config.per_class,
            progress=progress,
        )
    why = {data.classes[code]: said for code, said in refused.items()}
    return {data.classes[code]: fit_curve(own, config.seed) for code, own in measured.items()}, why


def _suspects(config: AdviseConfig, data: AdviceData, reporter: Reporter) -> tuple[tuple[Suspect, ...], list[str]]:
    """Doubtful labels of training and validation rows, and classes too small to be judged."""
    if not config.labels:
        return (), []
    places = data.known("train", "val")
    counts = np.bincount(data.codes[places], minlength=len(data.classes))
    judged = np.flatnonzero(counts >= FOLDS)
    if len(judged) < 2:
        raise ZooError(f"doubtful labels need two classes of {FOLDS} rows; leave them out with --no-labels")
    places = places[np.isin(data.codes[places], judged)]
    codes = np.searchsorted(judged, data.codes[places])
    groups = group_codes(data.job.data.table, data.rows[places])
    with reporter.bar("cross-validating labels", "folds") as progress:
        features = data.features.numpy()[places]
        probabilities = out_of_sample(features, codes, groups=groups, seed=config.seed, progress=progress)
    found = tuple(
        Suspect(
            row=int(places[each.row]),
            given=int(judged[each.given]),
            suggested=int(judged[each.suggested]),
            of_given=each.of_given,
            of_suggested=each.of_suggested,
        )
        for each in suspects(codes, probabilities)
    )
    return found, [name for name, count in zip(data.classes, counts, strict=True) if count < FOLDS]
