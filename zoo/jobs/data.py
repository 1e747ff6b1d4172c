"""The data side of a training job: table, files, splits, classes, targets, covariates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo.config import TrainConfig
from zoo.data.bad_files import BadFileDecision, apply_bad_files
from zoo.data.band_statistics import with_statistics
from zoo.data.bands import check_nodata, file_bands, pixel_type
from zoo.data.cache import make_room
from zoo.data.covariates import columns, fix_schema, missing_cells
from zoo.data.images import Images
from zoo.data.ingest import ingest
from zoo.data.label_policy import Pseudo, parse_policy
from zoo.data.labels import check_classes, encode_targets, label_holes
from zoo.data.splits import Splits, make_splits, training_view
from zoo.data.table import Table, read_table
from zoo.data.tasks import check_complete, fix_tasks
from zoo.errors import DataError, OptionError
from zoo.jobs.image_holes import refuse_needless, refuse_unknown_channels, told
from zoo.jobs.parent import Parent
from zoo.jobs.progress import Reporter
from zoo.jobs.teaching import copies, unlabelled, without_holed, without_incomplete
from zoo.metrics.chooser import Chooser, make_chooser
from zoo.run.covariates import Covariates
from zoo.run.filling import ORDER, Filling
from zoo.run.imputing import parse_imputing
from zoo.specs import (
    CovariateColumns,
    Holes,
    InputSpec,
    Target,
    Task,
    TrainView,
    parse_assignment,
    parse_kinds,
)
from zoo.training.settings import Absence


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Everything about the data that training needs, and what was done to them.

    Attributes:
        table: all rows, those with bad files included; positions elsewhere are positions in it.
        encoded: covariates float32 (N, C) of every row, or None.
        completions: the same with holes drawn, float32 (m, N, C), where imputation is multiple; else None.
        absence: covariates that training leaves out now and then, or None.
        filled: holes filled, by covariate.
        chooser: which metrics choose the best epoch.
        filling: what fills pixels and channels; it did so in `images`.
        before: the same without the images that a strategy made, which stand behind the others in all else; None where
            none were.
        normalised: which channels are normalised by the training rows, in a sentence; empty where none is.
        warnings: sentences for the report.
    """

    table: Table
    images: Images
    holes: Holes
    bad: BadFileDecision
    splits: Splits
    tasks: tuple[Task, ...]
    targets: Mapping[str, Target]
    view: TrainView
    covariates: Covariates | None
    encoded: torch.Tensor | None
    completions: torch.Tensor | None
    absence: Absence | None
    filled: Mapping[str, int]
    chooser: Chooser
    filling: Filling
    normalised: str
    warnings: tuple[str, ...]
    before: Prepared | None = None

    @property
    def labelled(self) -> int:
        """How many training rows have a label of some target."""
        return len(self.teaching)

    @property
    def teaching(self) -> torch.Tensor:
        """Positions int64 (N,) of the training rows that have a label of some target."""
        train = torch.from_numpy(self.splits.train)
        known = [target.mask[train] for target in self.targets.values()]
        return train[torch.stack([mask if mask.ndim == 1 else mask.any(dim=1) for mask in known]).any(dim=0)]


def read(config: TrainConfig, parent: Parent | None = None) -> Table:
    """The table that the options name, its targets and covariates those of `parent` where there is one."""
    roles = {"image": config.image, "targets": config.target, "covariates": config.covariate}
    table = read_table(
        config.data,
        **(parent.roles(config) if parent else roles),
        kinds=parent.kinds(config) if parent else parse_kinds(config.task),
        group=config.group,
        weight=config.weight,
        split=config.split,
        stratify=config.stratify,
    )
    return parent.fitted(table) if parent else table


def prepare(
    config: TrainConfig,
    table: Table,
    spec: InputSpec,
    cache: Path,
    reporter: Reporter,
    parent: Parent | None = None,
) -> Prepared:
    """Check and decode every file, split, fix the classes, fit imputers and encoders on the training rows.

    Of `parent` the classes, the imputer and the encoder are taken over, and the splits of images that it knows.

    Raises:
        DataError: files that cannot be read, one class only, too few rows, a class that training lacks, a metric that
            the validation rows leave undefined.
        UnknownNameError: a metric of a class that there is not.
        OptionError: an imputer that there is not.
    """
    asked = parse_imputing(config.impute)
    if spec.bands and parent is None:
        spec = replace(spec, dtype=pixel_type(table.paths, spec))
        check_nodata(spec.nodata, spec.dtype)
    with reporter.bar("reading images", "images") as progress:
        images = ingest(table.paths, spec, cache / "images", workers=config.workers, progress=progress)
    room = make_room(cache)
    refuse_needless(images, asked.calls)
    bad = _usable(config, table, images, parent.filling if parent else Filling.planned(asked.calls))
    policy = parse_policy(config.missing_labels)
    shares: dict[str, Any] = {"test": config.test_fraction, "val": config.val_fraction, "seed": config.seed}
    shares["keep_unlabelled"] = isinstance(policy, Pseudo)
    known = parent.known(images.digests) if parent else None
    splits, dropped = without_holed(table, make_splits(table, bad.usable, **shares, known=known), asked)
    splits, gone = without_incomplete(table, splits, policy)
    seen = fix_tasks(table, splits.train)
    if parent is None:
        check_complete(table, seen, splits.train)
    tasks, lacking = parent.extended(seen) if parent else (seen, ())
    if label_holes(table)[splits.val].all():
        names = " or ".join(repr(task.name) for task in tasks)
        raise DataError(
            f"no validation row has a label of {names}, and one is needed to choose the best epoch: "
            f"{splits.how}. Give --val-fraction more than 0, or label rows of the val split"
        )
    held_out = {"val": splits.val, "test": splits.test}
    warnings = (*lacking, *check_classes(table, tasks, held_out), *unlabelled(table, tasks, policy))
    used = np.concatenate([splits.train, splits.val, splits.test])
    targets = encode_targets(table, tasks, used)
    held = {name: target.take(torch.from_numpy(splits.val)) for name, target in targets.items()}
    chooser = make_chooser(config.metric, tasks, held)
    before = parent.covariates if parent else None
    schema = before.encoder.schema if before else fix_schema(table, splits.train)
    raw, said = columns(table.take(splits.train), schema) if schema else (None, ())
    refuse_unknown_channels(images, splits)
    images, normalised = (images, "") if parent else with_statistics(images, splits.train)
    view = training_view(table, splits, _observed(tasks, seen), raw, images)
    filling = parent.filling if parent else Filling.fit(asked.calls, view, config.seed)
    with reporter.bar("filling holes in images", "images") as progress:
        images = filling.apply(images, used, cache / "images", progress)
    covariates = encoded = completions = None
    filled: dict[str, int] = {}
    if schema is not None:
        call = asked.calls.get("covariates")
        beside: dict[str, Any] = {"indicator": asked.indicator, "draws": asked.multiple.m if asked.multiple else 0}
        covariates = before or Covariates.fit(schema, view, call, config.seed, **beside)
        encoded, more, filled = covariates.encode(table)
        completions = covariates.completions(table, encoded)
        said = tuple(dict.fromkeys((*said, *more)))
    else:
        refuse_unused(config.impute)
    return Prepared(
        table=table,
        images=images,
        holes=_holes(table, images, columns(table, schema)[0] if schema else None),
        bad=bad,
        splits=splits,
        tasks=tasks,
        targets=targets,
        view=view,
        covariates=covariates,
        encoded=encoded,
        completions=completions,
        absence=Absence(share=asked.dropout.p, columns=covariates.absent()) if asked.dropout and covariates else None,
        filled=filled,
        chooser=chooser,
        filling=filling,
        normalised=normalised,
        warnings=(
            *warnings,
            *chooser.said,
            *dropped,
            *gone,
            *said,
            *told(images, splits, filling),
            *copies(images, splits),
            *images.problems,
            *room,
        ),
    )


def with_bands(spec: InputSpec, config: TrainConfig, bands: Sequence[str]) -> InputSpec:
    """The input of a network that reads these bands, empty for ordinary pictures, and the value of missing pixels.

    Their type, and means that nobody knows beforehand, are found when they are read.
    """
    if not bands:
        return replace(spec, nodata=config.nodata)
    names = file_bands(config.channels, bands)
    return replace(spec, bands=tuple(bands), file_bands=names, layout=config.layout, nodata=config.nodata)


def _usable(config: TrainConfig, table: Table, images: Images, filling: Filling) -> BadFileDecision:
    """Which rows can be used: their files can be read, and holes without a value in them are filled."""
    holed = filling.unfilled(images)
    return apply_bad_files(
        table,
        images.bad | holed,
        config.bad_files,
        max_share=config.max_bad,
        max_class_share=config.max_bad_class,
        advice="fill what is missing (--impute pixels=NAME, --impute channels=NAME)" if holed else "",
    )


def _observed(tasks: tuple[Task, ...], seen: tuple[Task, ...]) -> tuple[Task, ...]:
    """The tasks with those of their classes that training has, in their order."""
    pairs = zip(tasks, seen, strict=True)
    return tuple(replace(task, classes=tuple(c for c in task.classes if c in own.classes)) for task, own in pairs)


def _holes(table: Table, images: Images, raw: CovariateColumns | None) -> Holes:
    masks = None
    if raw is not None:
        names, cells = (*raw.numeric_names, *raw.categorical_names), missing_cells(raw)
        masks = cells[:, [names.index(name) for name in table.roles.covariates]]
    return Holes(
        files=images.bad,
        pixels=images.missing_pixels,
        channels=images.missing_channels,
        covariates=masks,
        labels=label_holes(table),
    )


def refuse_unused(options: Sequence[str]) -> None:
    """Refuse answers to holes in covariates where there are none.

    Raises:
        OptionError: at the option.
    """
    for option in options:
        kind, (call, *_) = parse_assignment(option)
        if kind not in ORDER:
            raise OptionError(
                f"{call.name} is about covariates, and the run has no covariates; name columns with --covariate",
                text=option,
                column=0,
            )
