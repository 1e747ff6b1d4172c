"""Augmentation in batches, where the images are; what an image becomes depends on (seed, view, content) alone."""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.data.hashing import hashed, salt, uniform
from zoo.data.warp import WINDOWS, means, noise, warp
from zoo.errors import OptionError
from zoo.specs import NoParameters, bind, parse_options

AUGMENT_VERSION = 1
"""Raised by one whenever the same (seed, view, content) would give other pixels; part of the key of cached features."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """What happens to an image, in this order; the parameters of `light`.

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


PRESETS: dict[str, type[NoParameters] | type[Augmentation]] = {"none": NoParameters, "light": Augmentation}


def parse_augmentation(text: str) -> Augmentation | None:
    """Parse `none`, `light` or `light(flip=false, crop=0.5, …)`; None for `none`.

    Raises:
        OptionError: another name, several joined with `+`, or parameters that the preset refuses.
    """
    names = " and ".join(PRESETS)
    calls = parse_options(text)
    if len(calls) > 1:
        raise OptionError(f"there is one augmentation at a time, of {names}", text=text, column=calls[1].column)
    call = calls[0]
    if call.name not in PRESETS:
        close = difflib.get_close_matches(call.name, PRESETS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        call.fail(f"unknown augmentation {call.name!r}; there are {names}{hint}")
    found: NoParameters | Augmentation = bind(call, PRESETS[call.name])
    return found if isinstance(found, Augmentation) else None


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


@dataclass(frozen=True, slots=True)
class Augmenter:
    """Makes views of images. `Augmenter(parse_augmentation("light"), seed=0)(images, keys, view=3)`.

    Attributes:
        parameters: what happens.
        seed: other seeds, other views; any integer.
    """

    parameters: Augmentation
    seed: int

    def draw(self, keys: NDArray[np.uint8], view: int | NDArray[np.int64]) -> Draws:
        """Draw for images of these content keys, uint8 (B, 16), and a view's number, one for all or int64 (B,).

        Raises:
            ValueError: keys of another shape, or a negative view.
        """
        if keys.dtype != np.uint8 or keys.shape[1:] != (16,):
            raise ValueError(f"keys must be uint8 (B, 16), not {keys.dtype} {keys.shape}")
        views = np.broadcast_to(np.asarray(view, dtype=np.int64), (len(keys),))
        if (views < 0).any():
            raise ValueError(f"views are numbered from 0, not {views.min()}")
        salts = np.stack([salt(self.seed, f"augment {purpose}") for purpose in _PURPOSES])
        halves = np.ascontiguousarray(keys).view("<u8").astype(np.uint64)
        words = hashed(salts, views.astype(np.uint64)[None], halves[None, :, 0], halves[None, :, 1])
        return self._scaled(dict(zip(_PURPOSES, uniform(words), strict=True)))

    def _scaled(self, drawn: dict[str, NDArray[np.float64]]) -> Draws:
        """From numbers in [0, 1) to what they stand for."""
        own = self.parameters
        spread = {name: 2 * numbers - 1 for name, numbers in drawn.items()}
        side = np.sqrt(1 - (1 - own.crop) * drawn["side"])
        return Draws(
            across=np.where(own.flip & (drawn["across"] < 0.5), -1.0, 1.0),
            down=np.where(own.vertical & (drawn["down"] < 0.5), -1.0, 1.0),
            side=side,
            x=spread["x"] * (1 - side),
            y=spread["y"] * (1 - side),
            angle=spread["angle"] * math.radians(own.rotate),
            brightness=1 + spread["brightness"] * own.brightness,
            contrast=1 + spread["contrast"] * own.contrast,
            noise=np.where(drawn["sign"] < 0.5, -255.0, 255.0) * own.noise * drawn["noise"],
            window=np.floor(drawn["window"] * WINDOWS),
        )

    @torch.no_grad()
    def __call__(self, images: Tensor, keys: NDArray[np.uint8], view: int | NDArray[np.int64]) -> Tensor:
        """A view of each image.

        Args:
            images: uint8 (B, C, H, W), on any device.
            keys: uint8 (B, 16), what tells images apart: the digests of their files.
            view: the view's number, one for all or int64 (B,).

        Returns:
            uint8 (B, C, H, W), on the device of `images`. The same image, view and seed give the same pixels in
            whatever batch, and within a level on whatever device.

        Raises:
            ValueError: images or keys of another kind, or a negative view.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or len(images) != len(keys):
            raise ValueError(
                f"images must be uint8 (B, C, H, W) with B keys, not {images.dtype} {tuple(images.shape)} "
                f"with {len(keys)}"
            )
        if not len(images):
            return images.clone()
        height, width = images.shape[2:]
        numbers = _packed(self.draw(keys, view), height / width, images.device)
        return self._apply(images.float(), numbers).round_().clamp_(0, 255).to(torch.uint8)

    def _apply(self, values: Tensor, numbers: Tensor) -> Tensor:
        """Values (B, C, H, W) float32 in levels of 255 after everything, by numbers (B, 10)."""
        own = self.parameters
        gain, shift = numbers[:, 6], numbers[:, 7] * means(values)
        if own.flip or own.vertical or own.crop < 1 or own.rotate:
            values = warp(values, numbers[:, :6])
        values.mul_(gain.view(-1, 1, 1, 1)).add_(shift.view(-1, 1, 1, 1))
        if own.noise:
            values.add_(noise(numbers[:, 9], values.shape) * numbers[:, 8].view(-1, 1, 1, 1))
        return values

    def describe(self, view: int) -> dict[str, object]:
        """JSON values that say all that this view's pixels depend on beside the decoded image."""
        parameters = dataclasses.asdict(self.parameters)
        return {"augmentation": "light", "version": AUGMENT_VERSION, **parameters, "seed": self.seed, "view": view}


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
