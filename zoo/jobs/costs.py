"""What a run will cost, predicted from its plan: seconds by part, the peak of memory, bytes on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor, nn

from zoo.config import TrainConfig
from zoo.features.plan import alternatives
from zoo.features.prefix import BATCH, normalise
from zoo.jobs.job import Job
from zoo.jobs.planning import Plan, make_plan, recipe_before
from zoo.jobs.progress import Reporter
from zoo.jobs.start import Clock, start_job
from zoo.model.freeze import freeze_parts
from zoo.specs import Interval

PROBED = 2
"""Images whose activations are counted."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What one interval of a run, or all of it, will cost.

    Attributes:
        features: seconds before the first epoch; None where nothing was measured.
        epochs: seconds of all of them.
        predict: seconds for the held-out rows, at the end of the run.
        memory: bytes at the peak: of the process on a CPU, allocated on a GPU.
        disk: bytes that features will take and do not take yet.
    """

    features: float | None
    epochs: float | None
    predict: float | None
    memory: int
    disk: int

    @property
    def total(self) -> float | None:
        """Seconds of all of it but start and reading."""
        parts = (self.features, self.epochs, self.predict)
        return None if None in parts else sum(part or 0.0 for part in parts)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A run that has not begun.

    Attributes:
        started: seconds of building, and of reading and decoding images, which are kept.
        intervals: of its schedule, each with its plan and costs; the last one's hold the prediction of held-out rows.
    """

    started: float
    intervals: tuple[tuple[Interval, Plan, Costs], ...]

    @property
    def total(self) -> float | None:
        """Seconds of the run; None where nothing was measured."""
        totals = [costs.total for _, _, costs in self.intervals]
        return None if None in totals else self.started + sum(total or 0.0 for total in totals)

    @property
    def memory(self) -> int:
        """Bytes at the peak."""
        return max(costs.memory for _, _, costs in self.intervals)

    @property
    def disk(self) -> int:
        """Bytes that features will take."""
        return sum(costs.disk for _, _, costs in self.intervals)


def predict_costs(config: TrainConfig, reporter: Reporter) -> Prediction:
    """Predict what `run_training` would cost; trains nothing and makes no run folder.

    Raises:
        ZooError: as `run_training`, before it trains.
    """
    clock = Clock()
    job = start_job(config, reporter, clock, claimed=False)
    return Prediction(started=sum(clock.seconds.values()), intervals=planned_costs(job))


def planned_costs(job: Job, *, cold: bool = False) -> tuple[tuple[Interval, Plan, Costs], ...]:
    """Plan and costs of each interval; `cold` as if nothing were kept yet."""
    found: list[tuple[Interval, Plan, Costs]] = []
    for number, interval in enumerate(job.intervals):
        own = replace(job, interval=number)
        freeze_parts(job.model, job.model.view, own.policy, "backbone.", digest=False, batchnorm=job.batchnorm)
        before = found[-1][1].chosen if found else None
        recipe = recipe_before(own, before.prefix.recipe if before else None)
        plan = make_plan(own, always=True, recipe=recipe)
        costs = costs_of(own, plan, cold=cold)
        last = number == len(job.intervals) - 1
        found.append((interval, plan, costs if last else replace(costs, predict=costs.predict and 0.0)))
    return tuple(found)


def costs_of(job: Job, plan: Plan, *, cold: bool = False) -> Costs:
    """Costs of the interval that is under way, computed as its plan says.

    Raises:
        ValueError: the plan was taken over from another run, so that nothing was measured for it.
    """
    if plan.basis is None:
        raise ValueError("this plan has no basis")
    basis, size = plan.basis, plan.basis.size
    size = replace(size, todo=size.kept_rows) if cold else size
    refused = {each.mode: each.refused for each in plan.found if each.refused}
    ways = {each.mode: each for each in alternatives(basis.seconds, size, basis.room, refused)}
    way = ways[plan.mode]
    cached = plan.mode == "cached"
    memory = _now(job) + _step_bytes(job, plan)
    if cached and plan.resident:
        memory += size.nbytes * (2 if plan.views else 1)
    return Costs(
        features=way.features,
        epochs=way.train,
        predict=_prediction(job, plan),
        memory=memory,
        disk=size.todo * size.row_bytes if cached else 0,
    )


def _prediction(job: Job, plan: Plan) -> float | None:
    """Seconds of the held-out rows; of a frozen backbone their features are there already."""
    assert plan.basis is not None  # noqa: S101 - the caller has looked
    seconds, rows = plan.basis.seconds, len(job.data.splits.val) + len(job.data.splits.test)
    if plan.mode == "whole":
        parts: Sequence[float | None] = (seconds.whole_eval,)
    elif plan.boundary.whole and plan.mode == "cached":
        parts = (seconds.suffix_eval,)
    else:
        parts = (seconds.prefix, seconds.suffix_eval)
    return None if None in parts else rows * sum(part or 0.0 for part in parts)


def _now(job: Job) -> int:
    """Bytes that this process has taken for libraries, network and measurements."""
    if job.device.type == "cuda":
        return int(torch.cuda.memory_allocated(job.device))
    return int(psutil.Process().memory_info().rss)


def _step_bytes(job: Job, plan: Plan) -> int:
    """Bytes of a training step, with gradients and two moments of what trains, or of extraction, the larger one."""
    saved, widest = _activations(job, plan)
    moving = sum(parameter.numel() for parameter in job.model.parameters() if parameter.requires_grad)
    extraction = widest * BATCH[job.device.type] if plan.mode != "whole" else 0
    return max(saved * job.batch_size, extraction) + 3 * 4 * moving


def _activations(job: Job, plan: Plan) -> tuple[int, int]:
    """Bytes an image that autograd keeps for the backward pass, and of the widest layer's input and output."""
    model, data = job.model, job.data
    rows = np.resize(data.splits.train, PROBED)
    pixels = normalise(data.images.pixels(rows).to(job.device), model.view.input)
    covariates = None if data.encoded is None else data.encoded[torch.from_numpy(rows)].to(job.device)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    modes = {part: part.training for part in model.modules()}
    model.eval()  # no statistics move
    with (
        _widest(model.backbone) as widest,
        torch.autocast(job.device.type, dtype=plan.compute.dtype, enabled=bool(plan.compute.autocast)),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        held = model.logits(pixels, covariates)  # alive while they are counted: freed blocks would share an address
    for part, mode in modes.items():
        part.training = mode
    del held
    return sum(kept.values()) // PROBED, max(widest, default=0) // PROBED


@contextmanager
def _widest(module: nn.Module) -> Iterator[list[int]]:
    """Collects the bytes of input and output of each layer that runs."""
    found: list[int] = []

    def look(_: nn.Module, given: tuple[Any, ...], gave: Any) -> None:
        found.append(sum(each.nbytes for each in (*given, gave) if isinstance(each, Tensor)))

    with ExitStack() as stack:
        for part in module.modules():
            if not list(part.children()):
                stack.callback(part.register_forward_hook(look).remove)
        yield found
