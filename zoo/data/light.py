"""The `light` preset: all that it changes is done to a whole batch at once, where the images are."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.data.hashing import numbers_of_images
from zoo.data.warp import WINDOWS, means, noise, warp


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """What was drawn for B images, float64 (B,) each.

    Attributes:
        across, down: -1 where the image is mirrored left and right, or top and bottom; else 1.
        side: of the window, as a share of the image's.
        x, y: the window's centre, in units of half the image's width and height from its centre.
        angle: in radians; the image turns counter-clockwise.
        brightness, contrast: factors.
        noise: standard deviation in levels of 255; negative where the bank's noise is taken with its sign turned.
        window: where in the bank the noise starts, a whole number.
    """

    across: NDArray[np.float64]
    down: NDArray[np.float64]
    side: NDArray[np.float64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    angle: NDArray[np.float64]
    brightness: NDArray[np.float64]
    contrast: NDArray[np.float64]
    noise: NDArray[np.float64]
    window: NDArray[np.float64]


_PURPOSES = (*(field.name for field in dataclasses.fields(Draws)), "sign")


@dataclass(frozen=True, kw_only=True, slots=True)
class Light:
    """Mirrors, crops, turns, brightens and adds noise, in this order; `light` in the grammar.

    Attributes:
        flip: mirror left and right in half of the views.
        vertical: mirror top and bottom in half of the views; for images without an upside, as from above.
        crop: smallest share of the image's area that is kept, in (0, 1]. The share is uniform in [crop, 1], the window
            keeps the image's proportions, lies anywhere in it and is enlarged to its full size. After the scale
            augmentation of Szegedy et al. 2015 ("Going deeper with convolutions"), which goes down to 0.08.
        rotate: largest turn in degrees, in [0, 180], uniform in both directions about the window's centre. What comes
            from outside the image is its reflection.
        brightness: the values are multiplied by a factor uniform in [1 - brightness, 1 + brightness], in [0, 1].
        contrast: their distances from the mean of the whole image are multiplied by a factor uniform in
            [1 - contrast, 1 + contrast], in [0, 1]. Both as torchvision's `ColorJitter`, but clipped once, at the end.
        noise: largest standard deviation of Gaussian noise, independent by pixel and channel, as a share of full
            scale, in [0, 1]; an image's own is uniform in [0, noise].
    """

    name: ClassVar[str] = "light"
    flip: bool = True
    vertical: bool = False
    crop: float = 0.7
    rotate: float = 10.0
    brightness: float = 0.2
    contrast: float = 0.2
    noise: float = 0.02

    def __post_init__(self) -> None:
        if not 0 < self.crop <= 1:
            raise ValueError(f"crop is the smallest share of the area that is kept, in (0, 1], not {self.crop}")
        if not 0 <= self.rotate <= 180:
            raise ValueError(f"rotate is the largest turn in degrees, in [0, 180], not {self.rotate}")
        for name in ("brightness", "contrast", "noise"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], not {getattr(self, name)}")

    def draw(self, seed: int, keys: NDArray[np.uint8], views: int | NDArray[np.int64]) -> Draws:
        """Draw for images of these content keys, uint8 (B, 16), and views, one for all or int64 (B,).

        Raises:
            ValueError: keys of another shape, or a negative view.
        """
        drawn = numbers_of_images(seed, _PURPOSES, keys, views)
        spread = {name: 2 * numbers - 1 for name, numbers in drawn.items()}
        side = np.sqrt(1 - (1 - self.crop) * drawn["side"])
        return Draws(
            across=np.where(self.flip & (drawn["across"] < 0.5), -1.0, 1.0),
            down=np.where(self.vertical & (drawn["down"] < 0.5), -1.0, 1.0),
            side=side,
            x=spread["x"] * (1 - side),
            y=spread["y"] * (1 - side),
            angle=spread["angle"] * math.radians(self.rotate),
            brightness=1 + spread["brightness"] * self.brightness,
            contrast=1 + spread["contrast"] * self.contrast,
            noise=np.where(drawn["sign"] < 0.5, -255.0, 255.0) * self.noise * drawn["noise"],
            window=np.floor(drawn["window"] * WINDOWS),
        )

    def __call__(self, images: Tensor, seed: int, keys: NDArray[np.uint8], views: NDArray[np.int64]) -> Tensor:
        """A view of each image (B, C, H, W) with any number of channels; see `Augmenter`."""
        height, width = images.shape[2:]
        numbers = _packed(self.draw(seed, keys, views), height / width, images.device)
        # `_apply` writes to what it gets.
        shown = self._apply(images.float() if images.dtype == torch.uint8 else images.clone(), numbers)
        return shown.round_().clamp_(0, 255).to(torch.uint8) if images.dtype == torch.uint8 else shown

    def move(self, masks: Tensor, seed: int, keys: NDArray[np.uint8], views: NDArray[np.int64]) -> Tensor:
        """Masks, bool (B, C, H, W), where the view has what they mark: half of it, where it lies between pixels."""
        height, width = masks.shape[2:]
        numbers = _packed(self.draw(seed, keys, views), height / width, masks.device)
        return warp(masks.float(), numbers[:, :6]) >= 0.5

    def _apply(self, values: Tensor, numbers: Tensor) -> Tensor:
        """Values (B, C, H, W) float32 in levels of 255 after everything, by numbers (B, 10)."""
        gain, shift = numbers[:, 6], numbers[:, 7] * means(values)
        if self.flip or self.vertical or self.crop < 1 or self.rotate:
            values = warp(values, numbers[:, :6])
        values.mul_(gain.view(-1, 1, 1, 1)).add_(shift.view(-1, 1, 1, 1))
        if self.noise:
            values.add_(noise(numbers[:, 9], values.shape) * numbers[:, 8].view(-1, 1, 1, 1))
        return values

    def describe(self) -> dict[str, object]:
        """JSON values that say all that it does."""
        return dataclasses.asdict(self)


def _packed(draws: Draws, ratio: float, device: torch.device) -> Tensor:
    """What the device needs, float32 (B, 10), in one copy: an affine map's rows, gain, shift, noise, window.

    The map goes from where a pixel comes to lie to where it comes from, both in [-1, 1]: mirror, turn, shrink, move.
    `ratio` is height over width, without which a turn would shear an image that is not square.
    """
    cos, sin = draws.side * np.cos(draws.angle), draws.side * np.sin(draws.angle)
    columns = [cos * draws.across, -sin * draws.down * ratio, draws.x]
    columns += [sin * draws.across / ratio, cos * draws.down, draws.y]
    # contrast * (brightness * v - brightness * mean) + brightness * mean = gain * v + shift * mean
    columns += [draws.brightness * draws.contrast, draws.brightness * (1 - draws.contrast)]
    columns += [draws.noise, draws.window]
    numbers = torch.from_numpy(np.stack(columns, axis=1).astype(np.float32))
    if device.type == "cuda":
        numbers = numbers.pin_memory()
    return numbers.to(device, non_blocking=True)
