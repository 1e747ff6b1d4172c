"""What trains when, at which rate: the intervals of a freeze schedule on one model, found as training finds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from zoo.config import TrainConfig
from zoo.jobs.settings import learning_rates
from zoo.jobs.statistics import batchnorm_mode
from zoo.model.batchnorm import BatchNormMode, batch_norms
from zoo.model.freeze import freeze_parts
from zoo.model.network import FineTuneModel
from zoo.specs import Interval, Lora, Stage, adapter_size
from zoo.training.optimiser import Rates, begin_phase, build_optimiser, parse_optimiser


@dataclass(frozen=True, kw_only=True, slots=True)
class StageInterval:
    """One stage in one interval.

    Attributes:
        name: of the stage.
        parameters, trainable: how many numbers.
        lowest_rate, highest_rate: learning rates of what trains, None where nothing does; one rate unless
            --layer-decay gives each block its own.
        norms, moving: how many BatchNorms have running statistics, and of how many those follow the batches.
    """

    name: str
    parameters: int
    trainable: int
    lowest_rate: float | None
    highest_rate: float | None
    norms: int
    moving: int


@dataclass(frozen=True, kw_only=True, slots=True)
class IntervalInfo:
    """One interval of a run.

    Attributes:
        policy: what trains.
        first, last: epochs, counted from 1, both included.
        head_rate: learning rate of the head. Rates are full ones; --schedule and --warmup change them by step.
        batchnorm: the mode that the run takes.
        parameters, trainable: of all stages; the head, which always trains, not among them.
        stages: in order.
    """

    policy: str
    first: int
    last: int
    head_rate: float
    batchnorm: BatchNormMode
    parameters: int
    trainable: int
    stages: tuple[StageInterval, ...]


def timeline(model: FineTuneModel, intervals: Sequence[Interval], config: TrainConfig) -> tuple[IntervalInfo, ...]:
    """Freeze `model` for one interval after the other and read off what trains; the meta device will do.

    Raises:
        ZooError: BatchNorm is to be recalibrated, and there is none.
    """
    adapted = any(interval.policy.lora for interval in intervals)
    mode, choice, optimiser, found = batchnorm_mode(config, model.view), parse_optimiser(config.optimiser), None, []
    for interval in intervals:
        freeze_parts(model, model.view, interval.policy, "backbone.", digest=False, batchnorm=mode)
        model.train()
        head, backbone = learning_rates(
            config, model.heads, cached=not interval.policy.select(model.view).parameters, adapted=adapted
        )
        rates = Rates(
            head=head,
            backbone=backbone,
            layer_decay=config.layer_decay,
            weight_decay=config.weight_decay,
            head_l2=config.head_l2 or 0.0,  # part of the loss, which is not computed here
            warmup=config.warmup,
        )
        optimiser = optimiser or build_optimiser(model, model.heads, rates, choice, model.view)
        begin_phase(optimiser, rates, interval.rate)
        lr = {id(own): float(group["lr"]) for group in optimiser.param_groups for own in group["params"]}
        lora = interval.policy.lora
        stages = tuple(_stage(model.backbone, stage, lr, lora) for stage in model.view.stages)
        found.append(
            IntervalInfo(
                policy=interval.policy.text,
                first=interval.start + 1,
                last=interval.stop,
                head_rate=interval.rate * head,
                batchnorm=mode,
                parameters=sum(stage.parameters for stage in stages),
                trainable=sum(stage.trainable for stage in stages),
                stages=stages,
            )
        )
    return tuple(found)


def _stage(backbone: nn.Module, stage: Stage, lr: dict[int, float], lora: Lora | None) -> StageInterval:
    parameters = dict(backbone.named_parameters())
    own = [parameters[name] for name in stage.parameters]
    training = [each for each in own if each.requires_grad]
    rates = [lr[id(each)] for each in training]
    norms = [layer for path, layer in batch_norms(backbone).items() if _within(path, stage)]
    return StageInterval(
        name=stage.name,
        parameters=sum(each.numel() for each in own),
        # Adapters are not put in here: what may take one trains as many numbers as its matrices have.
        trainable=sum(adapter_size(each, lora.r) if lora else each.numel() for each in training),
        lowest_rate=min(rates, default=None),
        highest_rate=max(rates, default=None),
        norms=len(norms),
        moving=sum(layer.training for layer in norms),
    )


def _within(path: str, stage: Stage) -> bool:
    return any(path == module or path.startswith(f"{module}.") for module in stage.modules)
