"""A factor on each class's logit that trains, alone or beside the head, and ends in the head's weights.

Learnable weight scaling: Kang et al. 2020, "Decoupling representation and classifier for long-tailed recognition"; as
in its reference implementation the factor multiplies the bias too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Scaled(nn.Module):
    """`scale * head(features)`, the scale one factor a class, 1 in the beginning."""

    def __init__(self, head: nn.Module, outputs: int) -> None:
        super().__init__()
        self.head = head
        like = next(head.parameters())
        self.scale = nn.Parameter(torch.ones(outputs, device=like.device, dtype=like.dtype))

    def forward(self, features: Tensor) -> Tensor:
        """(B, …) to logits (B, outputs)."""
        logits: Tensor = self.scale * self.head(features)
        return logits


@torch.no_grad()
def folded(scaled: Scaled, last: nn.Linear) -> nn.Module:
    """The head with the factors in its last layer; gives the same logits."""
    last.weight.mul_(scaled.scale[:, None])
    last.bias.mul_(scaled.scale)
    return scaled.head
