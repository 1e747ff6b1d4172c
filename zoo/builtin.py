"""What the core offers through the same door as any plugin: the linear head."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.hooks import hookimpl
from zoo.specs import HeadRecord

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True, slots=True)
class Linear:
    """Parameters of the linear head; `dropout` is the share of features dropped in training."""

    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout must lie in [0, 1), not {self.dropout}")


def _build_linear(in_features: int, outputs: int, parameters: Linear) -> nn.Module:
    from torch import nn

    layer = nn.Linear(in_features, outputs)
    # Zero weights give every class the same probability at step 0, whatever the features: no run starts unlucky.
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return nn.Sequential(nn.Dropout(parameters.dropout), layer) if parameters.dropout else layer


@hookimpl
def zoo_heads() -> Iterable[HeadRecord]:
    """The heads of the core."""
    yield HeadRecord(name="linear", build=_build_linear, parameters=Linear, summary="one linear layer (linear probe)")
