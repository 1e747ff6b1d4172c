"""Pixels filled from the pixels around them, or with their channel's mean."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ZooError
from zoo.specs import ImageRows, TrainView
from zoo_imputation._planes import (
    Arrays,
    Channels,
    FillPlane,
    Mask,
    Plane,
    as_dtype,
    fill_planes,
    learn_channels,
    load_channels,
)

Options = Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PlaneFill:
    """Fills each channel by itself.

    Attributes:
        channels: that it was fitted on; a channel of which no pixel is known gets its mean.
        method: name in `METHODS`.
        options: of the method.
    """

    channels: Channels
    method: str
    options: Options = field(default_factory=dict)

    def transform(self, images: ImageRows) -> ImageRows:
        """The same images with every hole filled; what was observed stays bit for bit.

        Raises:
            ValueError: other channels than those it was fitted on.
        """
        if self.method == "mean":
            return _with_means(images, self.channels)
        return fill_planes(images, self.channels, METHODS[self.method](self.options))

    def save(self) -> tuple[Arrays, Mapping[str, Any]]:
        """Arrays and JSON values that `load_fill` takes back."""
        arrays, values = self.channels.save()
        return arrays, {**values, "method": self.method, "options": dict(self.options)}


def fit_fill(view: TrainView, method: str, **options: float) -> PlaneFill:
    """Learn the means of the channels.

    Raises:
        ValueError: there are no images, or no training row knows a pixel of a channel.
        ZooError: the package that fills so is not installed.
    """
    require(method)
    return PlaneFill(channels=learn_channels(view), method=method, options=options)


def load_fill(arrays: Arrays, values: Mapping[str, Any]) -> PlaneFill:
    """The inverse of `PlaneFill.save`.

    Raises:
        ZooError: the package that fills so is not installed.
    """
    require(values["method"])
    channels = load_channels(arrays, values)
    return PlaneFill(channels=channels, method=values["method"], options=dict(values["options"]))


def require(method: str) -> None:
    """Refuse a method whose package is not installed.

    Raises:
        ZooError: names the command that installs it.
    """
    module, package = _PACKAGES.get(method, ("numpy", "numpy"))
    if find_spec(module) is None:
        raise ZooError(f'{method} needs {package}, not installed here: pip install "backbone-zoo[pixels]"')


def _with_means(images: ImageRows, channels: Channels) -> ImageRows:
    """Every hole of a channel gets the channel's mean, whatever is around it."""
    channels.check(images)
    means = as_dtype(channels.means, images.values.dtype)[None, :, None, None]
    return dataclasses.replace(images, values=np.where(images.missing, means, images.values))


def _telea(options: Options) -> FillPlane:
    """Telea 2004, "An image inpainting technique based on the fast marching method"."""
    import cv2

    return _opencv(cv2.INPAINT_TELEA, options["radius"])


def _navier_stokes(options: Options) -> FillPlane:
    """Bertalmio, Bertozzi and Sapiro 2001, "Navier-Stokes, fluid dynamics, and image and video inpainting"."""
    import cv2

    return _opencv(cv2.INPAINT_NS, options["radius"])


def _opencv(method: int, radius: float) -> FillPlane:
    import cv2

    def fill(plane: Plane, mask: Mask) -> Plane:
        # One channel at a time: of several OpenCV takes three of 8 bits alone.
        found: NDArray[Any] = cv2.inpaint(np.ascontiguousarray(plane), mask.astype(np.uint8), radius, method)
        return found

    return fill


METHODS: Mapping[str, Callable[[Options], FillPlane]] = {"telea": _telea, "ns": _navier_stokes}
_PACKAGES = {"telea": ("cv2", "opencv-python-headless"), "ns": ("cv2", "opencv-python-headless")}
