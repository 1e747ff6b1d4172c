"""Adam for many candidates at once, each with a learning rate of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

BETAS, EPS = (0.9, 0.999), 1e-8
"""As `torch.optim.AdamW` has them by default."""


class BatchedAdam:
    """What `torch.optim.AdamW` without weight decay does (heads have none), to C stacked candidates in the same calls.

    Args:
        parameters: leaves (C, …) with gradients; slice c belongs to candidate c.
        rates: learning rates (C,).
    """

    def __init__(self, parameters: Sequence[Tensor], rates: Tensor) -> None:
        self._parameters = list(parameters)
        self._rates = [rates.view(-1, *[1] * (parameter.ndim - 1)) for parameter in self._parameters]
        self._means = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._steps = 0

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """One step along the gradients, every rate times `factor`; the gradients are gone after it."""
        self._steps += 1
        one, two = BETAS
        first, second = 1 - one**self._steps, math.sqrt(1 - two**self._steps)
        for parameter, rate, mean, square in zip(
            self._parameters, self._rates, self._means, self._squares, strict=True
        ):
            gradient = parameter.grad
            if gradient is None:
                continue
            mean.lerp_(gradient, 1 - one)
            square.mul_(two).addcmul_(gradient, gradient, value=1 - two)
            parameter.addcdiv_(mean * rate, square.sqrt().div_(second).add_(EPS), value=-factor / first)
            parameter.grad = None
