"""Named bands of a file in the order in which the network reads them, with what is missing in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from zoo.data.band_files import Bands, listed, read_file_bands
from zoo.data.decode import UndecodableError
from zoo.data.detect import ALPHA, NODATA, NOT_FINITE, STATED, TRANSPARENT, Found, described, fit_plane
from zoo.errors import DataError
from zoo.registry.near import suggest
from zoo.specs import InputSpec, PixelType

SKIPPED = "-"
"""Stands for a band of the files that is passed over."""

PIXEL_TYPES: tuple[PixelType, ...] = get_args(PixelType)
_SHORT = {"r": "red", "g": "green", "b": "blue"}
_AS_FLOAT32 = ("float16", "float64")


def canonical(name: str) -> str:
    """A band's name as it is compared: in lower case; r, g and b are red, green and blue."""
    text = name.strip().lower()
    return _SHORT.get(text, text)


def wanted_bands(names: Sequence[str]) -> tuple[str, ...]:
    """The bands that `--channels` names, without those that are passed over.

    Raises:
        DataError: none, or one twice.
    """
    found = tuple(canonical(name) for name in names if name != SKIPPED)
    if not found or "" in found:
        raise DataError(
            "--channels names no band; name the bands of the files in their order, as in red green blue nir"
        )
    twice = next((name for name in found if found.count(name) > 1), None)
    if twice:
        raise DataError(f"--channels names {twice} twice; say {SKIPPED} for a band that is to be passed over")
    return found


def file_bands(names: Sequence[str], bands: Sequence[str]) -> tuple[str, ...]:
    """Names of the bands of other files than those of training, in their order.

    Args:
        names: as given.
        bands: that the network reads.

    Raises:
        DataError: none of them is read; suggests close names.
    """
    wanted = wanted_bands(names)
    if not set(wanted) & set(bands):
        raise DataError(
            f"--channels {' '.join(names)}: the run reads {', '.join(bands)}, and none of them is there"
            f"{suggest(wanted[0], list(bands))}"
        )
    return tuple(name if name == SKIPPED else canonical(name) for name in names)


def check_nodata(value: float | None, dtype: PixelType) -> None:
    """Refuse a nodata value that no pixel of this type can have.

    Raises:
        DataError: says which there are.
    """
    if value is None or (dtype == "float32" and not math.isnan(value)):
        return
    if math.isnan(value):
        raise DataError("--nodata nan: NaN always counts as missing; leave it out")
    limits = np.iinfo(dtype)
    if not limits.min <= value <= limits.max or value != int(value):
        raise DataError(
            f"--nodata {value:g} can stand in no pixel: {dtype} holds whole numbers from {limits.min} to {limits.max}"
        )


def pixel_type(paths: Sequence[Path], spec: InputSpec) -> PixelType:
    """Of which type the pixels of the files are: that of the first one that can be read; any where none can."""
    for path in paths:
        try:
            bands = read_file_bands(path.read_bytes(), len(spec.file_bands), spec.layout)
            return _type_of(bands.values)
        except (OSError, UndecodableError):
            continue
    return "uint8"


def _type_of(values: NDArray[Any]) -> PixelType:
    name = "float32" if values.dtype.name in _AS_FLOAT32 else values.dtype.name
    for known in PIXEL_TYPES:
        if name == known:
            return known
    raise UndecodableError(f"pixels of {name}; save them as {', '.join(PIXEL_TYPES)}")


def read_bands(data: bytes, spec: InputSpec) -> Found:
    """The bands that the network reads, each resized and cropped without its holes.

    Bands are matched by name where the file states names, else by the order in which `spec.file_bands` names them. One
    that the file does not have is missing; one that the network does not read is passed over.

    Returns:
        uint8 or float32 pixels in the file's units, `spec.bands` in their order.

    Raises:
        UndecodableError: no image, bands of which nobody knows which is which, pixels of another type than
            `spec.dtype`, or no pixel known.
        DataError: a TIFF, and tifffile is not installed.
    """
    held = read_file_bands(data, len(spec.file_bands), spec.layout)
    found = _type_of(held.values)
    if found != spec.dtype:
        raise UndecodableError(f"pixels of {found}, and those of the run are of {spec.dtype}")
    names = _names(held, spec)
    if not set(names) & set(spec.bands):
        raise UndecodableError(f"it has the bands {listed(names)}, and none of {', '.join(spec.bands)}")
    parts, flags = [], []
    for name in spec.bands:
        if name not in names:
            parts.append(_absent(spec))
            flags.append(0)
            continue
        plane = held.values[names.index(name)]
        missing, why = _missing(plane, held, spec)
        parts.append(fit_plane(_prepared(plane, missing), missing if missing.any() else None, spec))
        flags.append(why)
    pixels, holes = (np.stack(part) for part in zip(*parts, strict=True))
    return described(pixels, holes, np.array(flags, dtype=np.int32))


def _names(held: Bands, spec: InputSpec) -> list[str]:
    """Names of the file's bands, in its order."""
    count, stated = len(held.values), [canonical(name) for name in held.names]
    if held.sure and set(stated) & set(spec.bands):
        return stated
    if count == len(spec.file_bands):
        return list(spec.file_bands)
    if stated:
        return stated
    raise UndecodableError(
        f"{count} bands without names, where --channels names {len(spec.file_bands)}: which is which, nobody knows"
    )


def _absent(spec: InputSpec) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    dtype = np.uint8 if spec.dtype == "uint8" else np.float32
    return np.zeros(spec.size, dtype=dtype), np.ones(spec.size, dtype=bool)


def _missing(plane: NDArray[Any], held: Bands, spec: InputSpec) -> tuple[NDArray[np.bool_], int]:
    """Which pixels of one band are missing, and the flags that say why."""
    missing = np.zeros(plane.shape, dtype=bool)
    flags = (0 if held.alpha is None else ALPHA) | (0 if held.nodata is None else STATED)
    found = {NOT_FINITE: ~np.isfinite(plane)} if plane.dtype.kind == "f" else {}
    for value in {spec.nodata, held.nodata} - {None}:
        found[NODATA] = found.get(NODATA, missing) | (plane == value)
    if held.alpha is not None and held.alpha.any():  # one that hides everything hides nothing
        found[TRANSPARENT] = held.alpha == 0
    for flag, own in found.items():
        if own.any():
            missing, flags = missing | own, flags | flag
    return missing, flags


def _prepared(plane: NDArray[Any], missing: NDArray[np.bool_]) -> NDArray[Any]:
    """As `fit_plane` takes it: uint8, or float32 that is finite where it is known."""
    if plane.dtype == np.uint8:
        return np.ascontiguousarray(plane)
    with np.errstate(over="ignore"):
        return np.where(missing, np.float32(0), plane.astype(np.float32))
