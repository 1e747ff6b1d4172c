"""The training side of a job: on what crosses the boundary where something is frozen, else through the network."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from zoo.errors import ZooError
from zoo.features.boundary import Boundary
from zoo.features.choose import Decision
from zoo.features.extract import Kept
from zoo.features.prefix import Recipe, weights_digest
from zoo.group import ALONE, naming_peers
from zoo.jobs.ahead import keep_ahead, plan_ahead
from zoo.jobs.drawing import drawn
from zoo.jobs.feeding import inputs_of, standardise
from zoo.jobs.job import Fitted, Job
from zoo.jobs.moving import Watch
from zoo.jobs.planning import Plan, choose, make_plan, plan_again, plan_json, recipe_before
from zoo.jobs.pseudo import Labels, label_rows, pseudo_decisions, with_labels
from zoo.jobs.resume import Checkpoints, Resumed
from zoo.jobs.settings import optimiser_of, rates_of, settings_of
from zoo.jobs.tails import begin_tail, check_tail, end_tail, put_back, tail_optimiser
from zoo.jobs.training_part import check_shard, suffix_of, training_part
from zoo.model.freeze import Frozen, freeze_parts
from zoo.model.lora import merge_adapters
from zoo.specs import Lora
from zoo.training.afterwards import Afterwards, finish
from zoo.training.checkpoint import State, restore
from zoo.training.fitters.choose import check_fitter, fit_on_features
from zoo.training.fitters.record import HeadFit
from zoo.training.fitters.sweep import grid_around
from zoo.training.inputs import Inputs
from zoo.training.loop import Data, Fit, NonFiniteLossError, Trainer
from zoo.training.optimiser import Rates
from zoo.training.prefetch import Prefetched
from zoo.training.task_weights import describe, learned_weights, parse_weights

NAMED_FILES = 8
"""So many files of a step are named in a message."""


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What one interval gave; all of it JSON values in the end, because an interrupted run keeps those that are over.

    Attributes:
        fit: what training gave.
        decisions: that it was computed by.
        planned, features: seconds before its first epoch.
        computed, there: rows that went through the frozen part, and rows that had before.
        problems: sentences about the cache.
        compared: prediction and truth.
        verified: frozen tensors that were compared with what they were.
        trained: what trained and at which rates, for the record.
        recipe: how the frozen part computed; None where there was none.
    """

    fit: Fit
    decisions: tuple[Decision, ...]
    planned: float
    features: float
    computed: int
    there: int
    problems: tuple[str, ...]
    compared: Mapping[str, Any]
    verified: int
    trained: Mapping[str, Any]
    recipe: Mapping[str, Any] | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> _Part:
        """From `asdict` through JSON."""
        decisions = tuple(Decision(**each) for each in values["decisions"])
        problems = tuple(values["problems"])
        return cls(**{**values, "fit": Fit(**values["fit"]), "decisions": decisions, "problems": problems})


@dataclass(frozen=True, kw_only=True)
class _Trained:
    """What the training of one interval gave.

    Attributes:
        fit: history and best epoch.
        waited: seconds that the loop waited for data, where they are read ahead.
        after: what strategies did to the trained model.
        decisions: about dividing it.
    """

    fit: Fit
    waited: float | None
    after: Afterwards
    decisions: tuple[Decision, ...]


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
    parts = [_Part.from_json(each) for each in around.get("parts", ())]
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
    decisions = [_named(each, job, number) for number, part in enumerate(parts) for each in part.decisions]
    return Fitted(
        fit=_joined([part.fit for part in parts]),
        recipe=recipe,
        decisions=(
            *decisions,
            *merged,
            *((done,) if computed + there else ()),
            *later,
            *tuned,
            *_weighed(job, learned),
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


def _weighed(job: Job, learned: Mapping[str, float]) -> tuple[Decision, ...]:
    """How much each target counted, where not all alike."""
    given = parse_weights(job.config.task_weight)
    if not given and not learned:
        return ()
    why = "learned from how uncertain the network is of each; of the epoch that was kept" if learned else "as given"
    return (Decision(what="weights of the targets", choice=describe(learned or given, job.data.tasks), why=why),)


def _interval(
    job: Job,
    optimiser: torch.optim.Optimizer | None,
    checkpoints: Checkpoints,
    begun: _Begun,
) -> tuple[_Part, Plan, Frozen, Rates, Afterwards, Labels | None]:
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
    trained = _train(job, plan, inputs, rates, optimiser, checkpoints, state, watch)
    found = trained.fit
    features = computed - ready
    part = _Part(
        fit=found,
        decisions=(
            *plan.decisions,
            *_ahead(job, plan, ahead),
            *trained.decisions,
            *_waiting(trained.waited, found.seconds),
            *_prediction(plan, features, found.seconds),
            *(watch.end() if watch else ()),
        ),
        planned=ready - started,
        features=features,
        computed=sum(each.computed for each in kept),
        there=sum(len(each.ids) - each.computed for each in kept),
        problems=tuple(said for each in (*ahead, *kept) for said in each.problems),
        compared=_compared(plan, features, found.seconds),
        verified=frozen.verify(),
        trained=_trained(job, frozen, rates, found),
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


def _trained(job: Job, frozen: Frozen, rates: Rates, found: Fit) -> dict[str, Any]:
    """Numbers that train, the heads' among them, and full learning rates, JSON values."""
    parameters = list(job.model.parameters())
    head = found.learning_rate if isinstance(found, HeadFit) else rates.head
    factor = job.intervals[job.interval].rate
    return {
        # Of the model itself: a tail may have put other parameters into the heads than were there at freezing.
        "trainable_parameters": sum(each.numel() for each in parameters if each.requires_grad),
        "parameters": sum(each.numel() for each in parameters),
        "learning_rate": None if head is None else factor * head,
        "backbone_learning_rate": factor * rates.backbone if frozen.stages else None,
        "epochs_run": len(found.history),
    }


def _named(decision: Decision, job: Job, number: int) -> Decision:
    """The decision, with the epochs that it is about where there are several intervals."""
    if len(job.intervals) == 1:
        return decision
    interval = job.intervals[number]
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


def _train(
    job: Job,
    plan: Plan,
    inputs: Inputs,
    rates: Rates,
    optimiser: torch.optim.Optimizer | None,
    checkpoints: Checkpoints,
    state: State | None,
    watch: Watch | None,
) -> _Trained:
    """Train, and let strategies act on what was trained."""
    model, config = job.model, job.config
    data, settings = drawn(job, data_of(job, inputs)), settings_of(job, plan, rates)
    ahead = inputs if isinstance(inputs, Prefetched) else None
    waited = ahead.waited_seconds if ahead else 0.0
    progressing = job.reporter.bar("training", "images")
    with _naming_files(job), progressing as progress, training_part(job, plan, optimiser) as part:
        if plan.boundary.whole and optimiser is None:
            grid = grid_around(rates, config.sweep_lr, config.sweep_l2) if config.sweep else None
            found: Fit = fit_on_features(
                model.heads,
                data,
                job.data.tasks,
                job.answers,
                replace(settings, group=ALONE),  # a second or two on features that every process holds
                fitter=config.fitter,
                grid=grid,
                head_l2=config.head_l2,
                progress=progress,
            )
            job.group.copy(model.heads.state_dict().values())
        else:
            # What has trained before a tail is part of the state that a tail is resumed from.
            moved = any(not each.policy.head_alone for each in job.intervals[: job.interval])
            own = model.heads if plan.boundary.whole and not moved else part.model
            parts = (own, part.model.heads, part.suffix, data, job.data.tasks, job.answers, settings)
            trainer = Trainer(*parts, optimiser, part.wrapped)
            trainer.keeper = checkpoints if job.group.first else None
            trainer.first = watch.first_in(part.model) if watch else None
            if state is not None:
                restore(trainer, state)
            with checkpoints.listening(), naming_peers():
                found = trainer.fit(progress)
    asked = any(answer.head_edit or answer.tuned_bias for answer in job.answers.values())
    after = Afterwards()
    if asked and job.interval == len(job.intervals) - 1:
        with suffix_of(job, plan, translated=False) as suffix:
            after = finish(Trainer(model, model.heads, suffix, data, job.data.tasks, job.answers, settings))
    return _Trained(
        fit=found,
        waited=ahead.waited_seconds - waited if ahead else None,
        after=after,
        decisions=part.decisions,
    )


@contextmanager
def _naming_files(job: Job) -> Iterator[None]:
    """Where the loss of a step is not finite, the files of its rows are named."""
    try:
        yield
    except NonFiniteLossError as error:
        names = [str(job.data.table.paths[row]) for row in error.rows]
        more = f" and {len(names) - NAMED_FILES} more" if len(names) > NAMED_FILES else ""
        raise ZooError(f"{error}; the step's files: {', '.join(names[:NAMED_FILES])}{more}") from None


def data_of(job: Job, inputs: Inputs) -> Data:
    """Everything that the loop reads."""
    data = job.data
    return Data(
        inputs=inputs,
        covariates=data.encoded,
        targets=data.targets,
        train=data.teaching,
        val=torch.from_numpy(data.splits.val),
    )


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
    named = tuple(replace(decision, what=f"{decision.what} at inference") for decision in again.decisions)
    return again.prefix.recipe, named


def _ahead(job: Job, plan: Plan, kept: Sequence[Kept]) -> tuple[Decision, ...]:
    if plan.ahead is None:
        return ()
    later = job.intervals[plan.ahead]
    rows = sum(each.computed for each in kept)
    choice = f"{rows} rows of the interval that begins with epoch {later.start + 1}"
    why = "its boundary lies earlier in the network, so that what it keeps is part of the way to what this one needs"
    return (Decision(what="computed ahead", choice=choice, why=why),)


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
