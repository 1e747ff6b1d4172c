"""The beginning and the end of a strategy's tail: heads begun anew or scaled, an optimiser of their own."""

from __future__ import annotations

import torch

from zoo.jobs.job import Job
from zoo.model.network import TaskHeads
from zoo.model.scaled import Scaled, folded
from zoo.training.afterwards import linear_layer
from zoo.training.checkpoint import State
from zoo.training.optimiser import Rates, build_optimiser, parse_optimiser


def check_tail(job: Job) -> None:
    """Refuse a head that a tail cannot scale, before anything is computed.

    Raises:
        ZooError: naming the strategy.
    """
    tail = job.intervals[-1].tail
    if tail is not None and "scaled" in tail.head:
        for name, head in zip(job.answered[-1], job.model.heads.heads, strict=True):
            linear_layer(head, job.answered[-1][name].name)


@torch.no_grad()
def put_back(job: Job, state: State | None) -> None:
    """Give the backbone of an interrupted tail what was trained before, so that it is this that is frozen."""
    if state is None or job.intervals[job.interval].tail is None:
        return
    own = job.model.state_dict()
    for name, tensor in state.tensors.items():
        if name.startswith("model.backbone."):
            own[name.removeprefix("model.")].copy_(tensor)


def begin_tail(job: Job) -> None:
    """Make of the heads what the tail trains; to be called when the backbone is frozen."""
    tail = job.intervals[job.interval].tail
    heads = job.model.heads
    if tail is None:
        return
    if tail.head == "reset":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(job.config.seed + 1)
            fresh = TaskHeads(heads.tasks, heads.width, covariates=heads.covariates, head=heads.call)
        heads.heads.load_state_dict(fresh.heads.state_dict())
    if "scaled" in tail.head:
        for index, task in enumerate(heads.tasks):
            heads.heads[index].requires_grad_("kept" in tail.head)
            heads.heads[index] = Scaled(heads.heads[index], task.outputs)


def end_tail(job: Job) -> None:
    """Put factors into the weights, so that the head is again what its name says."""
    heads = job.model.heads
    for index, (name, head) in enumerate(zip(job.answers, heads.heads, strict=True)):
        if isinstance(head, Scaled):
            heads.heads[index] = folded(head, linear_layer(head.head, job.answers[name].name)).requires_grad_(True)


def tail_optimiser(job: Job, rates: Rates) -> torch.optim.Optimizer:
    """An optimiser over the heads alone, without the moments of what they were."""
    return build_optimiser(job.model.heads, job.model.heads, rates, parse_optimiser(job.config.optimiser))
