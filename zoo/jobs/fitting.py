"""The training side of a job: on what crosses the boundary where something is frozen, else through the network."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from zoo.features.boundary import Boundary
from zoo.features.choose import Decision
from zoo.features.digests import weights_digest
from zoo.features.prefix import Recipe
from zoo.jobs.ahead import keep_ahead, plan_ahead
from zoo.jobs.feeding import inputs_of, standardise
from zoo.jobs.interval import data_of, train_interval
from zoo.jobs.job import Fitted, Job
from zoo.jobs.moving import Watch
from zoo.jobs.parts import (
    Part,
    compared_with,
    computed_ahead,
    joined,
    named,
    outdone,
    prediction,
    trained_numbers,
    waiting,
    weighed,
)
from zoo.jobs.planning import Plan, choose, make_plan, plan_again, plan_json, recipe_before
from zoo.jobs.pseudo import Labels, label_rows, pseudo_decisions, with_labels
from zoo.jobs.resume import Checkpoints, Resumed
from zoo.jobs.settings import optimiser_of, rates_of, settings_of
from zoo.jobs.tails import begin_tail, check_tail, end_tail, put_back, tail_optimiser
from zoo.jobs.training_part import check_shard, suffix_of
from zoo.model.freeze import Frozen, freeze_parts
from zoo.model.lora import merge_adapters
from zoo.specs import Lora
from zoo.training.afterwards import Afterwards
from zoo.training.checkpoint import State
from zoo.training.fitters.choose import check_fitter
from zoo.training.inputs import Inputs
from zoo.training.loop import Trainer
from zoo.training.optimiser import Rates
from zoo.training.task_weights import learned_weights


@dataclass(frozen=True, kw_only=True)
class _Begun:
    """What an interval begins with.

    Attributes:
        state: of training where it was interrupted; None where it was not.
        plan: by which it was trained before that, JSON values.
        before: how the frozen part computed in the interval before.
        labels: pseudo-labels, where an earlier interval, or this one before it was interrupted, has given them.
    """

    state: State | None
    plan: Mapping[str, Any] | None
    before: Recipe | None
    labels: Labels | None


def fit(job: Job, resumed: Resumed | None = None) -> Fitted:
    """Plan, compute what is computed once, and train, for each interval; choose how features are computed at inference.

    Args:
        job: the run.
        resumed: what it goes on from.

    Raises:
        IntegrityError: something that an interval froze has moved when it ends.
        InterruptedRunError: the run was asked to stop; its state is saved.
    """
    check_fitter(job.model.heads, job.answers, job.config.fitter, sweep=job.config.sweep)
    check_tail(job)
    check_shard(job)
    checkpoints = Checkpoints(job, resumed=resumed is not None)
    if resumed is not None:
        resumed.check(job)
    state, around = (resumed.state, resumed.around) if resumed else (None, {})
    parts = [Part.from_json(each) for each in around.get("parts", ())]
    labels: Labels | None = around.get("pseudo")
    # One optimiser holds every parameter from the first step on, and goes on with its moments from phase to phase.
    alone = len(job.intervals) == 1 and job.policy.head_alone
    optimiser = None if alone else optimiser_of(job)
    with deterministic(job.config.deterministic):
        for number in range(len(parts), len(job.intervals)):
            own = replace(job, interval=number)
            checkpoints.around = {"parts": [asdict(part) for part in parts], "pseudo": labels}
            before = Recipe(**parts[-1].recipe) if parts and parts[-1].recipe else None
            begun = _Begun(state=state, plan=around.get("plan"), before=before, labels=labels)
            part, plan, frozen, rates, after, labels = _interval(own, optimiser, checkpoints, begun)
            parts.append(part)
            state, around = None, {}
        optimiser = None  # nothing that it remembers is asked for again, and it may be large
        began = time.perf_counter()
        lora, merged = _merge(job)
        # The processes beside the first one have nothing to predict.
        recipe, later = _at_inference(own, plan) if job.group.first else (Recipe(), ())
        closing = time.perf_counter() - began
    learned = learned_weights(job.model.heads)
    job.model.heads.weigh_tasks(False)
    computed, there = sum(part.computed for part in parts), sum(part.there for part in parts)
    done = Decision(what="rows through the frozen part", choice=f"{computed} computed", why=f"{there} were there")
    tuned = tuple(
        Decision(what=f"after training, {name}", choice=job.answered[-1][name].name, why=said)
        for name, said in after.said.items()
    )
    several = len(parts) > 1
    decisions = [named(each, job, number) for number, part in enumerate(parts) for each in part.decisions]
    return Fitted(
        fit=joined([part.fit for part in parts]),
        recipe=recipe,
        decisions=(
            *decisions,
            *merged,
            *((done,) if computed + there else ()),
            *later,
            *outdone(job, [part.fit for part in parts]),
            *tuned,
            *weighed(job, learned),
            *pseudo_decisions(job, labels or {}),
        ),
        afterwards=after,
        rates=rates,
        seconds={
            "plan": sum(part.planned for part in parts),
            "features": sum(part.features for part in parts) + closing,
            "train": sum(part.fit.seconds for part in parts),
        },
        computed=computed,
        plan=parts[0].compared if not several else {"intervals": [part.compared for part in parts]},
        problems=tuple(dict.fromkeys(said for part in parts for said in part.problems)),
        frozen=frozen,
        verified=sum(part.verified for part in parts),
        trained=tuple(part.trained for part in parts),
        lora=lora,
        prefix=plan.prefix if plan.boundary.whole and recipe == plan.prefix.recipe else None,
        task_weights=learned,
        pseudo=labels or {},
    )


def _interval(
    job: Job,
    optimiser: torch.optim.Optimizer | None,
    checkpoints: Checkpoints,
    begun: _Begun,
) -> tuple[Part, Plan, Frozen, Rates, Afterwards, Labels | None]:
    """Freeze, plan, compute and train one interval; pseudo-labels are given here where it is this one that begins them.

    Args:
        job: the run, in this interval.
        optimiser: of the whole model; None where a head is fitted on features alone.
        checkpoints: keep the state.
        begun: what it goes on from.
    """
    started = time.perf_counter()
    state, labels = begun.state, begun.labels
    put_back(job, state)
    frozen = freeze_parts(job.model, job.model.view, job.policy, "backbone.", batchnorm=job.batchnorm)
    begin_tail(job)
    plan = _planned(job, begun.plan, begun.before)
    checkpoints.around = {**checkpoints.around, "plan": plan_json(plan)}
    ready = time.perf_counter()
    earlier, ahead = keep_ahead(job, plan)
    inputs, kept = inputs_of(job, plan, earlier)
    # Later, and where a finished run goes on, the heads have learned to read features by the statistics they have.
    tail = job.intervals[job.interval].tail
    anew = (job.interval == 0 and job.parent is None) or (tail is not None and tail.head == "reset")
    if anew and state is None:
        standardise(job, plan, kept)
    computed = time.perf_counter()
    rates = rates_of(job, cached=plan.boundary.whole)
    if tail is not None:
        optimiser = tail_optimiser(job, rates)
    if labels is None and job.intervals[job.interval].pseudo:
        labels = _given_labels(job, plan, inputs, rates)
        checkpoints.around = {**checkpoints.around, "pseudo": labels}
    if labels is not None:
        job = with_labels(job, labels)
    watch = None if plan.boundary.whole and optimiser is None else Watch(job, frozen)
    trained = train_interval(job, plan, inputs, rates, optimiser, checkpoints, state, watch)
    found = trained.fit
    features = computed - ready
    part = Part(
        fit=found,
        decisions=(
            *plan.decisions,
            *computed_ahead(job, plan, ahead),
            *trained.decisions,
            *waiting(trained.waited, found.seconds),
            *prediction(plan, features, found.seconds),
            *(watch.end() if watch else ()),
        ),
        planned=ready - started,
        features=features,
        computed=sum(each.computed for each in kept),
        there=sum(len(each.ids) - each.computed for each in kept),
        problems=tuple(said for each in (*ahead, *kept) for said in each.problems),
        compared=compared_with(plan, features, found.seconds),
        verified=frozen.verify(),
        trained=trained_numbers(job, frozen, rates, found),
        recipe=asdict(plan.prefix.recipe) if plan.chosen else None,
    )
    end_tail(job)
    return part, plan, frozen, rates, trained.after, labels


def _given_labels(job: Job, plan: Plan, inputs: Inputs, rates: Rates) -> Labels:
    """Pseudo-labels by the model as it is."""
    data, settings = data_of(job, inputs), settings_of(job, plan, rates)
    with suffix_of(job, plan, translated=False) as suffix:
        trainer = Trainer(job.model, job.model.heads, suffix, data, job.data.tasks, job.answers, settings)
        return label_rows(job, trainer, kept_views=plan.views is not None)


def _planned(job: Job, kept: Mapping[str, Any] | None, before: Recipe | None) -> Plan:
    """What the first process plans, or what was planned before the run was interrupted: the same in every process."""
    if kept is not None:
        return plan_again(job, kept, "as before the run was interrupted")
    own: list[Plan] = []

    def make() -> dict[str, Any]:
        own.append(plan_ahead(job, make_plan(job, recipe=recipe_before(job, before))))
        return plan_json(own[0])

    said = job.group.once(make)
    return own[0] if own else plan_again(job, said, "as the first process planned it")


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Inside, torch uses deterministic algorithms alone where that is wanted."""
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _merge(job: Job) -> tuple[Lora | None, tuple[Decision, ...]]:
    """Merge the adapters, where there are some, so that what is saved is a plain network."""
    found = job.model.adapters
    if found is None:
        return None, ()
    moved = merge_adapters(job.model)
    choice = f"{len(found.layers)} layers, rank {found.lora.r}, {found.numbers} numbers, merged into the weights"
    return found.lora, (Decision(what="adapters", choice=choice, why=f"the logits moved by {moved:.0e} of themselves"),)


def _at_inference(job: Job, plan: Plan) -> tuple[Recipe, tuple[Decision, ...]]:
    """How features are computed at inference: as they were where the backbone is frozen, else chosen anew."""
    if plan.boundary.whole:
        return replace(plan.prefix.recipe, compiled=False), ()  # a few images would wait for the compiler
    view = job.model.view
    whole = Boundary(view=view, kind=plan.boundary.kind, whole=True)
    again = choose(job, whole, weights_digest(view.module), trained=True)
    told = tuple(replace(decision, what=f"{decision.what} at inference") for decision in again.decisions)
    return again.prefix.recipe, told
