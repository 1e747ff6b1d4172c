"""The exponential moving average of what trains; it is what is validated and kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from zoo.training.shards import own_rows


class Average:
    """The average of the parameters of `model` that train, from where they stand now.

    After step t the average moves towards the parameters by 1 - min(decay, (1 + t) / (10 + t)), so that it does not
    remember for long what it began with (as `tf.train.ExponentialMovingAverage` with `num_updates`). BatchNorm
    statistics are averages already and are left as they are.

    Args:
        model: its trainable parameters are averaged.
        decay: in (0, 1).
        steps: how many are over.
    """

    def __init__(self, model: nn.Module, decay: float, steps: int = 0) -> None:
        self._decay, self.steps = decay, steps
        self._moving = {name: own for name, own in model.named_parameters() if own.requires_grad}
        self.values = {name: own.detach().clone() for name, own in self._moving.items()}

    @torch.no_grad()
    def update(self) -> None:
        """After a step."""
        self.steps += 1
        share = 1 - min(self._decay, (1 + self.steps) / (10 + self.steps))
        values = [own_rows(value) for value in self.values.values()]
        torch._foreach_lerp_(values, [own_rows(own.detach()) for own in self._moving.values()], share)

    @contextmanager
    def used(self) -> Iterator[None]:
        """The model has the averages inside, and its own values again behind."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, own in self._moving.items():
            held: Tensor = own.detach().clone()
            own.copy_(self.values[name])
            self.values[name].copy_(held)
