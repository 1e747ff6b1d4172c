"""What is missing in an image: found in its own pixels, before it is resized, so that no hole bleeds into them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoo.data.decode import UndecodableError, fit, opened, upright
from zoo.specs import InputSpec

NOT_FINITE, NODATA, TRANSPARENT = 1, 2, 4
"""Why pixels of a channel are missing: NaN or infinite, the nodata value, alpha 0."""

ABSENT, CONSTANT = 8, 16
"""Why a channel is missing: no pixel of it is known; or it has one value all over, not 0, beside others that vary."""

ZERO, UNIFORM = 32, 64
"""Told, and no hole: a channel that is 0 all over; an image that has one colour all over."""

ALPHA, STATED = 128, 256
"""What the file could say: it has an alpha channel; it states a nodata value of its own."""

MUST_FILL = NOT_FINITE | NODATA | ABSENT
"""Holes in which no usable value stands. The others have one: the colour below alpha 0, the constant."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Found:
    """One image, resized and cropped, and what is missing in it.

    Attributes:
        pixels: uint8 or float32 (C, H, W), in raw units.
        missing: bool (C, H, W), or None where nothing is.
        flags: int32 (C,), sums of the constants above.
    """

    pixels: NDArray[Any]
    missing: NDArray[np.bool_] | None
    flags: NDArray[np.int32]


def read_colours(data: bytes, spec: InputSpec) -> Found:
    """Decode an ordinary picture as `zoo.data.decode.decode` does, and find pixels with alpha 0 or the nodata value.

    A colour is one value here: a pixel is nodata where red, green and blue all are. An alpha channel that is 0 all over
    hides nothing. Where pixels are missing, the others are resized without them; in a hole stands the colour below.

    Raises:
        UndecodableError: as `decode`, or no pixel is known.
    """
    with opened(data) as image:
        plain, alpha = upright(image, spec)
        missing, flags = _hidden(plain, alpha, spec.nodata)
        if not missing.any():
            pixels = np.ascontiguousarray(np.asarray(fit(plain, spec).convert("RGB")).transpose(2, 0, 1))
            return described(pixels, None, np.full(3, flags, dtype=np.int32))
        parts = [fit_plane(np.asarray(plane), missing, spec) for plane in plain.split()]
    values, holes = (np.stack(part) for part in zip(*parts, strict=True))
    if len(values) == 1:  # grey
        values, holes = (np.repeat(part, 3, axis=0) for part in (values, holes))
    return described(values, holes, np.full(3, flags, dtype=np.int32))


def _hidden(plain: Image.Image, alpha: Image.Image | None, nodata: float | None) -> tuple[NDArray[np.bool_], int]:
    """Which pixels (H, W) are missing, and the flags that say why."""
    missing, flags = np.zeros((plain.height, plain.width), dtype=bool), 0 if alpha is None else ALPHA
    if alpha is not None and alpha.getextrema()[0] == 0 < alpha.getextrema()[1]:  # type: ignore[operator]
        missing |= np.asarray(alpha) == 0
        flags |= TRANSPARENT
    if nodata is not None:
        colours = np.asarray(plain).reshape(plain.height, plain.width, -1)
        equal = (colours == nodata).all(axis=2)
        missing |= equal
        flags |= NODATA if equal.any() else 0
    return missing, flags


def fit_plane(
    plane: NDArray[Any], missing: NDArray[np.bool_] | None, spec: InputSpec
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Resize and crop one channel without its holes.

    Each pixel is the mean of those that are known, weighted as the filter weights them (normalised convolution,
    Knutsson and Westin 1993), and missing where these have less than half of the weight.

    Args:
        plane: uint8, or float32 that is finite where it is known, (height, width) of the file.
        missing: bool of the same shape, or None.
        spec: of the network's input.

    Returns:
        Pixels of the same dtype (H, W), and which are missing: there, the colour below of 8 bits, and 0 of floats.
    """
    if missing is None or not missing.any():
        plain = np.asarray(fit(Image.fromarray(plane), spec))
        return plain, np.zeros(plain.shape, dtype=bool)
    weight = np.asarray(fit(Image.fromarray((~missing).astype(np.float32)), spec))
    summed = np.asarray(fit(Image.fromarray(np.where(missing, np.float32(0), plane).astype(np.float32)), spec))
    lost = weight < 0.5
    known = np.where(lost, np.float32(0), summed / np.where(lost, np.float32(1), weight))
    if plane.dtype != np.uint8:
        return known, lost
    mixed = np.clip(np.rint(known), 0, 255).astype(np.uint8)
    return np.where(lost, np.asarray(fit(Image.fromarray(plane), spec)), mixed), lost


def described(pixels: NDArray[Any], missing: NDArray[np.bool_] | None, flags: NDArray[np.int32]) -> Found:
    """The image with flags for channels that are absent, constant or zero.

    Raises:
        UndecodableError: nothing of it is known.
    """
    flags = flags.copy()
    if missing is not None and not missing.any():
        missing = None
    if missing is not None:
        absent = missing.all(axis=(1, 2))
        if absent.all():
            raise UndecodableError("no pixel of it is known: each is missing")
        flags[absent] |= ABSENT
    low, high = _extremes(pixels, missing)
    known = (flags & ABSENT) == 0
    constant = known & (low == high)
    flags[constant & (low == 0)] |= ZERO
    if constant[known].all():
        flags[known] |= UNIFORM
    else:
        flags[constant & (low != 0)] |= CONSTANT
    return Found(pixels=pixels, missing=missing, flags=flags)


def _extremes(pixels: NDArray[Any], missing: NDArray[np.bool_] | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """The lowest and the highest known value of each channel; of one without any, the wrong way round."""
    flat = pixels.reshape(len(pixels), -1)
    if missing is None:
        return flat.min(axis=1), flat.max(axis=1)
    values, hidden = flat.astype(np.float64), missing.reshape(len(pixels), -1)
    return np.where(hidden, np.inf, values).min(axis=1), np.where(hidden, -np.inf, values).max(axis=1)
