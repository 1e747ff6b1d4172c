"""The training side of a job: on what crosses the boundary where something is frozen, else through the network."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.features.boundary import Boundary
from zoo.features.choose import Decision
from zoo.features.extract import Kept, Progress, keep, prefix_parts
from zoo.features.prefix import Recipe, normalise, weights_digest
from zoo.jobs.job import Fitted, Job
from zoo.jobs.planning import Plan, behind, choose, kept_views, make_plan, plain_rows
from zoo.model.network import STATISTICS_ROWS
from zoo.specs import Phase, Timeline
from zoo.training.fitters.choose import check_fitter, fit_on_features
from zoo.training.fitters.sweep import grid_around
from zoo.training.inputs import CachedFeatures, Inputs, StoredFeatures
from zoo.training.live import LiveFeatures, Pixels
from zoo.training.loop import Data, Fit, Settings, Suffix, Trainer
from zoo.training.optimiser import Rates
from zoo.training.prefetch import Prefetched

STANDARDISE_ROWS = 512
"""At most so many training rows feature statistics are learned from where the backbone goes on training."""


def fit(job: Job) -> Fitted:
    """Plan, compute what is computed once, train, and choose how features are computed at inference."""
    started = time.perf_counter()
    check_fitter(job.model.heads, job.answers, job.config.fitter, sweep=job.config.sweep)
    with _deterministic(job.config.deterministic):
        plan = make_plan(job)
        planned = time.perf_counter()
        inputs, kept = _inputs(job, plan)
        _standardise(job, plan, kept)
        computed = time.perf_counter()
        rates = rates_of(job, cached=plan.boundary.whole)
        found, waited = _train(job, plan, inputs, rates)
        trained = time.perf_counter()
        recipe, later = _at_inference(job, plan)
    seconds = {
        "plan": planned - started,
        "features": computed - planned + time.perf_counter() - trained,
        "train": found.seconds,
    }
    rows = sum(each.computed for each in kept)
    done = Decision(
        what="rows through the frozen part",
        choice=f"{rows} computed",
        why=f"{sum(len(each.ids) for each in kept) - rows} were there",
    )
    return Fitted(
        fit=found,
        recipe=recipe,
        decisions=(
            *plan.decisions,
            *((done,) if kept else ()),
            *later,
            *_waiting(waited, found.seconds),
            *_prediction(plan, computed - planned, found.seconds),
        ),
        rates=rates,
        seconds=seconds,
        computed=rows,
        plan=_compared(plan, computed - planned, found.seconds),
        problems=tuple(dict.fromkeys(said for each in kept for said in each.problems)),
    )


@contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _inputs(job: Job, plan: Plan) -> tuple[Inputs, list[Kept]]:
    """What the loop feeds on, and what was kept for it."""
    images, device = job.data.images, job.device
    views = job.config.views if job.augmenter else None
    if plan.mode == "whole":
        last = plan.compute.channels_last
        return Prefetched(Pixels(images, device, channels_last=last, augment=job.augmenter, views=views)), []
    if plan.mode == "live":
        return Prefetched(LiveFeatures(plan.prefix, images, augment=job.augmenter, views=views)), []
    train, plain = job.data.splits.train, plain_rows(job, plan.boundary, plan.views)
    shown_views = kept_views(job, plan.views)
    total, done = len(plain) + len(shown_views) * len(train), 0
    kept = []
    with job.reporter.bar("computing features", "images") as progress:
        for view, rows in [(None, plain), *((view, train) for view in shown_views)]:
            shown = _shifted(progress, done, total)
            digest, cache = plan.digest, job.cache
            kept.append(keep(plan.prefix, images, rows, digest=digest, cache=cache, view=view, progress=shown))
            done += len(rows)
    positions = [_positions(len(job.data.table), rows) for rows in (plain, train)]
    options: dict[str, Any] = {"view_positions": positions[1], "dtype": plan.compute.dtype}
    options["seed"] = job.config.seed
    if not plan.resident:
        return Prefetched(StoredFeatures(kept[0], positions[0], device, views=kept[1:], **options)), kept
    return CachedFeatures(kept[0].load(), positions[0], device, views=[k.load() for k in kept[1:]], **options), kept


def _shifted(progress: Progress | None, start: int, total: int) -> Progress | None:
    return None if progress is None else lambda done, _: progress(start + done, total)


def _positions(rows_of_table: int, rows: NDArray[np.int64]) -> Tensor:
    positions = torch.full((rows_of_table,), -1, dtype=torch.int64)
    positions[torch.from_numpy(rows)] = torch.arange(len(rows))
    return positions


def _standardise(job: Job, plan: Plan, kept: list[Kept]) -> None:
    """Learn the features' statistics from training rows: of all where they are there, else of a sample."""
    train, standardise = job.data.splits.train, job.model.heads.standardise
    sample = train if plan.boundary.whole else train[:: math.ceil(len(train) / STANDARDISE_ROWS)]
    standardise.cpu()
    standardise.fit_parts(_features(job, plan, kept, sample))
    standardise.to(job.device)


@torch.no_grad()
def _features(job: Job, plan: Plan, kept: list[Kept], rows: NDArray[np.int64]) -> Iterator[Tensor]:
    """Features (B, …) of training rows, in parts, by the network as it is."""
    boundary, images, model = plan.boundary, job.data.images, job.model
    if plan.mode == "cached":
        held = kept[1] if plan.views else kept[0]
        at = _positions(len(job.data.table), job.data.splits.train if plan.views else plain_rows(job, boundary, None))
        for part in torch.split(at[torch.from_numpy(rows)], STATISTICS_ROWS):
            yield behind(job, boundary, plan.prefix, held.gather(part.numpy())).float()
    elif plan.mode == "live":
        for own in prefix_parts(plan.prefix, images, rows):
            yield behind(job, boundary, plan.prefix, own)
    else:
        model.eval()
        for at_ in range(0, len(rows), STATISTICS_ROWS):
            pixels = images.pixels(rows[at_ : at_ + STATISTICS_ROWS]).to(job.device)
            ready = normalise(pixels, model.view.input).to(memory_format=plan.compute.layout)
            yield model.features(ready).float().cpu()


def rates_of(job: Job, *, cached: bool) -> Rates:
    """Learning rates and penalties: what was asked for, else by the size of the data and the kind of the head."""
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


def _train(job: Job, plan: Plan, inputs: Inputs, rates: Rates) -> tuple[Fit, float | None]:
    """Train; returns how long the loop waited for data, where they are read ahead."""
    model, config = job.model, job.config
    data, settings = _data(job, inputs), _settings(job, plan, rates)
    waited = inputs.waited_seconds if isinstance(inputs, Prefetched) else None
    with job.reporter.bar("training", "images") as progress, _suffix(job, plan) as suffix:
        if plan.boundary.whole:
            grid = grid_around(rates, config.sweep_lr, config.sweep_l2) if config.sweep else None
            found: Fit = fit_on_features(
                model.heads,
                data,
                job.data.tasks,
                job.answers,
                settings,
                fitter=config.fitter,
                grid=grid,
                head_l2=config.head_l2,
                progress=progress,
            )
        else:
            found = Trainer(model, model.heads, suffix, data, job.data.tasks, job.answers, settings).fit(progress)
    return found, inputs.waited_seconds - (waited or 0.0) if isinstance(inputs, Prefetched) else None


@contextmanager
def _suffix(job: Job, plan: Plan) -> Iterator[Suffix]:
    """From what crosses the boundary to logits, while the modules before it answer from what is known."""
    model, boundary = job.model, plan.boundary
    cut = plan.mode != "whole" and boundary.cut is not None
    entered: AbstractContextManager[Any] = boundary.suffix() if cut else nullcontext()
    with entered as rest:

        def suffix(given: tuple[Tensor, ...], covariates: Tensor | None) -> dict[str, Tensor]:
            if plan.mode == "whole":
                return model.logits(given[0], covariates)
            features = rest(plan.prefix.packing.unpack(given[0])) if cut else given[0]
            logits: dict[str, Tensor] = model.heads(features, covariates)
            return logits

        yield suffix


def _data(job: Job, inputs: Inputs) -> Data:
    data = job.data
    return Data(
        inputs=inputs,
        covariates=data.encoded,
        targets=data.targets,
        train=torch.from_numpy(data.splits.train),
        val=torch.from_numpy(data.splits.val),
    )


def _settings(job: Job, plan: Plan, rates: Rates) -> Settings:
    config = job.config
    trainable = frozenset(name for name, parameter in job.model.backbone.named_parameters() if parameter.requires_grad)
    phase = Phase(name=config.freeze, start=0, stop=config.epochs, trainable=trainable)
    return Settings(
        timeline=Timeline(phases=(phase,)),
        rates=rates,
        batch_size=config.batch_size,
        metric=config.metric,
        seed=config.seed,
        autocast=plan.compute.autocast,
        device=job.device,
    )


def _at_inference(job: Job, plan: Plan) -> tuple[Recipe, tuple[Decision, ...]]:
    """How features are computed at inference: as they were where the backbone is frozen, else chosen anew."""
    if plan.boundary.whole:
        return plan.prefix.recipe, ()
    view = job.model.view
    whole = Boundary(view=view, kind=plan.boundary.kind, whole=True)
    again = choose(job, whole, weights_digest(view.module), trained=True)
    named = tuple(replace(decision, what=f"{decision.what} at inference") for decision in again.decisions)
    return again.prefix.recipe, named


def _waiting(waited: float | None, seconds: float) -> tuple[Decision, ...]:
    if waited is None:
        return ()
    share = waited / seconds if seconds else 0.0
    why = f"the loop waited {waited:.1f} s of {seconds:.1f} s for images"
    return (Decision(what="waiting for data", choice=f"{share:.0%} of the epochs", why=why),)


def _prediction(plan: Plan, features: float, train: float) -> tuple[Decision, ...]:
    taken = plan.found[0]
    if taken.features is None or taken.train is None:
        return ()
    choice = f"{taken.features:.1f} s before the first epoch, {taken.train:.1f} s of epochs"
    return (Decision(what="prediction", choice=choice, why=f"it took {features:.1f} s and {train:.1f} s"),)


def _compared(plan: Plan, features: float, train: float) -> dict[str, Any]:
    """Prediction and truth, JSON values."""
    taken = plan.found[0]
    return {
        "predicted": {"features": taken.features, "train": taken.train},
        "actual": {"features": features, "train": train},
        "alternatives": [asdict(each) for each in plan.found],
    }
