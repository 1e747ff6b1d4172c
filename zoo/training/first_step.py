"""The first step of a phase is a probe: gradients reach all that trains and nothing else, and what is frozen stands.

Whether a parameter can move is asked of its gradient and not of its bits: behind a head that starts at zero, a ReLU
that is off or a branch that stochastic depth left out, a gradient of zero is right, and the parameter stands still in
that step. A gradient that is not there at all means that autograd never saw the parameter, as where something was
unfrozen behind a graph that is compiled already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import nn

from zoo.errors import IntegrityError
from zoo.training.shards import own_rows

NAMED = 5
"""So many tensors are named in a message."""


@dataclass(kw_only=True)
class FirstStep:
    """What the first step is held against.

    Attributes:
        reached: ids of the parameters that the loss depends on, found in another way than by this step.
        verify: compares what is frozen with what it was, and raises where it is not.
        pushed: whether some gradient was not zero; known after the step.
    """

    reached: frozenset[int]
    verify: Callable[[], object]
    pushed: bool = field(default=False, init=False)

    def check_gradients(self, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
        """Look at the gradients between the backward pass and the step that they are for.

        Raises:
            IntegrityError: a trainable parameter on which the loss depends has none or is not in the optimiser, or a
                frozen one has one.
        """
        held = {id(parameter) for group in optimiser.param_groups for parameter in group["params"]}
        own = dict(model.named_parameters())
        trainable = {name: parameter for name, parameter in own.items() if parameter.requires_grad}
        _refuse(
            (name for name, each in trainable.items() if each.grad is None and id(each) in self.reached),
            "trainable tensors got no gradient in the first step, although the loss depends on them",
        )
        _refuse(
            (name for name, each in trainable.items() if id(each) not in held),
            "trainable tensors are not in the optimiser and would never move",
        )
        _refuse(
            (name for name, each in own.items() if name not in trainable and each.grad is not None),
            "frozen tensors got a gradient in the first step",
        )
        gradients = (each.grad for each in trainable.values() if each.grad is not None)
        self.pushed = any(bool(own_rows(gradient).any()) for gradient in gradients)


def _refuse(names: Iterable[str], what: str) -> None:
    found = list(names)
    if found:
        raise IntegrityError(f"{len(found)} {what}: {named(found)}")


def named(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"
