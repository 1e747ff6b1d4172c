"""The main job: from a name and a folder of images to a fine-tuned model, its figures and a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from zoo.config import TrainConfig
from zoo.errors import ZooError
from zoo.features.choose import Decision
from zoo.group import own_rank, restarted
from zoo.jobs.data import Prepared
from zoo.jobs.fitting import fit
from zoo.jobs.job import Fitted, Job
from zoo.jobs.launch import launch, launches
from zoo.jobs.options import check_options, named_options
from zoo.jobs.outcome import save_outcome
from zoo.jobs.planning import Plan, make_plan, recipe_before
from zoo.jobs.progress import Reporter
from zoo.jobs.record import Outcome
from zoo.jobs.resume import Resumed, drop_options, finished, write_options
from zoo.jobs.start import Clock, start_job
from zoo.model.freeze import freeze_parts
from zoo.run.artifact import OPTIONS, claim, clear
from zoo.run.files import read_json
from zoo.specs import Interval


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a finished run has to say.

    Attributes:
        folder: the run folder.
        metrics: by task and split, as in `metrics.json`.
        run: what stands in `run.json`.
    """

    folder: Path
    metrics: Mapping[str, Any]
    run: Mapping[str, Any]


def train(
    data: str | Path,
    *,
    out: str | Path,
    backbone: str | None = None,
    start: str | Path | None = None,
    **options: Any,
) -> TrainResult:
    """Fine-tune a backbone on images and leave a run folder; the same as `zoo train`.

    Args:
        data: folder, CSV or Parquet file, or the name of a data set.
        out: the run folder to make.
        backbone: `source/model` or `source/model.tag`; None where `start` names a run.
        start: the folder of a finished run to go on from, `--from` on the command line.
        options: fields of `zoo.config.TrainConfig`, such as `freeze="last(1)"`, `imbalance=("class-weights",)`,
            `epochs=20`, `overwrite=True`.

    Raises:
        ZooError: with one clear message, for everything that the caller can mend.
    """
    options = checked_names("train", options)
    if options.get("find_lr"):
        raise ZooError(
            "zoo.train trains, and find_lr tests learning rates instead; call zoo.find_lr with these options"
        )
    before = None if start is None else str(start)
    config = TrainConfig(data=str(data), backbone=backbone, start=before, out=Path(out), **options)
    return run_training(config, _reporter(config.quiet))


def checked_names(function: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `function` that are fields of `TrainConfig`; one text where several may stand is a tuple of one.

    Raises:
        ZooError: there is no such option.
    """
    return named_options(function, [field.name for field in fields(TrainConfig)], options)


def resume(run: str | Path, *, quiet: bool = False) -> TrainResult:
    """Go on with a run that was interrupted; the same as `zoo train --resume`.

    The run ends with the weights that it would have had without the interruption: bit for bit on the same machine,
    with the same number of threads and the same versions, on a CPU in float32.

    Raises:
        ZooError: there is nothing to go on from, or the data have changed since.
    """
    resumed = Resumed(Path(run))
    if launches(resumed.config.devices):
        return _launched(resumed.config, quiet=quiet)
    return _trained(resumed.config, _reporter(quiet), resumed)


def run_training(config: TrainConfig, reporter: Reporter) -> TrainResult:
    """Run the main job; what is cheap to refuse is refused before anything is computed.

    Where torchrun has started its processes anew because one had ended, they go on from what was saved.
    """
    if restarted() and (config.out / OPTIONS).exists():
        return resume(config.out, quiet=config.quiet)
    with leaving_no_empty(config.out):
        if launches(config.devices):
            check_options(config)
            claim(config.out, overwrite=config.overwrite)
            clear(config.out)
            write_options(config)
            return _launched(config, quiet=config.quiet)
        return _trained(config, reporter)


@contextmanager
def leaving_no_empty(folder: Path) -> Iterator[None]:
    """No empty folder is left behind where something goes wrong, nor options of a run that never began."""
    there, begun = folder.exists(), (folder / OPTIONS).exists()
    try:
        yield
    except BaseException:
        with suppress(OSError):  # a file stands there or above it, or nothing was made; the error itself says more
            if not begun:
                drop_options(folder)
            if not there:
                folder.rmdir()
        raise


def _trained(config: TrainConfig, reporter: Reporter, resumed: Resumed | None = None) -> TrainResult:
    clock = Clock()
    job = start_job(config, reporter, clock, claimed=resumed is None, chosen=resumed.chosen if resumed else ())
    try:
        fitted = fit(job, resumed)
    except torch.OutOfMemoryError as error:
        said = str(error).splitlines()[0]
        raise ZooError(f"out of memory on {job.device}: {said}; try a smaller --batch-size") from None
    before = job.parent.decisions(job.data.tasks) if job.parent else ()
    fitted = replace(fitted, decisions=(*before, *_data_decisions(job.data), *job.found, *fitted.decisions))
    clock.seconds.update(fitted.seconds)
    metrics, run = job.group.once(lambda: _saved(job, fitted, clock))
    return TrainResult(folder=config.out, metrics=metrics, run=run)


def _saved(job: Job, fitted: Fitted, clock: Clock) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write the run folder."""
    outcome = Outcome(
        job=job,
        fitted=fitted,
        verified=_verified(fitted, len(job.intervals)),
        clock=clock.seconds,
        started=clock.started,
    )
    found = save_outcome(outcome)
    finished(job.config.out)
    return found


def explain_training(config: TrainConfig, reporter: Reporter) -> list[tuple[Interval, Plan]]:
    """How `run_training` would compute each interval of its schedule; trains nothing and makes no run folder.

    Raises:
        ZooError: as `run_training`, before it trains.
    """
    job = start_job(config, reporter, Clock(), claimed=False)
    found: list[tuple[Interval, Plan]] = []
    for number, interval in enumerate(job.intervals):
        own = replace(job, interval=number)
        freeze_parts(job.model, job.model.view, own.policy, "backbone.", digest=False, batchnorm=job.batchnorm)
        before = found[-1][1].chosen if found else None
        found.append((interval, make_plan(own, recipe=recipe_before(own, before.prefix.recipe if before else None))))
    return found


def _reporter(quiet: bool) -> Reporter:
    """Of several processes the first one speaks."""
    return Reporter(quiet=quiet or own_rank() > 0)


def _launched(config: TrainConfig, *, quiet: bool) -> TrainResult:
    """Train in several processes, which go on from what stands in the run folder, and read what came of it."""
    launch(config.out, config.devices or 1, config.device, quiet=quiet)
    metrics, run = (read_json(config.out / name) for name in ("metrics.json", "run.json"))
    return TrainResult(folder=config.out, metrics=metrics, run=run)


def _data_decisions(data: Prepared) -> tuple[Decision, ...]:
    found = [Decision(what="split", choice=f"{len(data.splits.train)} train rows", why=data.splits.how)]
    if data.bad.dropped:
        choice = f"{len(data.bad.dropped)} files dropped"
        found.append(Decision(what="bad files", choice=choice, why=data.bad.sentence))
    if data.covariates:
        filled = ", ".join(f"{name}: {count}" for name, count in data.filled.items()) or "no hole in these data"
        draws = f", {data.covariates.draws} draws of each" if data.covariates.draws else ""
        found.append(Decision(what="imputation of covariates", choice=data.covariates.imputer + draws, why=filled))
    if data.normalised:
        found.append(Decision(what="normalisation", choice="learned from training rows", why=data.normalised))
    for kind, name in data.filling.names.items():
        found.append(
            Decision(what=f"imputation of {kind}", choice=name, why=f"{data.holes.count(kind)} images lack some")
        )
    return tuple(found)


def _verified(fitted: Fitted, intervals: int) -> str:
    if not fitted.verified:
        return "nothing was frozen"
    if intervals > 1:
        return (
            f"what each of {intervals} intervals froze, {fitted.verified} tensors counted anew in each, is bit for bit "
            "what it was before that interval"
        )
    return f"{fitted.verified} frozen tensors are bit for bit what they were before training"
