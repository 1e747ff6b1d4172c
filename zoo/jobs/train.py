"""The main job: from a name and a folder of images to a fine-tuned model, its figures and a report."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from zoo.config import TrainConfig
from zoo.data.augment import Augmenter
from zoo.data.cache import cache_limit
from zoo.data.table import Table
from zoo.disk import cache_folder
from zoo.errors import OptionError, ZooError
from zoo.features.choose import Decision
from zoo.jobs.course import course_of
from zoo.jobs.data import Prepared, prepare, read
from zoo.jobs.fitting import fit
from zoo.jobs.job import Fitted, Job
from zoo.jobs.options import check_options
from zoo.jobs.outcome import save_outcome
from zoo.jobs.planning import Plan, make_plan
from zoo.jobs.progress import Reporter
from zoo.jobs.record import Outcome
from zoo.jobs.resume import Resumed, drop_options, finished
from zoo.jobs.statistics import settle
from zoo.model.adapt import adapt_input
from zoo.model.freeze import freeze_parts
from zoo.model.load import assemble, feature_of, strip
from zoo.model.network import FineTuneModel
from zoo.model.view import build_view
from zoo.probe import pick_device, reuse_memory
from zoo.registry.near import suggest
from zoo.run.artifact import claim
from zoo.specs import BackboneView, Call, Interval
from zoo.training.strategy import bound_target, programs


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


def train(data: str | Path, *, backbone: str, out: str | Path, **options: Any) -> TrainResult:
    """Fine-tune a backbone on images and leave a run folder; the same as `zoo train`.

    Args:
        data: folder, CSV or Parquet file, or the name of a data set.
        backbone: `source/model` or `source/model.tag`.
        out: the run folder to make.
        options: fields of `zoo.config.TrainConfig`, such as `freeze="last(1)"`, `imbalance=("class-weights",)`,
            `epochs=20`, `overwrite=True`.

    Raises:
        ZooError: with one clear message, for everything that the caller can mend.
    """
    for name in ("imbalance", "impute", "target", "covariate"):
        if isinstance(options.get(name), str):
            options[name] = (options[name],)
    known = [field.name for field in fields(TrainConfig)]
    for name in options:
        if name not in known:
            raise ZooError(f"train has no option {name!r}{suggest(name, known)}")
    config = TrainConfig(data=str(data), backbone=backbone, out=Path(out), **options)
    return run_training(config, Reporter(quiet=config.quiet))


def resume(run: str | Path, *, quiet: bool = False) -> TrainResult:
    """Go on with a run that was interrupted; the same as `zoo train --resume`.

    The run ends with the weights that it would have had without the interruption: bit for bit on the same machine,
    with the same number of threads and the same versions, on a CPU in float32.

    Raises:
        ZooError: there is nothing to go on from, or the data have changed since.
    """
    resumed = Resumed(Path(run))
    return _trained(resumed.config, Reporter(quiet=quiet), resumed)


def run_training(config: TrainConfig, reporter: Reporter) -> TrainResult:
    """Run the main job; what is cheap to refuse is refused before anything is computed."""
    with leaving_no_empty(config.out):
        return _trained(config, reporter)


@contextmanager
def leaving_no_empty(folder: Path) -> Iterator[None]:
    """No empty folder is left behind where something goes wrong."""
    there = folder.exists()
    try:
        yield
    except BaseException:
        drop_options(folder)
        if not there:
            with suppress(OSError):  # not empty, or never made
                folder.rmdir()
        raise


def _trained(config: TrainConfig, reporter: Reporter, resumed: Resumed | None = None) -> TrainResult:
    clock = Clock()
    job = _start(config, reporter, clock, claimed=resumed is None)
    try:
        fitted = fit(job, resumed)
    except torch.OutOfMemoryError as error:
        said = str(error).splitlines()[0]
        raise ZooError(f"out of memory on {job.device}: {said}; try a smaller --batch-size") from None
    fitted = replace(fitted, decisions=(*_data_decisions(job.data), *fitted.decisions))
    clock.seconds.update(fitted.seconds)
    outcome = Outcome(
        job=job,
        fitted=fitted,
        verified=_verified(fitted),
        clock=clock.seconds,
        started=clock.started,
    )
    metrics, run = save_outcome(outcome)
    finished(config.out)
    return TrainResult(folder=config.out, metrics=metrics, run=run)


def explain_training(config: TrainConfig, reporter: Reporter) -> list[tuple[Interval, Plan]]:
    """How `run_training` would compute each interval of its schedule; trains nothing and makes no run folder.

    Raises:
        ZooError: as `run_training`, before it trains.
    """
    job = _start(config, reporter, Clock(), claimed=False)
    found = []
    for number, interval in enumerate(job.intervals):
        own = replace(job, interval=number)
        freeze_parts(job.model, job.model.view, own.policy, "backbone.", digest=False, batchnorm=job.batchnorm)
        found.append((interval, make_plan(own)))
    return found


def _start(config: TrainConfig, reporter: Reporter, clock: Clock, *, claimed: bool = True) -> Job:
    """Everything before the first image goes through the network."""
    schedule, head, augmentation = check_options(config)
    table = read(config)
    _refuse_unknown_targets(config, table)
    if claimed:
        claim(config.out, overwrite=config.overwrite)
    cache = cache_folder()
    cache_limit(cache)
    device = pick_device(config.device)
    reuse_memory()
    view = strip(adapt_input(build_view(config.backbone, config.weights), size=config.size))
    if config.crop:
        view = replace(view, input=replace(view.input, crop=config.crop))
    feature_of(view, config.features, head)
    intervals = schedule.intervals(view, config.epochs)
    _refuse_random(view, intervals, config)
    clock.lap("build")
    data = prepare(config, table, view.input, cache, reporter)
    said = programs(config.imbalance, [data.view.statistics(task.name) for task in data.tasks])
    course = course_of(config, intervals, said, head)
    feature_of(view, config.features, course.head)
    clock.lap("read")
    model = _assembled(view, data, config, course.head)
    batchnorm = settle(config, data, model, device, reporter)
    if batchnorm == "recalibrate":
        clock.lap("recalibrate")
    return Job(
        config=config,
        intervals=course.intervals,
        data=data,
        answered=course.answers,
        model=model,
        device=device,
        cache=cache,
        reporter=reporter,
        batchnorm=batchnorm,
        augmenter=Augmenter(augmentation, config.seed) if augmentation else None,
    )


class Clock:
    """Seconds by part of the job."""

    def __init__(self) -> None:
        self.started = self._at = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """Book the time since the last lap under `name`."""
        now = time.perf_counter()
        self.seconds[name] = now - self._at
        self._at = now


def _refuse_unknown_targets(config: TrainConfig, table: Table) -> None:
    for option in config.imbalance:
        target, _ = bound_target(option)
        if target is not None and target not in table.roles.targets:
            targets = ", ".join(table.roles.targets)
            raise OptionError(f"no target {target!r}; the targets are {targets}", text=option, column=0)


def _refuse_random(view: BackboneView, intervals: Sequence[Interval], config: TrainConfig) -> None:
    selected = intervals[-1].policy.select(view).parameters
    frozen = any(name not in selected for stage in view.stages for name in stage.parameters)
    if view.weights == "none" and frozen and not config.random_frozen:
        raise ZooError(
            f"{view.name} has random weights, and --freeze {config.freeze} would freeze them as they are; "
            "use pretrained weights, --freeze none, or say --random-frozen if that is what you want"
        )


def _assembled(view: BackboneView, data: Prepared, config: TrainConfig, head: Call) -> FineTuneModel:
    columns = data.covariates.encoder.width if data.covariates else 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return assemble(view, data.tasks, kind=config.features, covariates=columns, head=head)


def _data_decisions(data: Prepared) -> tuple[Decision, ...]:
    found = [Decision(what="split", choice=f"{len(data.splits.train)} train rows", why=data.splits.how)]
    if data.bad.dropped:
        choice = f"{len(data.bad.dropped)} files dropped"
        found.append(Decision(what="bad files", choice=choice, why=data.bad.sentence))
    if data.covariates:
        filled = ", ".join(f"{name}: {count}" for name, count in data.filled.items()) or "no hole in these data"
        found.append(Decision(what="imputation of covariates", choice=data.covariates.imputer, why=filled))
    return tuple(found)


def _verified(fitted: Fitted) -> str:
    if not fitted.verified:
        return "nothing was frozen"
    return f"{fitted.verified} frozen tensors are bit for bit what they were before training"
