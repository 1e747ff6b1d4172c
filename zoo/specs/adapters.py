"""Low-rank adapters in a freeze policy: their parameters, and which layers of a network take one.

LoRA (Hu, Shen, Wallis, Allen-Zhu, Li, Wang and Chen 2022, "LoRA: Low-Rank Adaptation of Large Language Models") adds to
a frozen matrix W the product (alpha / r) B A of two narrow ones, and trains those. A layer takes adapters

    if it is a linear layer, of attention or of an MLP;
    or a convolution, in a network whose stages hold more numbers in convolutions than in linear layers.

Only layers of exactly torch's classes, because a subclass (standardised weights, padding as in TensorFlow) makes
something of its weight to which a product cannot be merged; no convolution with groups, as depthwise ones, which peft
cannot merge; none with dilation or with a padding other than zeros, which peft's own convolutions would not have.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.specs.views import BackboneView

if TYPE_CHECKING:
    from torch import Tensor, nn

_OWN = re.compile(r"\.lora_[AB]\.[^.]+\.weight$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Lora:
    """The parameters of `lora`.

    Attributes:
        r: rank of the product.
        alpha: the product is scaled by alpha / r.
        dropout: share of a layer's inputs that the product does not see, in training.
    """

    r: int = 8
    alpha: float = 16.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.r < 1:
            raise ValueError(f"r is a rank, at least 1, not {self.r}")
        if not 0 < self.alpha < math.inf:
            raise ValueError(f"alpha is a positive number, not {self.alpha:g}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is a share at least 0 and less than 1, not {self.dropout:g}")


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name is an adapter's."""
    return _OWN.search(name) is not None


def plain_name(name: str) -> str:
    """The name that a parameter has, or that the weight has which it adapts, where no adapter is put in."""
    return _OWN.sub(".weight", name).replace(".base_layer.", ".")


def adapted_names(view: BackboneView) -> frozenset[str]:
    """Names of the adapters' parameters; before any are put in, of the weights that may take one."""
    there = frozenset(name for stage in view.stages for name in stage.parameters if is_adapter(name))
    return there or frozenset(_takers(view))


def adapter_size(weight: Tensor, r: int) -> int:
    """How many numbers the two matrices of rank `r` have beside `weight` (out, in, …)."""
    return r * (weight.numel() // len(weight) + len(weight))


def _plain(part: nn.Conv2d) -> bool:
    return part.groups == 1 and set(part.dilation) == {1} and part.padding_mode == "zeros"


def _takers(view: BackboneView) -> list[str]:
    """Names of the weights of layers that may take adapters, in the order of the network."""
    from torch import nn

    uses = Counter(id(part) for _, part in view.module.named_modules(remove_duplicate=False))
    linear: dict[str, Tensor] = {}
    convolutions: dict[str, Tensor] = {}
    for path, part in view.module.named_modules():
        name = f"{path}.weight"
        if uses[id(part)] > 1 or not path:  # one that stands at two places would be merged at one
            continue
        if type(part) is nn.Linear:
            linear[name] = part.weight
        elif type(part) is nn.Conv2d and _plain(part):
            convolutions[name] = part.weight
    within = {name for stage in view.stages if stage.role == "stage" for name in stage.parameters}
    sizes = [sum(own.numel() for name, own in each.items() if name in within) for each in (linear, convolutions)]
    held = {name for stage in view.stages for name in stage.parameters}
    return [name for name in ({**linear, **convolutions} if sizes[1] > sizes[0] else linear) if name in held]
