"""Published augmentation policies; what each image gets is drawn by its content, the view and the seed alone.

Operations and magnitudes are torchvision's. Its transforms draw from the process's one generator, so that what an image
gets would depend on all that was drawn before it; here each draw is a hash of what it is for.
"""

from __future__ import annotations

import abc
import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torchvision
from numpy.typing import NDArray
from torch import Tensor

from zoo.data.autoaugment import LEVELS, policies
from zoo.data.hashing import numbers_of_images
from zoo.data.operations import COMMON, INDEX, magnitudes, move, operate

Operations = tuple[NDArray[np.int64], NDArray[np.float64]]
"""An operation for each of B images, indices into `NAMES` (B,), and their magnitudes (B,)."""

BINS = 31
"""Magnitudes of RandAugment and TrivialAugment, from none to the strongest."""


class _Policy(abc.ABC):
    """A few operations for each view, one after the other."""

    __slots__ = ()
    name: ClassVar[str]

    @abc.abstractmethod
    def draw(
        self, seed: int, keys: NDArray[np.uint8], views: int | NDArray[np.int64], size: tuple[int, int]
    ) -> list[Operations]:
        """Draw for images of these content keys, uint8 (B, 16), views, one for all or int64 (B,), and (H, W)."""

    def __call__(self, images: Tensor, seed: int, keys: NDArray[np.uint8], views: NDArray[np.int64]) -> Tensor:
        """A view of each image, uint8 (B, 1 or 3, H, W); see `Augmenter`."""
        height, width = images.shape[2:]
        for operations, strengths in self.draw(seed, keys, views, (height, width)):
            images = operate(images, operations, strengths)
        return images

    def move(self, masks: Tensor, seed: int, keys: NDArray[np.uint8], views: NDArray[np.int64]) -> Tensor:
        """Masks, bool (B, C, H, W), where the view has what they mark; what comes from outside is not marked."""
        height, width = masks.shape[2:]
        for operations, strengths in self.draw(seed, keys, views, (height, width)):
            masks = move(masks, operations, strengths)
        return masks

    def describe(self) -> dict[str, object]:
        """JSON values that say all that it does."""
        return {**dataclasses.asdict(self), "torchvision": torchvision.__version__}  # type: ignore[call-overload]

    def _numbers(
        self, seed: int, purposes: list[str], keys: NDArray[np.uint8], views: int | NDArray[np.int64]
    ) -> list[NDArray[np.float64]]:
        """Numbers in [0, 1) of this policy's own, (B,) for each purpose."""
        return list(numbers_of_images(seed, [f"{self.name} {each}" for each in purposes], keys, views).values())


@dataclass(frozen=True, kw_only=True, slots=True)
class RandAugment(_Policy):
    """Each view gets `n` of fourteen operations at one magnitude (Cubuk et al. 2020, "RandAugment").

    Attributes:
        n: operations, at least 1; each is drawn from all fourteen, one of which changes nothing.
        m: magnitude from 0 to 30. Signs are drawn where an operation has two directions.
    """

    name: ClassVar[str] = "randaugment"
    n: int = 2
    m: int = 9

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n is the number of operations, at least 1, not {self.n}")
        if not 0 <= self.m < BINS:
            raise ValueError(f"m is the magnitude, from 0 to {BINS - 1}, not {self.m}")

    def draw(
        self, seed: int, keys: NDArray[np.uint8], views: int | NDArray[np.int64], size: tuple[int, int]
    ) -> list[Operations]:
        """`n` operations for each image."""
        found = []
        for each in range(self.n):
            which, sign = self._numbers(seed, [f"operation {each}", f"sign {each}"], keys, views)
            operations = COMMON[(which * len(COMMON)).astype(np.int64)]
            found.append((operations, magnitudes("narrow", BINS, size, operations, self.m, sign < 0.5)))
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class TrivialAugment(_Policy):
    """Each view gets one of fourteen operations at a magnitude of its own (Müller and Hutter 2021, "TrivialAugment").

    The magnitudes are those of its wide space, which reach further than RandAugment's.
    """

    name: ClassVar[str] = "trivialaugment"

    def draw(
        self, seed: int, keys: NDArray[np.uint8], views: int | NDArray[np.int64], size: tuple[int, int]
    ) -> list[Operations]:
        """One operation for each image."""
        which, level, sign = self._numbers(seed, ["operation", "level", "sign"], keys, views)
        operations = COMMON[(which * len(COMMON)).astype(np.int64)]
        levels = (level * BINS).astype(np.int64)
        return [(operations, magnitudes("wide", BINS, size, operations, levels, sign < 0.5))]


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoAugment(_Policy):
    """Each view gets one of 25 pairs of operations found by search (Cubuk et al. 2019, "AutoAugment").

    Attributes:
        policy: the data set on which the pairs were found. Each operation of a pair has a magnitude, and a probability
            with which it acts.
    """

    name: ClassVar[str] = "autoaugment"
    policy: Literal["imagenet", "cifar10", "svhn"] = "imagenet"

    def draw(
        self, seed: int, keys: NDArray[np.uint8], views: int | NDArray[np.int64], size: tuple[int, int]
    ) -> list[Operations]:
        """Two operations for each image, of which each may be the one that changes nothing."""
        table = policies(self.policy)
        (which,) = self._numbers(seed, ["policy"], keys, views)
        pair = (which * len(table.operations)).astype(np.int64)
        found = []
        for each in range(2):
            chance, sign = self._numbers(seed, [f"chance {each}", f"sign {each}"], keys, views)
            acts = chance < table.probabilities[pair, each]
            operations = np.where(acts, table.operations[pair, each], INDEX["Identity"])
            levels = table.levels[pair, each]
            found.append((operations, magnitudes("narrow", LEVELS, size, operations, levels, sign < 0.5)))
        return found
