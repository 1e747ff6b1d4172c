"""The loop of one interval: on features by a fitter, or step by step by the trainer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from zoo.errors import ZooError
from zoo.features.choose import Decision
from zoo.group import ALONE, naming_peers
from zoo.jobs.drawing import drawn
from zoo.jobs.job import Job
from zoo.jobs.moving import Watch
from zoo.jobs.planning import Plan
from zoo.jobs.resume import Checkpoints
from zoo.jobs.settings import settings_of
from zoo.jobs.training_part import suffix_of, training_part
from zoo.training.afterwards import Afterwards, finish
from zoo.training.checkpoint import State, restore
from zoo.training.finite import NonFiniteLossError
from zoo.training.fitters.choose import fit_on_features
from zoo.training.fitters.sweep import grid_around
from zoo.training.inputs import Inputs
from zoo.training.loop import Trainer
from zoo.training.optimiser import Rates
from zoo.training.prefetch import Prefetched
from zoo.training.settings import Data, Fit

NAMED_FILES = 8
"""So many files of a step are named in a message."""


@dataclass(frozen=True, kw_only=True)
class Trained:
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


def train_interval(
    job: Job,
    plan: Plan,
    inputs: Inputs,
    rates: Rates,
    optimiser: torch.optim.Optimizer | None,
    checkpoints: Checkpoints,
    state: State | None,
    watch: Watch | None,
) -> Trained:
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
    return Trained(
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
        absence=data.absence,
        completions=data.completions,
    )
