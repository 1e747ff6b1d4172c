"""What each interval of a run gave, and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from zoo.features.choose import Decision
from zoo.features.extract import Kept
from zoo.jobs.job import Job
from zoo.jobs.planning import Plan
from zoo.model.freeze import Frozen
from zoo.training.fitters.record import HeadFit
from zoo.training.optimiser import Rates
from zoo.training.settings import Fit
from zoo.training.task_weights import describe, parse_weights


@dataclass(frozen=True, kw_only=True)
class Part:
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
    def from_json(cls, values: Mapping[str, Any]) -> Part:
        """From `asdict` through JSON."""
        decisions = tuple(Decision(**each) for each in values["decisions"])
        problems = tuple(values["problems"])
        return cls(**{**values, "fit": Fit(**values["fit"]), "decisions": decisions, "problems": problems})


def weighed(job: Job, learned: Mapping[str, float]) -> tuple[Decision, ...]:
    """How much each target counted, where not all alike."""
    given = parse_weights(job.config.task_weight)
    if not given and not learned:
        return ()
    why = "learned from how uncertain the network is of each; of the epoch that was kept" if learned else "as given"
    return (Decision(what="weights of the targets", choice=describe(learned or given, job.data.tasks), why=why),)


def trained_numbers(job: Job, frozen: Frozen, rates: Rates, found: Fit) -> dict[str, Any]:
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


def named(decision: Decision, job: Job, number: int) -> Decision:
    """The decision, with the epochs that it is about where there are several intervals."""
    if len(job.intervals) == 1:
        return decision
    interval = job.intervals[number]
    return replace(decision, what=f"epochs {interval.start + 1} to {interval.stop}: {decision.what}")


def joined(fits: Sequence[Fit]) -> Fit:
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


def outdone(job: Job, fits: Sequence[Fit]) -> tuple[Decision, ...]:
    """That an earlier interval had a better epoch than the one that was kept, where it is so."""
    if job.intervals[-1].tail is not None:
        return ()  # a strategy's last stage learns something else, and is not to be compared
    chooser, kept = job.data.chooser, fits[-1]
    best = kept
    for each in fits[:-1]:
        if each.best_epoch > 0 and chooser.better(each.best_value, best.best_value):
            best = each
    if best is kept:
        return ()
    choice = f"{chooser.key} {kept.best_value:.3f}, where epoch {best.best_epoch} of an earlier interval had "
    choice += f"{best.best_value:.3f}"
    why = "the epoch is chosen in the last interval, where all trains that the policy frees; try lower rates there"
    return (Decision(what="the epoch that was kept", choice=choice, why=why),)


def computed_ahead(job: Job, plan: Plan, kept: Sequence[Kept]) -> tuple[Decision, ...]:
    """Rows of a later interval that were computed first, where there were any."""
    if plan.ahead is None:
        return ()
    later = job.intervals[plan.ahead]
    rows = sum(each.computed for each in kept)
    choice = f"{rows} rows of the interval that begins with epoch {later.start + 1}"
    why = "its boundary lies earlier in the network, so that what it keeps is part of the way to what this one needs"
    return (Decision(what="computed ahead", choice=choice, why=why),)


def waiting(waited: float | None, seconds: float) -> tuple[Decision, ...]:
    """How long the loop waited for data that were read ahead; nothing where it held them."""
    if waited is None:
        return ()
    share = waited / seconds if seconds else 0.0
    why = f"the loop waited {waited:.1f} s of {seconds:.1f} s for images"
    return (Decision(what="waiting for data", choice=f"{share:.0%} of the epochs", why=why),)


def prediction(plan: Plan, features: float, train: float) -> tuple[Decision, ...]:
    """What the plan foretold beside what it took, in seconds; nothing where nothing was measured."""
    taken = plan.found[0]
    if taken.features is None or taken.train is None:
        return ()
    choice = f"{taken.features:.1f} s before the first epoch, {taken.train:.1f} s of epochs"
    return (Decision(what="prediction", choice=choice, why=f"it took {features:.1f} s and {train:.1f} s"),)


def compared_with(plan: Plan, features: float, train: float) -> dict[str, Any]:
    """Prediction and truth, JSON values."""
    taken = plan.found[0]
    return {
        "predicted": {"features": taken.features, "train": taken.train},
        "actual": {"features": features, "train": train},
        "alternatives": [asdict(each) for each in plan.found],
    }
