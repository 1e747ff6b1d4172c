"""The training side of a job: on what crosses the boundary where something is frozen, else through the network."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from zoo.features.boundary import Boundary
from zoo.features.choose import Decision
from zoo.features.prefix import Recipe, weights_digest
from zoo.jobs.feeding import inputs_of, standardise
from zoo.jobs.job import Fitted, Job
from zoo.jobs.planning import Plan, choose, make_plan
from zoo.specs import Phase, Timeline
from zoo.training.fitters.choose import check_fitter, fit_on_features
from zoo.training.fitters.sweep import grid_around
from zoo.training.inputs import Inputs
from zoo.training.loop import Data, Fit, Settings, Suffix, Trainer
from zoo.training.optimiser import Rates
from zoo.training.prefetch import Prefetched


def fit(job: Job) -> Fitted:
    """Plan, compute what is computed once, train, and choose how features are computed at inference."""
    started = time.perf_counter()
    check_fitter(job.model.heads, job.answers, job.config.fitter, sweep=job.config.sweep)
    with _deterministic(job.config.deterministic):
        plan = make_plan(job)
        planned = time.perf_counter()
        inputs, kept = inputs_of(job, plan)
        standardise(job, plan, kept)
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
