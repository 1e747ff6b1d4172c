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


def _linear(options: Options) -> FillPlane:
    """Linear interpolation over a Delaunay triangulation of the pixels around the holes; the nearest one outside it."""
    from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator
    from scipy.ndimage import binary_dilation

    del options

    def fill(plane: Plane, mask: Mask) -> Plane:
        # No triangle with a corner deep in what is known lies in a hole: its border is enough.
        border = binary_dilation(mask, np.ones((3, 3))) & ~mask
        known, holes = np.argwhere(border), np.argwhere(mask)
        values = plane[border].astype(np.float64)
        found = NearestNDInterpolator(known, values)(holes)
        if _is_spread(known):
            inside = LinearNDInterpolator(known, values)(holes)
            found = np.where(np.isnan(inside), found, inside)
        filled = plane.astype(np.float64)
        filled[mask] = found
        return filled

    return fill


def _is_spread(points: NDArray[np.int64]) -> bool:
    """Whether some three of these points (N, 2) are no straight line, so that there is a triangle."""
    return bool(np.linalg.matrix_rank(points - points[:1]) == 2)


def _biharmonic(options: Options) -> FillPlane:
    """The smoothest surface through the hole's border (Damelin and Hoang 2018), by scikit-image."""
    from skimage.restoration import inpaint_biharmonic

    del options

    def fill(plane: Plane, mask: Mask) -> Plane:
        # In units of the plane's own spread: scikit-image takes floats as they are, and cuts them off at their limits.
        found: NDArray[Any] = inpaint_biharmonic(plane.astype(np.float64), mask, split_into_regions=True)
        return np.where(np.isfinite(found), found, plane[~mask].mean())

    return fill


METHODS: Mapping[str, Callable[[Options], FillPlane]] = {
    "linear": _linear,
    "telea": _telea,
    "ns": _navier_stokes,
    "biharmonic": _biharmonic,
}
_PACKAGES = {
    "telea": ("cv2", "opencv-python-headless"),
    "ns": ("cv2", "opencv-python-headless"),
    "biharmonic": ("skimage", "scikit-image"),
}
