"""Generators: what makes rows of features, or pictures, that no camera took, class by class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol

from zoo.specs.binding import NoParameters
from zoo.specs.records import API_VERSION, check_record

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class FittedGenerator(Protocol):
    """What a generator learned from training rows."""

    def sample(self, label: int, count: int, generator: torch.Generator) -> Tensor:
        """New rows float32 of the class `label`, (count, D) or (count, C, side, side); `generator` decides them."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratorRecord:
    """Something that learns the distribution of features, or of pictures, class by class, and draws from it.

    Attributes:
        name: as in `--imbalance "synthetic(generator=vae)"`.
        fit: `(rows, labels, classes, parameters, generator) -> fitted`: standardised features float32 (N, D) of
            training rows alone, or their pictures float32 (N, C, side, side) in [0, 1]; their labels int64 (N,), and
            how many classes there are, some of which may have no row. A `ValueError` from it is shown to the user as
            his mistake.
        makes: `features`, or `images`; then the parameters have a field `side`, in pixels, of the pictures it takes and
            makes.
        parameters: the dataclass that its options are bound to.
        summary: a line about it.
    """

    name: str
    fit: Callable[[Tensor, Tensor, int, Any, torch.Generator], FittedGenerator]
    makes: Literal["features", "images"] = "features"
    parameters: type = NoParameters
    summary: str = ""
    api: int = API_VERSION

    def __post_init__(self) -> None:
        check_record("generator", self.name, self.api, self.parameters)
        if self.makes not in ("features", "images"):
            raise ValueError(f"generator {self.name!r} makes {self.makes!r}; a generator makes features or images")
        if self.makes == "images" and "side" not in {field.name for field in fields(self.parameters)}:
            raise ValueError(f"generator {self.name!r} makes images; its parameters need a field side, in pixels")
