"""Heads that take further classes: what they know stays, and the new classes begin as in a new head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.model.network import FineTuneModel, TaskHeads
from zoo.specs import Task

PROBE_ROWS = 8


@torch.no_grad()
def grow_heads(model: FineTuneModel, tasks: Sequence[Task], seed: int) -> None:
    """Give the heads of a model more classes, in place.

    Of each tensor that is larger in a new head of the larger task the first rows are those of the old one; tensors
    whose shape does not depend on the classes are taken over. The statistics of the features stay.

    Args:
        model: in float32 on the CPU.
        tasks: those of the model in their order, each with its classes in their order and perhaps more behind them.
        seed: of what is random in a new head.

    Raises:
        ZooError: a head that keeps its classes in another way, so that its old logits would be others.
        ValueError: other tasks, or classes in another order.
    """
    old = model.heads
    for was, now in zip(old.tasks, tasks, strict=True):
        if was.name != now.name or now.classes[: len(was.classes)] != was.classes:
            raise ValueError(f"{now} does not extend {was}")
    if tuple(tasks) == old.tasks:
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heads = TaskHeads(tasks, old.width, covariates=old.covariates, head=old.call)
    heads.standardise.load_state_dict(old.standardise.state_dict())
    for task, before, after in zip(old.tasks, old.heads, heads.heads, strict=True):
        why = _take_over(before, after, task.outputs)
        if why or not _same_logits(before, after, old, task.outputs):
            raise ZooError(
                f"the head {old.call} cannot take further classes: {why or 'logits of the old ones would be others'}; "
                "put a new head on the run's backbone with --backbone NAME --weights RUN"
            )
    model.heads = heads.train(old.training)


def _take_over(before: nn.Module, after: nn.Module, outputs: int) -> str:
    """Copy the tensors of the smaller head into the larger one; says why where that cannot be."""
    larger = after.state_dict()
    for name, tensor in before.state_dict().items():
        place = larger.get(name)
        if place is None or place.ndim != tensor.ndim:
            return f"with more classes it has no {name} of {tensor.ndim} dimensions"
        if any(new != own and own != outputs for new, own in zip(place.shape, tensor.shape, strict=True)):
            return f"its {name} is {tuple(tensor.shape)} with {outputs} classes and {tuple(place.shape)} with more"
        place[tuple(slice(0, size) for size in tensor.shape)] = tensor
    return ""


def _same_logits(before: nn.Module, after: nn.Module, heads: TaskHeads, outputs: int) -> bool:
    """Whether both give the old classes the same logits, but for rounding, on a few random features."""
    shape = (PROBE_ROWS, 4) if heads.takes == "tokens" else (PROBE_ROWS,)
    features = torch.randn(*shape, heads.width + heads.covariates, generator=torch.Generator().manual_seed(0))
    found: list[Tensor] = []
    for head in (before, after):
        mode = head.training
        found.append(head.eval()(features)[:, :outputs])
        head.train(mode)
    return torch.allclose(found[0], found[1], rtol=1e-4, atol=1e-4)
