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
from zoo.data.bands import wanted_bands
from zoo.data.cache import cache_limit
from zoo.data.table import Table
from zoo.disk import cache_folder
from zoo.errors import OptionError, ZooError
from zoo.features.choose import Decision
from zoo.group import Group, join_group, own_rank, restarted
from zoo.jobs.auto import asks, named, settled
from zoo.jobs.batch import batch_rows
from zoo.jobs.course import course_of
from zoo.jobs.data import Prepared, prepare, read, with_bands
from zoo.jobs.fitting import fit
from zoo.jobs.going_on import read_parent
from zoo.jobs.job import Fitted, Job
from zoo.jobs.launch import launch, launches
from zoo.jobs.options import check_options
from zoo.jobs.outcome import save_outcome
from zoo.jobs.planning import Plan, make_plan, recipe_before
from zoo.jobs.progress import Reporter
from zoo.jobs.pseudo import check_pseudo
from zoo.jobs.record import Outcome
from zoo.jobs.resume import Resumed, drop_options, finished, write_options
from zoo.jobs.statistics import settle
from zoo.model.adapt import adapt_input
from zoo.model.freeze import freeze_parts
from zoo.model.load import assemble, feature_of, strip
from zoo.model.lora import add_adapters
from zoo.model.network import FineTuneModel
from zoo.model.view import build_view
from zoo.probe import pick_device, reuse_memory
from zoo.registry.near import suggest
from zoo.run.artifact import OPTIONS, claim, clear
from zoo.run.files import read_json
from zoo.specs import BackboneView, Call, Interval
from zoo.training.strategy import bound_target, programs
from zoo.training.task_weights import check_weights, parse_weights


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
    known = [field.name for field in fields(TrainConfig)]
    for name in options:
        if name not in known:
            raise ZooError(f"{function} has no option {name!r}{suggest(name, known)}")
    several = ("imbalance", "impute", "target", "task", "covariate", "task_weight", "channels")
    return {name: (own,) if name in several and isinstance(own, str) else own for name, own in options.items()}


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
        if not begun:
            drop_options(folder)
        if not there:
            with suppress(OSError):  # not empty, or never made
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
        verified=_verified(fitted),
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


def start_job(
    config: TrainConfig,
    reporter: Reporter,
    clock: Clock,
    *,
    claimed: bool = True,
    chosen: Sequence[Mapping[str, Any]] = (),
) -> Job:
    """Everything before the first image goes through the network; with `--imbalance auto` strategies are chosen too.

    Args:
        config: what was asked for.
        reporter: shows what is done.
        clock: books the time.
        claimed: whether the run folder is made.
        chosen: what `auto` chose before the run was interrupted.
    """
    schedule, head, augmentation = check_options(config)
    parent = read_parent(config)
    table = read(config, parent)
    _refuse_unknown_targets(config, table)
    check_weights(parse_weights(config.task_weight), table.roles.targets, learned=config.task_weights == "learned")
    group, device = join_group(pick_device(config.device))
    if claimed and group.first:
        claim(config.out, overwrite=config.overwrite)
    cache = cache_folder()
    cache_limit(cache)
    reuse_memory()
    view = parent.model.view if parent else _view(config, head)
    intervals = schedule.intervals(view, config.epochs)
    _refuse_random(view, intervals, config)
    clock.lap("build")
    with group.in_turn():
        data = prepare(config, table, view.input, cache, reporter, parent)
    if parent is None:
        view = replace(view, input=data.images.spec)
    said = programs(named(config), [data.view.statistics(task.name) for task in data.tasks])
    _refuse_smoothing(config, data)
    check_pseudo(config, data)
    course = course_of(config, intervals, said, parent.model.heads.call if parent else head)
    if parent:
        parent.check_counted(data.tasks, data.view, course.answers[0])
        parent.check_head(course.head)
    else:
        feature_of(view, config.features, course.head)
    clock.lap("read")
    model = parent.grown(data.tasks, config.seed) if parent else _assembled(view, data, config, course.head)
    model.heads.weigh_tasks(config.task_weights == "learned")
    batchnorm = settle(config, data, model, device, reporter)
    group.copy(model.buffers())
    if batchnorm == "recalibrate":
        clock.lap("recalibrate")
    adapted = next((each.policy for each in reversed(intervals) if each.policy.lora), None)
    if adapted is not None:  # before the optimiser is built, of the last interval: those before hold part of it
        add_adapters(model, adapted, config.seed)
    job = Job(
        config=config,
        intervals=course.intervals,
        data=data,
        answered=course.answers,
        model=model,
        device=device,
        cache=cache,
        reporter=reporter,
        batchnorm=batchnorm,
        augmenter=Augmenter(augmentation, config.seed, spec=data.images.spec) if augmentation else None,
        parent=parent,
        group=group,
    )
    rows, found = batch_rows(job)
    _refuse_few_rows(min(rows, len(data.splits.train)), group)
    job = replace(job, batch_size=rows, found=found)
    if asks(config):
        job = settled(job, chosen)
        clock.lap("choose")
    return job


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


def _refuse_smoothing(config: TrainConfig, data: Prepared) -> None:
    if config.label_smoothing and all(task.kind in ("regression", "ordinal") for task in data.tasks):
        raise ZooError(
            "--label-smoothing spreads labels over classes, and no target of this run has such; leave it out"
        )


def _refuse_random(view: BackboneView, intervals: Sequence[Interval], config: TrainConfig) -> None:
    selected = intervals[-1].policy.select(view).parameters
    frozen = any(name not in selected for stage in view.stages for name in stage.parameters)
    if view.weights == "none" and frozen and not config.random_frozen:
        raise ZooError(
            f"{view.name} has random weights, and --freeze {config.freeze} would freeze them as they are; "
            "use pretrained weights, --freeze none, or say --random-frozen if that is what you want"
        )


def _refuse_few_rows(rows: int, group: Group) -> None:
    if group.size > 1 and rows < 2 * group.size:
        raise ZooError(
            f"{group.size} processes share each batch and need two rows each, and the largest batch has {rows}; "
            "use fewer --devices, or a larger --batch-size"
        )


def _reporter(quiet: bool) -> Reporter:
    """Of several processes the first one speaks."""
    return Reporter(quiet=quiet or own_rank() > 0)


def _launched(config: TrainConfig, *, quiet: bool) -> TrainResult:
    """Train in several processes, which go on from what stands in the run folder, and read what came of it."""
    launch(config.out, config.devices or 1, config.device, quiet=quiet)
    metrics, run = (read_json(config.out / name) for name in ("metrics.json", "run.json"))
    return TrainResult(folder=config.out, metrics=metrics, run=run)


def _view(config: TrainConfig, head: Call) -> BackboneView:
    """The backbone that the options name, ready for a head; random weights are a function of the seed."""
    assert config.backbone is not None  # noqa: S101 - `check_options` refuses it without --from
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # the same in every process, and in a run that goes on
        bands = wanted_bands(config.channels) if config.channels else None
        view = strip(adapt_input(build_view(config.backbone, config.weights), size=config.size, channels=bands))
    if config.crop:
        view = replace(view, input=replace(view.input, crop=config.crop))
    view = replace(view, input=with_bands(view.input, config, bands or ()))
    feature_of(view, config.features, head)
    return view


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
    if data.normalised:
        found.append(Decision(what="normalisation", choice="learned from training rows", why=data.normalised))
    for kind, name in data.filling.names.items():
        found.append(
            Decision(what=f"imputation of {kind}", choice=name, why=f"{data.holes.count(kind)} images lack some")
        )
    return tuple(found)


def _verified(fitted: Fitted) -> str:
    if not fitted.verified:
        return "nothing was frozen"
    return f"{fitted.verified} frozen tensors are bit for bit what they were before training"
