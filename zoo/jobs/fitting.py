"""The training side of a job: on cached features where the backbone is frozen, through the network where it is not."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.config import TrainConfig
from zoo.features.choose import Chosen, Decision, choose_prefix
from zoo.features.extract import BATCH, extract
from zoo.features.memory import check_memory
from zoo.features.prefix import Prefix, Recipe, weights_digest
from zoo.jobs.data import Prepared
from zoo.jobs.progress import Reporter
from zoo.model.network import STATISTICS_ROWS, FineTuneModel
from zoo.specs import FreezePolicy, Phase, Timeline
from zoo.training.inputs import CachedFeatures, Inputs, LiveFeatures, Pixels
from zoo.training.loop import Data, Fit, Settings, Suffix, Trainer
from zoo.training.optimiser import Rates
from zoo.training.strategy import Answer

STANDARDISE_ROWS = 512
"""At most so many training rows feature statistics are learned from where the backbone goes on training."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the fitting of one run starts from."""

    config: TrainConfig
    data: Prepared
    answers: Mapping[str, Answer]
    model: FineTuneModel
    device: torch.device
    cache: Path
    reporter: Reporter


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What fitting gave; the model has the best epoch's weights.

    Attributes:
        recipe: how features are computed at inference.
        rates: as used.
        computed: rows that went through the frozen backbone in this run.
    """

    fit: Fit
    recipe: Recipe
    decisions: tuple[Decision, ...]
    rates: Rates
    seconds: Mapping[str, float]
    computed: int = 0


def fit_head(job: Job) -> Fitted:
    """Train the heads on features of the frozen backbone: computed once and kept, or, without a cache, each epoch."""
    started = time.perf_counter()
    data, model, config = job.data, job.model, job.config
    digest = weights_digest(model.backbone)
    chosen = _choose(job, digest)
    heads = model.heads
    inputs: Inputs
    if config.cache:
        rows = np.sort(np.concatenate([data.splits.train, data.splits.val, data.splits.test]))
        with job.reporter.bar("computing features", "images") as progress:
            found = extract(chosen.prefix, data.images, rows, digest=digest, cache=job.cache, progress=progress)
        positions = torch.full((len(data.table),), -1, dtype=torch.int64)
        positions[torch.from_numpy(rows)] = torch.arange(len(rows))
        train = torch.split(positions[torch.from_numpy(data.splits.train)], STATISTICS_ROWS)
        heads.standardise.fit_parts(found.features[part].float() for part in train)
        inputs, computed = CachedFeatures(found.features, positions, job.device), found.computed
        why = f"{found.computed} of {len(rows)} rows computed, the others were there"
        kept = Decision(what="feature cache", choice="on", why=why)
    else:
        heads.standardise.fit_parts(_parts(chosen.prefix, job, data.splits.train))
        inputs, computed = LiveFeatures(chosen.prefix, data.images), 0
        kept = Decision(what="feature cache", choice="off", why="--no-cache: every epoch computes the features again")
    extracted = time.perf_counter() - started
    heads.to(job.device)
    rates = _rates(job, cached=True)
    fit = _train(job, heads, lambda given, covariates: heads(given[0], covariates), inputs, rates, False)
    return Fitted(
        fit=fit,
        recipe=chosen.prefix.recipe,
        decisions=(*chosen.decisions, kept),
        rates=rates,
        seconds={"features": extracted, "train": fit.seconds},
        computed=computed,
    )


def fit_whole(job: Job, policy: FreezePolicy) -> Fitted:
    """Train heads and the trainable part of the backbone through the network, from decoded images."""
    started = time.perf_counter()
    data, model = job.data, job.model
    digest = weights_digest(model.backbone)
    chosen = _choose(job, digest)
    sample = data.splits.train[:: math.ceil(len(data.splits.train) / STANDARDISE_ROWS)]
    model.heads.standardise.fit_parts(_parts(chosen.prefix, job, sample))
    recipe = chosen.prefix.recipe
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    model.to(job.device, memory_format=layout)  # type: ignore[call-overload]
    measured = time.perf_counter() - started
    rates = _rates(job, cached=False)
    inputs = Pixels(data.images, job.device, channels_last=recipe.channels_last)
    autocast = recipe.precision == "bf16"
    fit = _train(job, model, lambda given, covariates: model.logits(given[0], covariates), inputs, rates, autocast)
    started = time.perf_counter()
    again = _choose(job, weights_digest(model.backbone))
    why = f"policy {policy.text} trains part of the backbone, so every epoch goes through it"
    return Fitted(
        fit=fit,
        recipe=again.prefix.recipe,
        decisions=(
            *chosen.decisions,
            Decision(what="feature cache", choice="off", why=why),
            *(Decision(what=f"{d.what} at inference", choice=d.choice, why=d.why) for d in again.decisions),
        ),
        rates=rates,
        seconds={"features": measured + time.perf_counter() - started, "train": fit.seconds},
    )


def _rates(job: Job, *, cached: bool) -> Rates:
    config, heads, rows = job.config, job.model.heads, len(job.data.splits.train)
    default = 1e-3
    if cached and heads.one_layer:
        # One layer on fixed features bears a larger step than layers behind layers, most of all a linear one.
        default = min(1e-2, 12.8 / heads.width) if heads.linear else 3e-3
    # A Gaussian prior on the weights. Of a linear head such that logits of standardised features have a standard
    # deviation of 2: it does as well as a logistic regression whose strength was tuned (README, "The head"). Other
    # heads have no such formula: a variance of 0.1 a weight gave the lowest validation loss of a perceptron on ELPV,
    # where the linear head's prior, thirty times as strong, cost it 0.07 of its balanced accuracy.
    prior = heads.width / (4 * rows) if heads.linear else 10 / rows
    return Rates(
        head=config.lr or default,
        backbone=config.backbone_lr,
        weight_decay=config.weight_decay,
        head_l2=prior if config.head_l2 is None else config.head_l2,
        warmup=config.warmup,
    )


def _choose(job: Job, digest: str) -> Chosen:
    data = job.data
    target = data.targets[data.tasks[0].name]
    labels = torch.where(target.mask, target.value, -1).numpy()[data.splits.train]

    def compute(prefix: Prefix, rows: NDArray[np.int64]) -> Tensor:
        if not job.config.cache:
            return _live(prefix, job, rows)
        return extract(prefix, data.images, rows, digest=digest, cache=job.cache).features

    return choose_prefix(
        job.model.view,
        job.model.kind,
        data.images,
        data.splits.train,
        labels,
        device=job.device,
        compute=compute,
        memory=job.cache / "speeds",
        precision=job.config.precision,
    )


def _live(prefix: Prefix, job: Job, rows: NDArray[np.int64]) -> Tensor:
    """Features of a few rows, all at once; raises where they do not fit into memory."""
    check_memory(len(rows), prefix.shape, torch.float32)
    return torch.cat(list(_parts(prefix, job, rows)))


def _parts(prefix: Prefix, job: Job, rows: NDArray[np.int64]) -> Iterator[Tensor]:
    for at in range(0, len(rows), BATCH):
        # Cloned, because what inference mode makes cannot be saved for a backward pass.
        yield prefix(job.data.images.pixels(rows[at : at + BATCH])).float().cpu().clone()


def _train(job: Job, model: torch.nn.Module, suffix: Suffix, inputs: Inputs, rates: Rates, autocast: bool) -> Fit:
    config, data = job.config, job.data
    trainable = frozenset(name for name, parameter in job.model.backbone.named_parameters() if parameter.requires_grad)
    phase = Phase(name=config.freeze, start=0, stop=config.epochs, trainable=trainable)
    settings = Settings(
        timeline=Timeline(phases=(phase,)),
        rates=rates,
        batch_size=config.batch_size,
        metric=config.metric,
        seed=config.seed,
        autocast=autocast,
        device=job.device,
    )
    rows = Data(
        inputs=inputs,
        covariates=data.encoded,
        targets=data.targets,
        train=torch.from_numpy(data.splits.train),
        val=torch.from_numpy(data.splits.val),
    )
    trainer = Trainer(model, job.model.heads, suffix, rows, data.tasks, job.answers, settings)
    with job.reporter.bar("training", "images") as progress:
        return trainer.fit(progress)
