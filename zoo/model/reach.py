"""Which parameters the logits depend on: asked of autograd, by one pass through the whole network."""

from __future__ import annotations

import torch
from torch import nn

from zoo.model.network import FineTuneModel


def reached_parameters(model: FineTuneModel) -> dict[str, nn.Parameter]:
    """The trainable parameters from which a way leads to the logits, by name.

    Those left out play no part in the features that the heads take, such as the last norm of a network whose tokens are
    averaged before it. A parameter whose gradient is zero is there. It is asked in eval mode, in which no statistics
    move and nothing random is drawn; the network is left in training mode.

    Args:
        model: on any device; of adapters their own matrices count, and not the frozen weights beside them.
    """
    own = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    first = next(model.parameters())
    shape = (1, model.view.input.channels, *model.view.input.size)
    blank = torch.zeros(shape, device=first.device, dtype=first.dtype)
    beside = model.heads.covariates
    covariates = torch.zeros((1, beside), device=first.device, dtype=first.dtype) if beside else None
    model.eval()
    with torch.enable_grad():
        logits = model.logits(blank, covariates)
        total = torch.stack([each.sum() for each in logits.values()]).sum()
        gradients = torch.autograd.grad(total, list(own.values()), allow_unused=True)
    model.train()  # which some networks take as the word to drop what they kept, and it has a graph
    return {name: each for (name, each), gradient in zip(own.items(), gradients, strict=True) if gradient is not None}
