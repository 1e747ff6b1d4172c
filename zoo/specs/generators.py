"""Generators: what makes rows of features that no image gave, class by class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from zoo.specs.binding import NoParameters
from zoo.specs.records import API_VERSION, check_record

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class FittedGenerator(Protocol):
    """What a generator learned from the features of training rows."""

    def sample(self, label: int, count: int, generator: torch.Generator) -> Tensor:
        """New features float32 (count, D) of the class `label`; all randomness comes from `generator`."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratorRecord:
    """Something that learns the distribution of features class by class, and draws from it.

    Attributes:
        name: as in `--imbalance "synthetic(generator=vae)"`.
        fit: `(features, labels, classes, parameters, generator) -> fitted`: standardised features float32 (N, D) of
            training rows alone, their labels int64 (N,), and how many classes there are, some of which may have no row.
            A `ValueError` from it is shown to the user as his mistake.
        parameters: the dataclass that its options are bound to.
        summary: a line about it.
    """

    name: str
    fit: Callable[[Tensor, Tensor, int, Any, torch.Generator], FittedGenerator]
    parameters: type = NoParameters
    summary: str = ""
    api: int = API_VERSION

    def __post_init__(self) -> None:
        check_record("generator", self.name, self.api, self.parameters)
