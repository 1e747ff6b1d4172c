"""The part of a run's model that trains, as the loop calls it: cut, translated, divided among processes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from zoo.features.choose import Decision
from zoo.jobs.job import Job
from zoo.jobs.planning import Plan
from zoo.model.network import FineTuneModel
from zoo.training.optimiser import parse_optimiser
from zoo.training.recompute import recomputing
from zoo.training.sharding import Divided, lent, refuse_undivided, twin_of, units_of
from zoo.training.shared import Shared, Suffix


@dataclass(frozen=True, kw_only=True)
class TrainingPart:
    """What the loop of one interval trains.

    Attributes:
        model: the run's, or its twin whose trainable tensors are divided.
        suffix: from what crosses the boundary to logits, through `model`.
        wrapped: the suffix where it is divided; None where the trainer wraps it by itself.
        decisions: about dividing it.
    """

    model: FineTuneModel
    suffix: Suffix
    wrapped: Shared | None = None
    decisions: tuple[Decision, ...] = ()


def check_shard(job: Job) -> None:
    """Refuse what `--shard` cannot divide, before anything is computed.

    Raises:
        ZooError: see `zoo.training.sharding.refuse_undivided`.
    """
    if job.config.shard is None:
        return
    names = {name for each in job.intervals for name in each.policy.select(job.model.view).parameters}
    job.model.to(job.device)
    refuse_undivided(job.model, names, parse_optimiser(job.config.optimiser), job.group)


@contextmanager
def training_part(job: Job, plan: Plan, optimiser: torch.optim.Optimizer | None) -> Iterator[TrainingPart]:
    """What trains in the interval that is under way; when it is left, the run's model has what was learned.

    Args:
        job: the run; all processes of its group enter and leave together.
        plan: how it computes.
        optimiser: of the model; inside, of its twin where there is one. None where the trainer makes its own.
    """
    if job.config.shard is None or job.policy.head_alone or optimiser is None:
        with suffix_of(job, plan) as suffix:
            yield TrainingPart(model=job.model, suffix=suffix)
        return
    twin = twin_of(job.model)
    units = units_of(twin)
    own = replace(plan, boundary=replace(plan.boundary, view=twin.view))
    with suffix_of(replace(job, model=twin), own) as suffix:
        divided = Divided(twin, suffix, units, job.group)
        with lent(job.model, twin, optimiser):
            yield TrainingPart(model=twin, suffix=suffix, wrapped=divided, decisions=(_said(job, twin, units),))


def _said(job: Job, twin: FineTuneModel, units: list[str]) -> Decision:
    training = [own for own in twin.parameters() if own.requires_grad]
    numbers = sum(own.numel() for own in training)
    return Decision(
        what="shards",
        choice=f"{numbers} numbers that train, over {job.group.size} processes",
        why=f"--shard {job.config.shard}; gathered while they compute: blocks one by one ({len(units)}), then the rest",
    )


@contextmanager
def suffix_of(job: Job, plan: Plan, *, translated: bool = True) -> Iterator[Suffix]:
    """From what crosses the boundary to logits, while the modules before it answer from what is known.

    Args:
        job: the run.
        plan: how it computes.
        translated: whether torch.compile may translate it, where the run asks for that.
    """
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

        compiled = job.config.compile and translated
        recompute = recomputing(model.view, job.policy.select(model.view).parameters) if job.config.recompute else None
        with recompute or nullcontext(), _translating() if compiled else nullcontext():
            yield torch.compile(suffix) if compiled else suffix


@contextmanager
def _translating() -> Iterator[None]:
    """Inside, torch.compile begins anew and is silent about what it looks at itself between two parts of a graph."""
    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"The \.grad attribute of a Tensor that is not a leaf")
        yield
