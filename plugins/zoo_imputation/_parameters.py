"""What each imputer can be told."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal


def _trained(default: Any, trial: Any) -> Any:
    """A field with this default, and with another value for the checks, which are to take seconds."""
    return field(default=default, metadata={"trial": trial})


def _positive(**numbers: float) -> None:
    for name, number in numbers.items():
        if not (number > 0 and math.isfinite(number)):
            raise ValueError(f"{name} must be positive, not {number}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Constant:
    """What stands in every hole: a number in the column's unit; a category, or the most frequent one."""

    value: float = 0.0
    category: str | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"value must be finite, not {self.value}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Knn:
    """Number of neighbours, and whether they count alike (uniform) or by their distance."""

    k: int = 5
    weights: Literal["uniform", "distance"] = "uniform"

    def __post_init__(self) -> None:
        _positive(k=self.k)


@dataclass(frozen=True, kw_only=True, slots=True)
class Iterative:
    """Most rounds, and the share of the largest value that no row may move by any more."""

    rounds: int = 10
    tol: float = 1e-3

    def __post_init__(self) -> None:
        _positive(rounds=self.rounds, tol=self.tol)


@dataclass(frozen=True, kw_only=True, slots=True)
class MissForest:
    """Trees of each forest, most rounds, and the least number of rows in a leaf."""

    trees: int = _trained(30, 4)
    rounds: int = 10
    leaf: int = 3

    def __post_init__(self) -> None:
        _positive(trees=self.trees, rounds=self.rounds, leaf=self.leaf)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """Steps of training, rows of each, share of the mask that is hinted at, and weight of the squared error."""

    steps: int = _trained(3000, 20)
    batch: int = _trained(128, 16)
    hint: float = 0.9
    alpha: float = 100.0

    def __post_init__(self) -> None:
        _positive(steps=self.steps, batch=self.batch, alpha=self.alpha)
        if not 0.0 < self.hint <= 1.0:
            raise ValueError(f"hint must lie in (0, 1], not {self.hint}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Miwae:
    """Steps of training, widths of the code and of the hidden layers, samples of its bound, and draws for filling."""

    steps: int = _trained(1000, 5)
    latent: int = _trained(10, 2)
    hidden: int = _trained(128, 8)
    samples: int = _trained(20, 3)
    draws: int = _trained(200, 7)

    def __post_init__(self) -> None:
        _positive(steps=self.steps, latent=self.latent, hidden=self.hidden, samples=self.samples, draws=self.draws)


@dataclass(frozen=True, kw_only=True, slots=True)
class Inpaint:
    """Radius in pixels of the neighbourhood that fills each pixel."""

    radius: float = 3.0

    def __post_init__(self) -> None:
        _positive(radius=self.radius)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mae:
    """Steps of training, side in pixels that images are shrunk to, and the network's size.

    `patch` is the side of a patch in pixels, `width` and `depth` are of the encoder, and `masked` is the share of the
    patches that each step hides.
    """

    steps: int = _trained(400, 4)
    side: int = _trained(96, 16)
    patch: int = 8
    width: int = _trained(96, 16)
    depth: int = _trained(3, 1)
    masked: float = 0.6

    def __post_init__(self) -> None:
        _positive(steps=self.steps, side=self.side, patch=self.patch, width=self.width, depth=self.depth)
        if self.side % self.patch:
            raise ValueError(f"side must be a multiple of patch, not {self.side} of {self.patch}")
        if self.width % 4:
            raise ValueError(f"width must be a multiple of 4, not {self.width}")
        if not 0.0 < self.masked < 1.0:
            raise ValueError(f"masked must lie in (0, 1), not {self.masked}")
