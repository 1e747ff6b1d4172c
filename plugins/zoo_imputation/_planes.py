"""What imputers of pixels share: which channels they were fitted on, and planes filled one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.specs import ImageRows, TrainImages, TrainView

Plane = NDArray[Any]
Mask = NDArray[np.bool_]
Arrays = Mapping[str, NDArray[np.generic]]
FillPlane = Callable[[Plane, Mask], Plane]
"""From a channel (H, W), 0 at its holes, and the holes to values for them; called where some pixel is known."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Channels:
    """The channels that an imputer was fitted on.

    Attributes:
        names: in order.
        means: float64 (C,), of the known pixels of the training rows, in raw units.
    """

    names: tuple[str, ...]
    means: NDArray[np.float64]

    def check(self, images: ImageRows) -> None:
        """Refuse images of other channels.

        Raises:
            ValueError: names both.
        """
        if images.channels != self.names:
            raise ValueError(f"the imputer was fitted on channels {self.names}, not {images.channels}")

    def save(self) -> tuple[dict[str, NDArray[np.generic]], dict[str, Any]]:
        """Arrays and JSON values that `load_channels` takes back."""
        return {"means": self.means}, {"channels": list(self.names)}


def load_channels(arrays: Arrays, values: Mapping[str, Any]) -> Channels:
    """The inverse of `Channels.save`."""
    return Channels(names=tuple(values["channels"]), means=arrays["means"].astype(np.float64, copy=False))


def training_images(view: TrainView) -> TrainImages:
    """The images of the training rows.

    Raises:
        ValueError: the view has none.
    """
    if view.images is None or not len(view.images):
        raise ValueError("there are no images to learn from")
    return view.images


def learn_channels(view: TrainView) -> Channels:
    """Names and means of the channels, over the pixels that are known.

    Raises:
        ValueError: there are no images, or no training row knows a pixel of a channel.
    """
    images = training_images(view)
    sums, counts = np.zeros(len(images.channels)), np.zeros(len(images.channels))
    for part in images.batches():
        sums += np.where(part.missing, 0.0, part.values).sum(axis=(0, 2, 3), dtype=np.float64)
        counts += (~part.missing).sum(axis=(0, 2, 3))
    lost = [name for name, count in zip(images.channels, counts, strict=True) if not count]
    if lost:
        raise ValueError(f"no pixel of channel {', '.join(lost)} is known in the training rows; leave it out")
    return Channels(names=images.channels, means=sums / counts)


def as_dtype(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Values in the images' own dtype, rounded and cut off where that holds whole numbers."""
    if dtype == np.uint8:
        return np.asarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
    return np.asarray(values.astype(dtype))


def fill_planes(images: ImageRows, channels: Channels, fill: FillPlane) -> ImageRows:
    """Each channel of each image with its holes filled by itself; one without any known pixel gets its mean.

    A channel that equals the one before it, as in a grey picture of three, is filled once.
    """
    channels.check(images)
    values = images.values.copy()
    for row in range(len(images)):
        before: tuple[Plane, Mask, Plane] | None = None
        for place, mean in enumerate(channels.means):
            mask = images.missing[row, place]
            if not mask.any():
                continue
            if mask.all():
                values[row, place] = as_dtype(np.array(mean), values.dtype)
                continue
            plane = np.where(mask, 0, images.values[row, place]).astype(values.dtype)
            if before is not None and np.array_equal(before[1], mask) and np.array_equal(before[0], plane):
                filled = before[2]
            else:
                filled = as_dtype(fill(plane, mask), values.dtype)
            before = plane, mask, filled
            values[row, place][mask] = filled[mask]
    return dataclasses.replace(images, values=values)
