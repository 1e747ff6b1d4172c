"""From a run's options to what the loop is told: learning rates, optimiser, settings."""

from __future__ import annotations

import torch

from zoo.config import TrainConfig
from zoo.jobs.job import Job
from zoo.jobs.planning import Plan
from zoo.model.network import TaskHeads
from zoo.specs import Phase, Timeline
from zoo.training.optimiser import RATE_FACTORS, Rates, build_optimiser, parse_optimiser
from zoo.training.schedule import parse_curve
from zoo.training.settings import Settings
from zoo.training.task_weights import parse_weights


def learning_rates(config: TrainConfig, heads: TaskHeads, *, cached: bool, adapted: bool) -> tuple[float, float]:
    """Learning rates of the heads and of the backbone: what was asked for, else by optimiser and kind of the head.

    Args:
        config: what was asked for.
        heads: of the model.
        cached: whether they train alone, on fixed features.
        adapted: whether the backbone has adapters, and they train instead of its weights.
    """
    default = 1e-3
    if cached and heads.one_layer:
        # One layer on fixed features bears a larger step than layers behind layers, most of all a linear one.
        default = min(1e-2, 12.8 / heads.width) if heads.linear else 3e-3
        if any(task.kind == "regression" for task in heads.tasks):
            default = min(default, 3e-3)  # the squares of a few large errors make steps noisy
    factor = RATE_FACTORS.get(parse_optimiser(config.optimiser).call.name, 1.0)
    # Adapters begin at zero and bear about ten times the rate that all weights do (Schulman 2025, "LoRA Without
    # Regret"); with the usual 2e-4 to 1e-3 of language models this is the upper end.
    return config.lr or factor * default, config.backbone_lr or factor * (1e-3 if adapted else 1e-4)


def rates_of(job: Job, *, cached: bool) -> Rates:
    """Learning rates and penalties: what was asked for, else by the size of the data and the kind of the head."""
    config, heads, rows = job.config, job.model.heads, job.data.labelled
    # A Gaussian prior on the weights. Of a linear head such that logits of standardised features have a standard
    # deviation of 2: it does as well as a logistic regression whose strength was tuned (README, "The head"). Other
    # heads have no such formula: a variance of 0.1 a weight gave the lowest validation loss of a perceptron on ELPV,
    # where the linear head's prior, thirty times as strong, cost it 0.07 of its balanced accuracy.
    prior = heads.width / (4 * rows) if heads.linear else 10 / rows
    head, backbone = learning_rates(config, heads, cached=cached, adapted=job.model.adapters is not None)
    return Rates(
        head=head,
        backbone=backbone,
        layer_decay=config.layer_decay,
        weight_decay=config.weight_decay,
        head_l2=prior if config.head_l2 is None else config.head_l2,
        warmup=config.warmup,
    )


def optimiser_of(job: Job) -> torch.optim.Optimizer:
    """The optimiser over every parameter of the run's model."""
    choice = parse_optimiser(job.config.optimiser)
    return build_optimiser(job.model, job.model.heads, rates_of(job, cached=False), choice, job.model.view)


def settings_of(job: Job, plan: Plan, rates: Rates) -> Settings:
    """How the loop runs the interval that is under way."""
    config = job.config
    phases = [
        Phase(
            name=each.policy.text,
            start=each.start,
            stop=each.stop,
            trainable=each.policy.select(job.model.view).parameters,
            rate=each.rate,
            restart=each.restart,
        )
        for each in job.intervals
    ]
    return Settings(
        timeline=Timeline(phases=tuple(phases)),
        phase=job.interval,
        rates=rates,
        batch_size=job.batch_size,
        metric=config.metric,
        seed=config.seed,
        autocast=plan.compute.dtype if plan.compute.autocast else None,
        device=job.device,
        optimiser=parse_optimiser(config.optimiser),
        curve=parse_curve(config.schedule),
        accumulate=config.accumulate,
        clip_norm=config.clip_norm,
        ema=config.ema,
        smoothing=config.label_smoothing,
        mixup=config.mixup if plan.mode == "whole" else 0.0,
        cutmix=config.cutmix if plan.mode == "whole" else 0.0,
        patience=config.patience,
        task_weights=parse_weights(config.task_weight),
        group=job.group,
    )
