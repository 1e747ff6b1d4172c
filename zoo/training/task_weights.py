"""How much each target counts in the loss: as given, or learned from how uncertain the network is of it.

Kendall, Gal and Cipolla 2018, "Multi-Task Learning Using Uncertainty to Weigh Losses": with log variance s of each
target, its loss L counts exp(-s) L + s / 2. Half the squared error of numbers is the Gaussian's own log likelihood, so
that the same form holds for every kind of target. A target without a label in a step adds nothing: its s would fall
without end. Values are kept between -4 and 4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from zoo.errors import OptionError, ZooError
from zoo.model.network import TaskHeads
from zoo.registry.near import suggest
from zoo.specs import Task
from zoo.training.shards import whole

LIMIT = 4.0
"""Largest absolute log variance."""


def parse_weights(options: Sequence[str]) -> dict[str, float]:
    """By target, the weights that `TARGET=NUMBER` options name.

    Raises:
        OptionError: another form, a target that is named twice, a weight that is not positive.
    """
    found: dict[str, float] = {}
    for option in options:
        target, equals, text = option.rpartition("=")
        try:
            weight = float(text)
        except ValueError:
            weight = math.nan
        if not equals or not target.strip() or math.isnan(weight):
            raise OptionError("expected TARGET=NUMBER, as in defect=2", text=option, column=0)
        if not 0 < weight < math.inf:
            raise OptionError(f"a weight is a positive number, not {text.strip()}", text=option, column=len(target) + 1)
        if target.strip() in found:
            raise OptionError(f"target {target.strip()!r} is given two weights; name one", text=option, column=0)
        found[target.strip()] = weight
    return found


def check_weights(weights: Mapping[str, float], names: Sequence[str], *, learned: bool) -> None:
    """Refuse weights of targets that there are not, and learned ones where there is one target.

    Raises:
        ZooError: says which, and what there is.
    """
    for name in weights:
        if name not in names:
            raise ZooError(
                f"--task-weight {name}={weights[name]:g}: no target {name!r}; the targets are {', '.join(names)}"
                f"{suggest(name, names)}"
            )
    if learned and len(names) < 2:
        raise ZooError("--task-weights learned divides attention among several targets, and this run has one")


def weights_of(heads: TaskHeads, given: Mapping[str, float]) -> dict[str, Tensor | float]:
    """The factor on the loss of each task: learned where the heads learn it, else as given, 1 by default."""
    names = [task.name for task in heads.tasks]
    if heads.log_variances is None:
        return {name: given.get(name, 1.0) for name in names}
    return dict(zip(names, (-heads.log_variances).exp().unbind(), strict=True))


def regulariser(heads: TaskHeads, known: Mapping[str, float]) -> Tensor | float:
    """What keeps learned weights from falling: half the log variance of each task that has a label in the step."""
    if heads.log_variances is None:
        return 0.0
    there = torch.tensor([float(known[task.name] > 0) for task in heads.tasks], device=heads.log_variances.device)
    return 0.5 * (heads.log_variances * there).sum()


@torch.no_grad()
def clamp(heads: TaskHeads) -> None:
    """Keep log variances within their limit, after a step."""
    if heads.log_variances is not None:
        heads.log_variances.clamp_(-LIMIT, LIMIT)


def learned_weights(heads: TaskHeads) -> dict[str, float]:
    """The factors that were learned, by task; empty where none were."""
    if heads.log_variances is None:
        return {}
    factors = (-whole(heads.log_variances.detach())).exp().tolist()
    return {task.name: factor for task, factor in zip(heads.tasks, factors, strict=True)}


def describe(weights: Mapping[str, float], tasks: Sequence[Task]) -> str:
    """Weights in words, `defect 2, type 1`."""
    return ", ".join(f"{task.name} {weights.get(task.name, 1.0):.3g}" for task in tasks)
