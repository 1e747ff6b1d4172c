"""Everything before the first image goes through the network: options, table, images, backbone, heads."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from zoo.config import TrainConfig
from zoo.data.augment import Augmenter
from zoo.data.bands import wanted_bands
from zoo.data.cache import cache_limit
from zoo.data.table import Table
from zoo.disk import cache_folder
from zoo.errors import OptionError, ZooError
from zoo.group import Group, join_group
from zoo.jobs.auto import asks, named, settled
from zoo.jobs.batch import batch_rows
from zoo.jobs.course import course_of
from zoo.jobs.data import Prepared, prepare, read, with_bands
from zoo.jobs.going_on import read_parent
from zoo.jobs.job import Job
from zoo.jobs.made_images import with_made_images
from zoo.jobs.options import check_options
from zoo.jobs.progress import Reporter
from zoo.jobs.pseudo import check_pseudo
from zoo.jobs.statistics import settle
from zoo.model.adapt import adapt_input
from zoo.model.load import assemble, feature_of, strip
from zoo.model.lora import add_adapters
from zoo.model.network import FineTuneModel
from zoo.model.view import build_view
from zoo.probe import pick_device, reuse_memory
from zoo.run.artifact import claim
from zoo.specs import BackboneView, Call, Interval
from zoo.training.strategy import bound_target, programs
from zoo.training.task_weights import check_weights, parse_weights


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
    with group.in_turn():
        data, made = with_made_images(config, data, course.answers[0], reporter, keep=claimed)
    if made:
        clock.lap("synthesise")
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
    job = replace(job, batch_size=rows, found=(*made, *found))
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
