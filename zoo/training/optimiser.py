"""AdamW with real learning rates in its groups, and the schedule: linear warm-up, then cosine to zero."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Learning rates and regularisation.

    Attributes:
        head: learning rate of the heads.
        backbone: learning rate of the backbone's trainable parameters.
        weight_decay: decoupled (Loshchilov and Hutter 2019), of the backbone's trainable part; none on biases, norms
            and other vectors.
        head_l2: strength of the L2 penalty on the heads' weight matrices, part of the loss: with standardised features
            it is the prior of a ridge-penalised logistic regression.
        warmup: share of all steps in which the rates rise from zero.
    """

    head: float
    backbone: float
    weight_decay: float
    head_l2: float
    warmup: float


def build_optimiser(model: nn.Module, heads: nn.Module, rates: Rates) -> torch.optim.AdamW:
    """AdamW over every parameter of `model`, frozen ones too: they have no gradient, so they stand still.

    Three groups: heads, backbone with weight decay, backbone without; `part` says which of the two it is.
    """
    own = {id(parameter) for parameter in heads.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        head = id(parameter) in own
        groups.setdefault((head, parameter.ndim > 1 and not head), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "part": "head" if head else "backbone",
                "lr": rates.head if head else rates.backbone,
                "weight_decay": rates.weight_decay if decay else 0.0,
            }
            for (head, decay), parameters in sorted(groups.items(), reverse=True)
        ],
        fused=True,
    )


def begin_phase(optimiser: torch.optim.Optimizer, rates: Rates, factor: float) -> None:
    """Put the rates of a phase into the groups, and the optimiser's memory into the layout that its parameters have.

    What trained before goes on with the moments that it has; a fused step walks through both as they lie in memory.
    """
    for group in optimiser.param_groups:
        group["lr"] = group["initial_lr"] = factor * (rates.head if group["part"] == "head" else rates.backbone)
    for parameter, state in optimiser.state.items():
        for name, own in state.items():
            if own.shape == parameter.shape and (own.stride(), own.device) != (parameter.stride(), parameter.device):
                state[name] = torch.empty_like(parameter).copy_(own)


def build_schedule(
    optimiser: torch.optim.Optimizer, steps: int, warmup: float, done: int = 0
) -> torch.optim.lr_scheduler.LambdaLR:
    """A factor on each group's rate for `steps` steps: linear from 0 over the warm-up, then half a cosine to 0.

    The first `done` of them are over.
    """
    rising = max(1, round(warmup * steps))

    def factor(step: int) -> float:
        step += done
        if step < rising:
            return (step + 1) / rising
        return 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))

    return torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
