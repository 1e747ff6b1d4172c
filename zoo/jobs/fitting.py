"""The training side of a job: on what crosses the boundary where something is frozen, else through the network."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.features.boundary import Boundary
from zoo.features.choose import Decision
from zoo.features.extract import Kept
from zoo.features.prefix import Recipe, weights_digest
from zoo.jobs.feeding import inputs_of, standardise
from zoo.jobs.job import Fitted, Job
from zoo.jobs.planning import Plan, choose, make_plan
from zoo.model.freeze import Frozen, freeze_parts
from zoo.specs import Phase, Timeline
from zoo.training.fitters.choose import check_fitter, fit_on_features
from zoo.training.fitters.sweep import grid_around
from zoo.training.inputs import Inputs
from zoo.training.loop import Data, Fit, NonFiniteLossError, Settings, Suffix, Trainer
from zoo.training.optimiser import RATE_FACTORS, Rates, build_optimiser, parse_optimiser
from zoo.training.prefetch import Prefetched
from zoo.training.schedule import parse_curve

NAMED_FILES = 8
"""So many files of a step are named in a message."""


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What one interval gave.

    Attributes:
        waited: seconds for which the loop waited for data, where they are read ahead.
        features, planned: seconds before its first epoch.
    """

    job: Job
    plan: Plan
    frozen: Frozen
    fit: Fit
    rates: Rates
    kept: list[Kept]
    waited: float | None
    planned: float
    features: float


def fit(job: Job) -> Fitted:
    """Plan, compute what is computed once, and train, for each interval; choose how features are computed at inference.

    Raises:
        IntegrityError: something that an interval froze has moved when it ends.
    """
    check_fitter(job.model.heads, job.answers, job.config.fitter, sweep=job.config.sweep)
    several = len(job.intervals) > 1
    # One optimiser holds every parameter from the first step on, and goes on with its moments from phase to phase.
    alone = len(job.intervals) == 1 and job.policy.head_alone
    optimiser = None if alone else _optimiser(job)
    parts: list[_Part] = []
    compared = 0
    with _deterministic(job.config.deterministic):
        for number in range(len(job.intervals)):
            part = _interval(replace(job, interval=number), optimiser)
            compared += part.frozen.verify()
            parts.append(part)
        last = parts[-1]
        began = time.perf_counter()
        recipe, later = _at_inference(last.job, last.plan)
        closing = time.perf_counter() - began
    kept = [each for part in parts for each in part.kept]
    rows = sum(each.computed for each in kept)
    done = Decision(
        what="rows through the frozen part",
        choice=f"{rows} computed",
        why=f"{sum(len(each.ids) for each in kept) - rows} were there",
    )
    decisions = [_named(decision, part, several) for part in parts for decision in _decisions_of(part)]
    return Fitted(
        fit=_joined([part.fit for part in parts]),
        recipe=recipe,
        decisions=(*decisions, *((done,) if kept else ()), *later),
        rates=last.rates,
        seconds={
            "plan": sum(part.planned for part in parts),
            "features": sum(part.features for part in parts) + closing,
            "train": sum(part.fit.seconds for part in parts),
        },
        computed=rows,
        plan=_compared(last) if not several else {"intervals": [_compared(part) for part in parts]},
        problems=tuple(dict.fromkeys(said for each in kept for said in each.problems)),
        frozen=last.frozen,
        verified=compared,
    )


def _interval(job: Job, optimiser: torch.optim.Optimizer | None) -> _Part:
    """Freeze, plan, compute and train one interval."""
    started = time.perf_counter()
    frozen = freeze_parts(job.model, job.model.view, job.policy, "backbone.", batchnorm=job.batchnorm)
    plan = make_plan(job)
    planned = time.perf_counter()
    inputs, kept = inputs_of(job, plan)
    if job.interval == 0:  # later the heads have learned to read features by the statistics that they have
        standardise(job, plan, kept)
    computed = time.perf_counter()
    rates = rates_of(job, cached=plan.boundary.whole)
    found, waited = _train(job, plan, inputs, rates, optimiser)
    return _Part(
        job=job,
        plan=plan,
        frozen=frozen,
        fit=found,
        rates=rates,
        kept=kept,
        waited=waited,
        planned=planned - started,
        features=computed - planned,
    )


def _decisions_of(part: _Part) -> tuple[Decision, ...]:
    return (
        *part.plan.decisions,
        *_waiting(part.waited, part.fit.seconds),
        *_prediction(part.plan, part.features, part.fit.seconds),
    )


def _named(decision: Decision, part: _Part, several: bool) -> Decision:
    """The decision, with the epochs that it is about where there are several intervals."""
    if not several:
        return decision
    interval = part.job.intervals[part.job.interval]
    return replace(decision, what=f"epochs {interval.start + 1} to {interval.stop}: {decision.what}")


def _joined(fits: Sequence[Fit]) -> Fit:
    """Of several intervals the history of all and the best epoch of the last."""
    if len(fits) == 1:
        return fits[0]
    rows = sum(each.rows_per_second * each.seconds for each in fits)
    seconds = sum(each.seconds for each in fits)
    return Fit(
        history=[row for each in fits for row in each.history],
        best_epoch=fits[-1].best_epoch,
        best_value=fits[-1].best_value,
        seconds=seconds,
        rows_per_second=rows / seconds if seconds else 0.0,
    )


def _optimiser(job: Job) -> torch.optim.Optimizer:
    choice = parse_optimiser(job.config.optimiser)
    return build_optimiser(job.model, job.model.heads, rates_of(job, cached=False), choice, job.model.view)


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
    factor = RATE_FACTORS.get(parse_optimiser(config.optimiser).call.name, 1.0)
    return Rates(
        head=config.lr or factor * default,
        backbone=config.backbone_lr or factor * 1e-4,
        layer_decay=config.layer_decay,
        weight_decay=config.weight_decay,
        head_l2=prior if config.head_l2 is None else config.head_l2,
        warmup=config.warmup,
    )


def _train(
    job: Job, plan: Plan, inputs: Inputs, rates: Rates, optimiser: torch.optim.Optimizer | None
) -> tuple[Fit, float | None]:
    """Train; returns how long the loop waited for data, where they are read ahead."""
    model, config = job.model, job.config
    data, settings = _data(job, inputs), _settings(job, plan, rates)
    waited = inputs.waited_seconds if isinstance(inputs, Prefetched) else None
    with _naming_files(job), job.reporter.bar("training", "images") as progress, _suffix(job, plan) as suffix:
        if plan.boundary.whole and optimiser is None:
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
            own = model.heads if plan.boundary.whole else model
            trainer = Trainer(own, model.heads, suffix, data, job.data.tasks, job.answers, settings, optimiser)
            found = trainer.fit(progress)
    return found, inputs.waited_seconds - (waited or 0.0) if isinstance(inputs, Prefetched) else None


@contextmanager
def _naming_files(job: Job) -> Iterator[None]:
    """Where the loss of a step is not finite, the files of its rows are named."""
    try:
        yield
    except NonFiniteLossError as error:
        names = [str(job.data.table.paths[row]) for row in error.rows]
        more = f" and {len(names) - NAMED_FILES} more" if len(names) > NAMED_FILES else ""
        raise ZooError(f"{error}; the step's files: {', '.join(names[:NAMED_FILES])}{more}") from None


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
        batch_size=config.batch_size,
        metric=config.metric,
        seed=config.seed,
        autocast=plan.compute.autocast,
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


def _compared(part: _Part) -> dict[str, Any]:
    """Prediction and truth, JSON values."""
    taken = part.plan.found[0]
    return {
        "predicted": {"features": taken.features, "train": taken.train},
        "actual": {"features": part.features, "train": part.fit.seconds},
        "alternatives": [asdict(each) for each in part.plan.found],
    }
