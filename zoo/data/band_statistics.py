"""How bands are normalised of which no pretrained network knows the mean: by that of the training rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from zoo.data.images import Images
from zoo.errors import DataError
from zoo.specs import InputSpec

COLOURS = ("red", "green", "blue")
_ROWS = 64  # at once


def learned_bands(spec: InputSpec) -> tuple[bool, ...]:
    """Of each channel, whether its mean and deviation are learned: all but red, green and blue of 8 bits."""
    return tuple(bool(spec.bands) and not (spec.dtype == "uint8" and name in COLOURS) for name in spec.names)


def with_statistics(images: Images, rows: NDArray[np.int64]) -> tuple[Images, str]:
    """The images with mean and deviation of the known pixels of the training rows, and a sentence about them.

    Args:
        images: after reading.
        rows: int64 (N,), the training rows.

    Raises:
        DataError: a channel of which no training row knows a pixel.
    """
    spec, learn = images.spec, learned_bands(images.spec)
    if not any(learn):
        return images, ""
    full = 255.0 if spec.dtype == "uint8" else 1.0
    mean, std = _moments(images, rows)
    pairs = list(zip(spec.mean, mean / full, learn, strict=True)), list(zip(spec.std, std / full, learn, strict=True))
    means, stds = (tuple(float(new) if own else old for old, new, own in each) for each in pairs)
    names = ", ".join(name for name, own in zip(spec.names, learn, strict=True) if own)
    said = f"{names} by mean and deviation of the {len(rows)} training rows"
    kept = ", ".join(name for name, own in zip(spec.names, learn, strict=True) if not own)
    return (
        replace(images, spec=replace(spec, mean=means, std=stds, full=full)),
        said + (f"; {kept} as the network was pretrained" if kept else ", in the files' own units"),
    )


def _moments(images: Images, rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation float64 (C,) of known pixels; parts joined about their means (Chan et al. 1979)."""
    shape = (images.spec.channels,)
    count, mean, squares = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for at in range(0, len(rows), _ROWS):
        part = images.as_read(rows[at : at + _ROWS])
        known = ~part.missing
        values = np.where(known, part.values, 0).astype(np.float64)
        own = known.sum(axis=(0, 2, 3))
        some = np.maximum(own, 1)
        centre = values.sum(axis=(0, 2, 3)) / some
        spread = np.where(known, values - centre[None, :, None, None], 0)
        total = np.maximum(count + own, 1)
        shift = np.where(own > 0, centre - mean, 0)
        squares += np.square(spread).sum(axis=(0, 2, 3)) + np.square(shift) * count * own / total
        mean += shift * own / total
        count += own
    lost = [name for name, own in zip(images.spec.names, count, strict=True) if not own]
    if lost:
        raise DataError(
            f"channel {', '.join(lost)} is missing or constant in each of the {len(rows)} training rows, so that "
            "nothing can be learned of it; say - for it in --channels"
        )
    std = np.sqrt(squares / count)
    # Relative to the mean: the deviation of equal float32 numbers is not 0 but what rounding left.
    return mean, np.where(std > 1e-6 * np.abs(mean), std, 1.0)
