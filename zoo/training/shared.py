"""The part that trains, run by several processes whose gradients are averaged."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from inspect import signature
from typing import Any, Protocol

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from zoo.group import Group

Suffix = Callable[[tuple[Tensor, ...], Tensor | None], dict[str, Tensor]]
"""From what crosses the boundary, and covariates, to logits by task."""


class Shared(Protocol):
    """A suffix in training.

    Attributes:
        divided: whether a process holds some rows of what trains alone, so that all of them do everything together.
    """

    divided: bool

    def __call__(self, inputs: tuple[Tensor, ...], covariates: Tensor | None) -> dict[str, Tensor]:
        """As the suffix; backward averages gradients over the processes."""
        ...

    def apart(self) -> AbstractContextManager[None]:
        """Inside, forward and backward leave each process its own gradients: more are to be added to them."""
        ...


def shared(model: nn.Module, suffix: Suffix, group: Group) -> Shared:
    """The suffix, in as many processes as there are.

    Made anew for each interval, because what is frozen then has no gradients to average.

    Args:
        model: what trains in it.
        suffix: goes through `model`.
        group: the processes; all of them make it.
    """
    return _Alone(suffix) if group.size == 1 else _Parallel(model, suffix)


class _Alone:
    divided = False

    def __init__(self, suffix: Suffix) -> None:
        self._suffix = suffix

    def __call__(self, inputs: tuple[Tensor, ...], covariates: Tensor | None) -> dict[str, Tensor]:
        return self._suffix(inputs, covariates)

    def apart(self) -> AbstractContextManager[None]:
        return nullcontext()


class _Parallel:
    """By DistributedDataParallel (Li et al. 2020): gradients are sent while earlier ones are still computed."""

    divided = False

    def __init__(self, model: nn.Module, suffix: Suffix) -> None:
        # Buffers are left alone: frozen ones are the same everywhere, and those that move are made so for validation.
        known = signature(DistributedDataParallel).parameters
        name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # before torch 2.15
        options: dict[str, Any] = {name: False}
        self._module = DistributedDataParallel(SuffixModule(model, suffix), **options)

    def __call__(self, inputs: tuple[Tensor, ...], covariates: Tensor | None) -> dict[str, Tensor]:
        logits: dict[str, Tensor] = self._module(inputs, covariates)
        return logits

    def apart(self) -> AbstractContextManager[None]:
        found: AbstractContextManager[None] = self._module.no_sync()
        return found


class SuffixModule(nn.Module):
    """A suffix as a module that holds what trains in it."""

    def __init__(self, model: nn.Module, suffix: Suffix) -> None:
        super().__init__()
        self.model, self.suffix = model, suffix

    def forward(self, inputs: tuple[Tensor, ...], covariates: Tensor | None) -> Any:
        """Logits by task."""
        return self.suffix(inputs, covariates)
