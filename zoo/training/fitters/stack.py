"""Many copies of the heads in one: their weights stacked, their losses and logits one computation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from zoo.model.network import TaskHeads
from zoo.specs import Batch
from zoo.training.fitters.batched_adam import BatchedAdam
from zoo.training.fitters.wide_linear import WideLinear
from zoo.training.loop import Trainer
from zoo.training.losses import total_loss
from zoo.training.task_weights import weights_of


class _Penalised(nn.Module):
    """Heads that give their penalty of strength 1 beside their logits, so that one functional call gives both."""

    def __init__(self, heads: TaskHeads) -> None:
        super().__init__()
        self.inner = heads

    def forward(self, features: Tensor, covariates: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
        return self.inner(features, covariates), self.inner.penalty(1.0)


class Stack:
    """C copies of the heads' parameters and buffers, (C, …) each; the standardisation is one for all."""

    def __init__(self, heads: TaskHeads, points: Sequence[tuple[float, float]], device: torch.device) -> None:
        self._module = _Penalised(heads)
        self._strengths = torch.tensor([strength for _, strength in points], device=device)
        self._moving = {
            name: parameter.detach().expand(len(points), *parameter.shape).clone().requires_grad_()
            for name, parameter in self._module.named_parameters()
            if parameter.requires_grad
        }
        self._buffers = {
            name: buffer.expand(len(points), *buffer.shape).clone()
            for name, buffer in self._module.named_buffers()
            if not name.startswith("inner.standardise.")
        }
        rates = torch.tensor([rate for rate, _ in points], device=device)
        self.optimiser = BatchedAdam(list(self._moving.values()), rates)

    def losses(self, batch: Batch, trainer: Trainer) -> Tensor:
        """Losses (C,) of a batch, without penalty; their gradients, with the penalty's, are added up."""
        weights = weights_of(trainer.heads, trainer.settings.task_weights)

        def one(state: dict[str, Tensor], strength: Tensor) -> tuple[Tensor, Tensor]:
            logits, penalty = functional_call(self._module, state, (batch.inputs[0], batch.covariates))
            loss = total_loss(logits, batch.targets, trainer.tasks, trainer.answers, weights=weights)
            return loss + strength * penalty, loss

        # Attention in plain matrix products: its fused kernels have no batched form.
        run = torch.vmap(one, randomness="different")
        # No candidate's loss depends on another's weights, so the gradient of the sum is each one's own.
        with WideLinear(), sdpa_kernel(SDPBackend.MATH):
            objectives, losses = run({**self._moving, **self._buffers}, self._strengths)
        objectives.sum().backward()  # type: ignore[no-untyped-call]
        return losses.detach()

    @torch.no_grad()
    def logits(self, batch: Batch) -> dict[str, Tensor]:
        """Logits (C, B, K) by task."""

        def one(state: dict[str, Tensor]) -> dict[str, Tensor]:
            logits: dict[str, Tensor] = functional_call(self._module, state, (batch.inputs[0], batch.covariates))[0]
            return logits

        with WideLinear(), sdpa_kernel(SDPBackend.MATH):
            found: dict[str, Tensor] = torch.vmap(one, randomness="different")({**self._moving, **self._buffers})
        return found

    def copy(self, candidate: int) -> dict[str, Tensor]:
        """A copy of one candidate's parameters and buffers, by their names in the heads."""
        state = {**self._moving, **self._buffers}
        return {name.removeprefix("inner."): value[candidate].detach().clone() for name, value in state.items()}
