"""Everything about the options of a run that can be refused before any data are read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from zoo.config import TrainConfig
from zoo.data.augment import Steps, parse_augmentation
from zoo.data.bands import check_nodata, wanted_bands
from zoo.data.label_policy import parse_policy
from zoo.errors import ZooError
from zoo.group import started_with
from zoo.metrics.chooser import DEFAULT, split_option
from zoo.metrics.kinds import check_metric_name
from zoo.model.load import one_head
from zoo.model.lora import require_peft
from zoo.registry.lookup import HEADS, STRATEGIES
from zoo.registry.near import suggest
from zoo.run.imputing import parse_imputing
from zoo.specs import Call, FreezeSchedule, TaskKind, bind, parse_kinds, parse_options, parse_schedule
from zoo.training.fitters.choose import check_options as check_fitting
from zoo.training.optimiser import RATE_FACTORS, parse_optimiser
from zoo.training.schedule import parse_curve
from zoo.training.strategy import bound_target
from zoo.training.task_weights import parse_weights

AUTO = "auto"
"""As a strategy: one is chosen."""

DEFAULT_HEAD = "linear"
NO_VIEWS = "--views counts augmented views of each image; say --augment light too"


SEVERAL = ("imbalance", "impute", "target", "task", "covariate", "task_weight", "channels")
"""Options of which there may be several; from Python one may be given as it is."""


def named_options(function: str, known: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a function by name; one text where several may stand is a tuple of one.

    Raises:
        ZooError: an option that is not `known`; suggests close ones.
    """
    for name in options:
        if name not in known:
            raise ZooError(f"{function} has no option {name!r}{suggest(name, known)}")
    return {name: (own,) if name in SEVERAL and isinstance(own, str) else own for name, own in options.items()}


def check_options(config: TrainConfig) -> tuple[FreezeSchedule, Call, Steps]:
    """Everything about the options that needs no data; returns the schedule, the head and the augmentation.

    Raises:
        ZooError: the first thing that is wrong.
    """
    if config.backbone is None and config.start is None:
        raise ZooError(
            "say which backbone to fine-tune, as in --backbone timm/resnet50 (`zoo list` shows them), or --from RUN to "
            "go on from a finished run"
        )
    _check_numbers(config)
    _check_metric(config)
    if parse_weights(config.task_weight) and config.task_weights == "learned":
        raise ZooError("--task-weights learned finds the weights itself; leave out --task-weight, or learned")
    schedule = parse_schedule(config.freeze)
    if schedule.policy is not None and schedule.policy.lora is not None:
        require_peft()
    check_fitting(config, schedule)
    if config.batchnorm == "train" and schedule.head_alone:
        raise ZooError("--batchnorm train moves the statistics of stages that train, and --freeze head trains none")
    _check_engine(config, schedule)
    augmentation = parse_augmentation(config.augment)
    if config.views is not None and not augmentation and not config.imbalance:  # a strategy may show classes changed
        raise ZooError(NO_VIEWS)
    head = one_head(config.head or DEFAULT_HEAD)
    bind(head, HEADS.of_call(head).parameters)
    parse_imputing(config.impute)
    parse_policy(config.missing_labels)
    if config.channels:
        wanted_bands(config.channels)
    else:
        check_nodata(config.nodata, "uint8")
    if config.layout and not config.channels and config.start is None:
        raise ZooError("--layout is about .npy files of named bands; name them with --channels, or leave it out")
    for option in config.imbalance:
        _check_strategies(config, bound_target(option)[1])
    return schedule, head, augmentation


def _check_strategies(config: TrainConfig, text: str) -> None:
    for call in parse_options(text) if text.strip() not in ("", "none", AUTO) else ():
        if call.name == AUTO:
            call.fail("auto chooses strategies by itself and stands alone; leave out what it is joined with")
        bind(call, STRATEGIES.of_call(call).parameters)
    if text.strip() == AUTO and not config.cache:
        raise ZooError("--imbalance auto tries strategies on features that are computed once; leave out --no-cache")


def _check_metric(config: TrainConfig) -> None:
    """Refuse kinds of targets that there are not, and a metric that no target can have."""
    named = parse_kinds(config.task)
    if config.metric == DEFAULT:
        return
    kinds: list[TaskKind] = [each.kind for each in named.values()]
    if config.start is not None:
        kinds = list(get_args(TaskKind))  # the run says what its targets are
    elif not named or not named.keys() >= set(config.target):
        kinds.insert(0, "classification")
    check_metric_name(split_option(config.metric)[1], kinds)


def _check_engine(config: TrainConfig, schedule: FreezeSchedule) -> None:
    """Refuse what the loop cannot do with these options."""
    if schedule.head_alone and (config.compile or config.recompute):
        flag = "--compile" if config.compile else "--recompute"
        raise ZooError(f"{flag} is about the part of the backbone that trains, and --freeze head trains none")
    _check_shard(config, schedule)
    if config.recompute and config.batchnorm == "train":
        raise ZooError("--recompute computes blocks twice: the statistics of --batchnorm train would move twice")
    choice = parse_optimiser(config.optimiser)
    parse_curve(config.schedule)
    given = [config.lr] if schedule.head_alone else [config.lr, config.backbone_lr]
    if choice.call.name not in RATE_FACTORS and None in given:
        flags = "--lr" if schedule.head_alone else "--lr and --backbone-lr"
        raise ZooError(f"there are no default learning rates for --optimiser {choice.call.name}; say {flags}")
    if (config.mixup or config.cutmix) and schedule.head_alone:
        raise ZooError(
            "--mixup and --cutmix mix images, and --freeze head trains on features that are computed once for each "
            "image; let part of the backbone train, as with --freeze last(1)"
        )
    for name, value, low, high in (
        ("ema", config.ema, "more than 0", "less than 1"),
        ("layer-decay", config.layer_decay, "more than 0", "at most 1"),
        ("label-smoothing", config.label_smoothing, "at least 0", "less than 1"),
    ):
        if value is not None and not _between(value, low, high):
            raise ZooError(f"--{name} must be {low} and {high}, not {value}")
    for name, value in {"mixup": config.mixup, "cutmix": config.cutmix}.items():
        if not 0 <= value < math.inf:
            raise ZooError(f"--{name} must be at least 0, not {value}")


def _check_shard(config: TrainConfig, schedule: FreezeSchedule) -> None:
    """Refuse what cannot be divided among processes, with the reason."""
    why = {
        "has one process to divide it among; say --devices 2, or start zoo by torchrun": (
            (config.devices or 1) == 1 and started_with() == 1
        ),
        f"divides the part of the backbone that trains, and --freeze {config.freeze} trains none": schedule.head_alone,
        "divides what trains, and of lora(…) that is adapters, which are small; leave out --shard": (
            schedule.policy is not None and schedule.policy.lora is not None
        ),
        "gathers weights block by block, and --compile translates all blocks as one; leave out one of them": (
            config.compile
        ),
        "is for what outgrows a GPU, and --batch-size auto tries all of it on one; say a number": (
            config.batch_size == "auto"
        ),
    }
    for said, wrong in why.items():
        if config.shard is not None and wrong:
            raise ZooError(f"--shard {config.shard} {said}")


def _between(value: float, low: str, high: str) -> bool:
    above = value > 0 if low.startswith("more") else value >= 0
    return above and (value < 1 if high.startswith("less") else value <= 1)


def _check_numbers(config: TrainConfig) -> None:
    positive = {"epochs": config.epochs, "lr": config.lr}
    positive |= {"backbone-lr": config.backbone_lr, "workers": config.workers, "views": config.views}
    positive |= {"accumulate": config.accumulate, "clip-norm": config.clip_norm, "patience": config.patience}
    positive |= {"devices": config.devices}
    positive |= {"batch-size": 1 if config.batch_size == "auto" else config.batch_size}
    for name, value in positive.items():
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise ZooError(f"--{name} must be positive, not {value}")
    for name, part in {"test-fraction": config.test_fraction, "val-fraction": config.val_fraction}.items():
        if not 0 <= part < 1:
            raise ZooError(f"--{name} must be at least 0 and less than 1, not {part}")
    if not 0 <= config.seed < 2**32 - 1:
        raise ZooError(f"--seed must be between 0 and {2**32 - 2}, not {config.seed}")
    for name, share in {
        "weight-decay": config.weight_decay,
        "head-l2": config.head_l2,
        "warmup": config.warmup,
    }.items():
        if share is None:
            continue
        if not 0 <= share < math.inf or (name == "warmup" and share > 1):
            raise ZooError(f"--{name} must be {'between 0 and 1' if name == 'warmup' else 'at least 0'}, not {share}")
