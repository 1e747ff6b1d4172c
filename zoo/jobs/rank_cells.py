"""What a ranking asks of the grid: its options checked, the backbones that they name, and a cell for each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zoo.config import ListConfig, RankConfig, TrainConfig
from zoo.errors import OptionError, UnknownNameError
from zoo.grid.rows import Cell
from zoo.jobs.choosing import choose
from zoo.jobs.keys import code_context
from zoo.jobs.options import check_options
from zoo.jobs.rank_choice import parse_memory, parse_time
from zoo.metrics.choice import check_metric
from zoo.probe import check_devices, pick_device
from zoo.registry.catalogue import catalogue
from zoo.registry.lookup import SOURCES
from zoo.specs import parse_schedule

TASK = "zoo.jobs.rank_cell"

CARRIED: tuple[str, ...] = (
    "data",
    "image",
    "target",
    "group",
    "split",
    "stratify",
    "test_fraction",
    "val_fraction",
    "size",
    "crop",
)
CARRIED += ("channels", "layout", "nodata", "impute", "batch_size", "metric", "seed", "device", "weights")
"""Options that a backbone's process gets as `zoo train` would."""


def check_ranking(config: RankConfig) -> tuple[float | None, int | None]:
    """Refuse what can be refused before anything is read; the budgets."""
    check_metric(config.metric)
    for name, least in {"folds": 2, "jobs": 1, "epochs": 1, "finetune": 0, "batch_size": 1}.items():
        if getattr(config, name) < least:
            raise OptionError(f"--{name.replace('_', '-')} must be at least {least}, not {getattr(config, name)}")
    if config.rows is not None and config.rows < 2 * config.folds:
        raise OptionError(f"--rows must be at least twice --folds, {2 * config.folds}, not {config.rows}")
    if not config.seconds > 0:
        raise OptionError(f"--seconds must be positive, not {config.seconds}")
    check_devices(config.devices, pick_device(config.device))
    schedule = parse_schedule(config.freeze)
    if config.finetune and (schedule.head_alone or schedule.policy is None):
        raise OptionError(
            "--finetune trains part of the backbone for a short time; say which with --freeze, as in "
            '--freeze "last(1)": with the head alone the cross-validated probe says it all'
        )
    check_options(train_config(config, "source/model"))
    budget = None if config.budget is None else parse_time(config.budget)
    return budget, None if config.memory is None else parse_memory(config.memory)


def train_config(config: RankConfig, name: str) -> TrainConfig:
    """The fine-tuning that is ranked for."""
    carried: dict[str, Any] = {field: getattr(config, field) for field in CARRIED}
    carried["task"] = _classes(config)
    return TrainConfig(
        backbone=name,
        out=config.out,
        freeze=config.freeze,
        epochs=config.epochs,
        random_frozen=config.weights == "none",
        **carried,
    )


def _classes(config: RankConfig) -> tuple[str, ...]:
    """Targets are classes here, also where they are spelled as decimals."""
    return tuple(f"{name}=classification" for name in config.target)


def backbone_names(config: RankConfig) -> list[str]:
    """Names of the backbones, with a tag where the pattern names one, or --on-disk leaves out the first one.

    Raises:
        UnknownNameError: a pattern that no backbone matches, or none whose weights lie on this disk.
    """
    whole = {row.name: row.entry.weights for row in catalogue().rows}
    names: list[str] = []
    for pattern in config.backbones:
        rows = choose(ListConfig(pattern=(pattern,), on_disk=config.on_disk)).rows
        if pattern in whole:  # a name means this backbone, and not each whose name begins so
            rows = tuple(row for row in rows if row.name == pattern)
        if not rows:
            raise UnknownNameError(f"no weights of {pattern} lie on this disk; leave out --on-disk to fetch them")
        for row in rows:
            weights = row.entry.weights
            if config.on_disk:
                names.append(row.name if weights[0] == whole[row.name][0] else f"{row.name}.{weights[0].tag}")
            elif weights == whole[row.name] and not pattern.lower().startswith(f"{row.name}.".lower()):
                names.append(row.name)
            else:
                names += [f"{row.name}.{each.tag}" for each in weights]
    return list(dict.fromkeys(names))


def rank_cell(config: RankConfig, name: str, digest: str, task: str, epochs: int | None = None) -> Cell:
    """What a process of the grid does with one backbone: `score_backbone` or `fine_tune`."""
    train = {field: getattr(config, field) for field in CARRIED} | {"task": list(_classes(config))}
    # Relative to where this is run, which is no part of what comes out.
    train["data"] = str(Path(config.data).resolve()) if Path(config.data).exists() else config.data
    train |= {"backbone": name, "random_frozen": config.weights == "none"}
    parameters = {
        "train": json.loads(json.dumps(train)),
        "data": digest,
        "folds": config.folds,
        "rows": config.rows,
        "freeze": config.freeze,
        "epochs": epochs or config.epochs,
    }
    context = code_context([SOURCES.home(name.rpartition("/")[0])])
    return Cell(task=f"{TASK}:{task}", parameters=parameters, seed=config.seed, context=context)
