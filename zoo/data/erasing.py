"""Augmentation that prepares for holes: boxes erased, noise, single pixels lost."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.data.hashing import numbers_of_images
from zoo.data.warp import WINDOWS, noise

_DEVIATION = 58.0
"""Of boxes filled with noise, in levels of 255: about one deviation of ImageNet's pixels, as torchvision has it."""


def _in_levels(values: Tensor, like: Tensor) -> Tensor:
    """Values in the dtype of `like`; whole and within 0 to 255 where that is uint8."""
    return values.round_().clamp_(0, 255).to(torch.uint8) if like.dtype == torch.uint8 else values


def _channel_means(values: Tensor) -> Tensor:
    """Of each image and channel, float32 (B, C, 1, 1); summed so that the batch does not matter."""
    rows = values.sum(dim=3).double().sum(dim=2)
    return (rows / (values.shape[2] * values.shape[3])).float()[..., None, None]


def _column(numbers: NDArray[np.float64], device: torch.device) -> Tensor:
    return torch.from_numpy(numbers.astype(np.float32)).to(device).view(-1, 1, 1, 1)


class _Still:
    """What moves no pixel leaves a mask where it is."""

    __slots__ = ()

    def move(self, masks: Tensor, seed: int, keys: NDArray[np.uint8], views: NDArray[np.int64]) -> Tensor:
        """The same masks (B, C, H, W)."""
        del seed, keys, views
        return masks


@dataclass(frozen=True, kw_only=True, slots=True)
class Erase(_Still):
    """Erases a box of some of the images (Zhong et al. 2020, "Random erasing data augmentation").

    Attributes:
        p: share of the views in which a box is erased.
        smallest, largest: shares of the area that a box covers, uniform between them.
        ratio: smallest ratio of height to width, at most 1; drawn evenly in its logarithm up to the reciprocal.
        value: what stands there then: the image's own mean by channel, `noise`, or `black`.
    """

    name: ClassVar[str] = "erase"
    p: float = 0.5
    smallest: float = 0.02
    largest: float = 0.33
    ratio: float = 0.3
    value: Literal["mean", "noise", "black"] = "mean"

    def __post_init__(self) -> None:
        if not 0 < self.p <= 1:
            raise ValueError(f"p is the share of the views, in (0, 1], not {self.p}")
        if not 0 < self.smallest <= self.largest <= 1:
            raise ValueError(f"0 < smallest <= largest <= 1, not {self.smallest} and {self.largest}")
        if not 0 < self.ratio <= 1:
            raise ValueError(f"ratio must be in (0, 1], not {self.ratio}")

    def boxes(
        self, seed: int, keys: NDArray[np.uint8], views: NDArray[np.int64], size: tuple[int, int]
    ) -> NDArray[np.int64]:
        """Top, left, bottom and right of each image's box, int64 (B, 4); an empty one where nothing is erased."""
        purposes = [f"erase {each}" for each in ("chance", "area", "ratio", "top", "left")]
        chance, area, ratio, top, left = numbers_of_images(seed, purposes, keys, views).values()
        covered = (self.smallest + (self.largest - self.smallest) * area) * size[0] * size[1]
        shape = np.exp((2 * ratio - 1) * math.log(self.ratio))
        height = np.clip(np.rint(np.sqrt(covered * shape)), 1, size[0]) * (chance < self.p)
        width = np.clip(np.rint(np.sqrt(covered / shape)), 1, size[1])
        first = np.floor(top * (size[0] - height + 1)), np.floor(left * (size[1] - width + 1))
        return np.stack([*first, first[0] + height, first[1] + width], axis=1).astype(np.int64)

    def __call__(self, images: Tensor, seed: int, keys: NDArray[np.uint8], views: NDArray[np.int64]) -> Tensor:
        """A view of each image (B, C, H, W) with any number of channels; see `Augmenter`."""
        height, width = images.shape[2:]
        boxes = torch.from_numpy(self.boxes(seed, keys, views, (height, width))).to(images.device)
        top, left, bottom, right = (edge.view(-1, 1, 1) for edge in boxes.unbind(1))
        y = torch.arange(height, device=images.device).view(1, -1, 1)
        x = torch.arange(width, device=images.device).view(1, 1, -1)
        inside = ((y >= top) & (y < bottom) & (x >= left) & (x < right))[:, None]
        return torch.where(inside, self._filling(images, seed, keys, views), images)

    def _filling(self, images: Tensor, seed: int, keys: NDArray[np.uint8], views: NDArray[np.int64]) -> Tensor:
        if self.value == "black":
            return torch.zeros_like(images)
        means = _channel_means(images.float())
        if self.value == "mean":
            return _in_levels(means, images).expand_as(images)
        (start,) = numbers_of_images(seed, ["erase window"], keys, views).values()
        windows = _column(np.floor(start * WINDOWS), images.device).view(-1)
        return _in_levels(noise(windows, images.shape) * _DEVIATION + means, images)

    def describe(self) -> dict[str, object]:
        """JSON values that say all that it does."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Noise(_Still):
    """Adds Gaussian noise, and loses single pixels.

    Attributes:
        std: largest standard deviation, independent by pixel and channel, as a share of full scale, in [0, 1]; an
            image's own is uniform in [0, std].
        lost: largest share of the pixels that get the image's mean in every channel, in [0, 1); its own is uniform in
            [0, lost].
    """

    name: ClassVar[str] = "noise"
    std: float = 0.1
    lost: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.std <= 1:
            raise ValueError(f"std must be in [0, 1], not {self.std}")
        if not 0 <= self.lost < 1:
            raise ValueError(f"lost must be in [0, 1), not {self.lost}")
        if self.std == self.lost == 0:
            raise ValueError("noise without std and lost changes nothing; leave it out")

    def __call__(self, images: Tensor, seed: int, keys: NDArray[np.uint8], views: NDArray[np.int64]) -> Tensor:
        """A view of each image (B, C, H, W) with any number of channels; see `Augmenter`."""
        purposes = [f"noise {each}" for each in ("std", "window", "share", "places")]
        std, window, share, places = numbers_of_images(seed, purposes, keys, views).values()
        values, device = images.float(), images.device
        if self.lost:
            shape = torch.Size((len(images), 1, *images.shape[2:]))
            drawn = noise(_column(np.floor(places * WINDOWS), device).view(-1), shape)
            below = torch.special.ndtri(_column(self.lost * share, device))
            values = torch.where(drawn < below, _channel_means(values), values)
        if self.std:
            added = noise(_column(np.floor(window * WINDOWS), device).view(-1), images.shape)
            values = values + added * (255.0 * _column(self.std * std, device))
        return _in_levels(values.clone(), images)

    def describe(self) -> dict[str, object]:
        """JSON values that say all that it does."""
        return dataclasses.asdict(self)
