"""The operations that AutoAugment, RandAugment and TrivialAugment choose from, by torchvision's transforms v2.

Which operation with which magnitude an image gets is decided elsewhere; nothing here is random.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from zoo.data.warp import means
from zoo.errors import ZooError

Space = Literal["narrow", "wide"]
"""Magnitudes of AutoAugment and RandAugment, or the larger ones of TrivialAugment."""


def _sheared(images: Tensor, across: float, down: float) -> Tensor:
    # As in the papers a magnitude is the slope, and the map's fixed point the upper left corner.
    shear = [math.degrees(math.atan(across)), math.degrees(math.atan(down))]
    return F.affine(images, angle=0.0, translate=[0, 0], scale=1.0, shear=shear, center=[0, 0])  # type: ignore[no-any-return]


def _moved(images: Tensor, across: float, down: float) -> Tensor:
    return F.affine(images, angle=0.0, translate=[int(across), int(down)], scale=1.0, shear=[0.0, 0.0])  # type: ignore[no-any-return]


def _contrasted(images: Tensor, factor: float) -> Tensor:
    """As `adjust_contrast`, whose mean above 256 x 256 pixels depends on the order in which they are added up."""
    grey = means(F.rgb_to_grayscale(images).float()).view(-1, 1, 1, 1)
    return images.mul(factor).add_(grey, alpha=1.0 - factor).clamp_(0, 255).to(torch.uint8)


OPERATIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "Identity": lambda images, _: images,
    "ShearX": lambda images, slope: _sheared(images, slope, 0.0),
    "ShearY": lambda images, slope: _sheared(images, 0.0, slope),
    "TranslateX": lambda images, pixels: _moved(images, pixels, 0.0),
    "TranslateY": lambda images, pixels: _moved(images, 0.0, pixels),
    "Rotate": lambda images, degrees: F.rotate(images, degrees),
    "Brightness": lambda images, change: F.adjust_brightness(images, 1.0 + change),
    "Color": lambda images, change: F.adjust_saturation(images, 1.0 + change),
    "Contrast": lambda images, change: _contrasted(images, 1.0 + change),
    "Sharpness": lambda images, change: F.adjust_sharpness(images, 1.0 + change),
    "Posterize": lambda images, bits: F.posterize(images, int(bits)),
    "Solarize": lambda images, threshold: F.solarize(images, 255.0 * threshold),
    "AutoContrast": lambda images, _: F.autocontrast(images),
    "Equalize": lambda images, _: F.equalize(images),
    "Invert": lambda images, _: F.invert(images),
}
"""What each does to uint8 (B, 1 or 3, H, W). As is torchvision's default, sampling is nearest, and what comes from
outside is black."""

NAMES = tuple(OPERATIONS)
INDEX = {name: index for index, name in enumerate(NAMES)}
COMMON = np.arange(INDEX["Invert"])
"""Indices of the fourteen that RandAugment and TrivialAugment choose from: all but Invert."""

_MOVING = np.array([INDEX[name] for name in ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")])
_DIRECTED = "ShearX ShearY TranslateX TranslateY Rotate Brightness Color Contrast Sharpness"
_SIGNED = np.isin(NAMES, _DIRECTED.split())
"""Which have two directions."""


@functools.lru_cache(maxsize=16)
def _levels(space: Space, bins: int, height: int, width: int) -> NDArray[np.float64]:
    """Magnitudes (operations, bins), unsigned, of images of this size; zero where an operation takes none."""
    wide = space == "wide"
    across, down = (32.0, 32.0) if wide else (150.0 / 331.0 * width, 150.0 / 331.0 * height)
    shear, blend = (0.99, 0.99) if wide else (0.3, 0.9)
    ends = {"ShearX": (0.0, shear), "ShearY": (0.0, shear), "TranslateX": (0.0, across), "TranslateY": (0.0, down)}
    ends |= {"Rotate": (0.0, 135.0 if wide else 30.0), "Posterize": (8.0, 2.0 if wide else 4.0), "Solarize": (1.0, 0.0)}
    ends |= dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), (0.0, blend))
    # In float32 as torchvision has them: an operation cuts fractions off, so that the last bit counts.
    table = torch.stack([torch.linspace(*ends.get(name, (0.0, 0.0)), bins) for name in NAMES])
    table[INDEX["Posterize"]].round_()
    return table.double().numpy()


def magnitudes(
    space: Space,
    bins: int,
    size: tuple[int, int],
    operations: NDArray[np.int64],
    levels: NDArray[np.int64] | int,
    negative: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """The magnitude (B,) of each image's operation.

    Args:
        space: which magnitudes there are.
        bins: how many levels they are divided into.
        size: height and width of the images, of which translations are a share in the narrow space.
        operations: indices into `NAMES`, (B,).
        levels: from 0 to bins - 1, (B,) or one for all.
        negative: whether the magnitude's sign is turned where the operation has two directions, (B,).
    """
    strengths: NDArray[np.float64] = _levels(space, bins, *size)[operations, levels]
    return strengths * np.where(negative & _SIGNED[operations], -1.0, 1.0)


def operate(images: Tensor, operations: NDArray[np.int64], magnitudes: NDArray[np.float64]) -> Tensor:
    """Images uint8 (B, 1 or 3, H, W) after an operation each: indices into `NAMES` (B,), and magnitudes (B,).

    Images that get the same are computed together; an image's pixels do not depend on which those are.

    Raises:
        ZooError: another number of channels, or raw units.
    """
    if images.shape[1] not in (1, 3) or images.dtype != torch.uint8:
        kind = "8 bits" if images.dtype == torch.uint8 else "raw units"
        raise ZooError(
            "randaugment, autoaugment and trivialaugment take images of 8 bits and 1 or 3 channels, not of "
            f"{kind} and {images.shape[1]}; say --augment light"
        )
    return _grouped(images, operations, magnitudes)


def move(masks: Tensor, operations: NDArray[np.int64], magnitudes: NDArray[np.float64]) -> Tensor:
    """Masks, bool (B, C, H, W), after the same operations, of which only those move them that move pixels."""
    still = ~np.isin(operations, _MOVING)
    kept = np.where(still, INDEX["Identity"], operations), np.where(still, 0.0, magnitudes)
    return _grouped(masks.to(torch.uint8), *kept).bool()


def _grouped(images: Tensor, operations: NDArray[np.int64], magnitudes: NDArray[np.float64]) -> Tensor:
    kinds, group, counts = np.unique(
        np.stack([operations, magnitudes]), axis=1, return_inverse=True, return_counts=True
    )
    order = torch.from_numpy(np.argsort(group.reshape(-1), kind="stable")).to(images.device)
    grouped = torch.split(images[order], counts.tolist())
    changed = [
        OPERATIONS[NAMES[int(operation)]](alike, float(magnitude))
        for (operation, magnitude), alike in zip(kinds.T, grouped, strict=True)
    ]
    shown = torch.empty_like(images)
    shown[order] = torch.cat(changed)
    return shown
