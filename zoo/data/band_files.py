"""Files of any number of bands: TIFF, `.npy`, and ordinary pictures, as arrays in the units that they hold."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zoo.data.decode import UndecodableError, opened, turned
from zoo.errors import DataError
from zoo.specs import Layout

NPY = b"\x93NUMPY"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How such files begin."""

_DESCRIPTIONS, _NODATA = 42112, 42113  # tags that GDAL writes
_ALPHA = (1, 2)  # of TIFF's ExtraSamples: associated, unassociated


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Bands:
    """What a file holds.

    Attributes:
        values: (C, height, width) as the file has them.
        names: of the bands, where the file states them, as GDAL's descriptions do, or an ordinary picture's colours.
        sure: whether those names hold whatever the user calls the bands.
        nodata: the value that the file states for missing pixels.
        alpha: (height, width), 0 where a pixel is transparent, or None.
    """

    values: NDArray[Any]
    names: tuple[str, ...] = ()
    sure: bool = False
    nodata: float | None = None
    alpha: NDArray[Any] | None = None


def is_array_file(data: bytes) -> bool:
    """Whether a file may hold other bands than red, green and blue of 8 bits."""
    return data.startswith((NPY, *TIFF))


def require_tifffile() -> None:
    """Refuse TIFF files of named bands where their reader is not installed.

    Raises:
        DataError: names the command that installs it.
    """
    if find_spec("tifffile") is None:
        raise DataError(
            'TIFF files of named bands need tifffile, not installed here: pip install "backbone-zoo[pixels]"'
        )


def read_file_bands(data: bytes, count: int, layout: Layout | None) -> Bands:
    """The bands of a file.

    Args:
        data: the whole file.
        count: how many bands are expected, by which axes of a `.npy` file are told apart.
        layout: of `.npy` files.

    Raises:
        UndecodableError: empty, damaged, of another kind, or of axes that mean nothing here.
        DataError: a TIFF, and tifffile is not installed.
    """
    if data.startswith(NPY):
        return Bands(values=_bands_first(_read_npy(data), count, layout))
    if data.startswith(TIFF):
        require_tifffile()
        return _read_tiff(data)
    return _read_picture(data)


def _read_npy(data: bytes) -> NDArray[Any]:
    try:
        found: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise UndecodableError(f"broken .npy: {str(error).splitlines()[0]}") from None
    return found


def _bands_first(values: NDArray[Any], count: int, layout: Layout | None) -> NDArray[Any]:
    shape = values.shape
    if values.ndim == 2:
        return values[None]
    if values.ndim != 3 or 0 in shape:
        raise UndecodableError(f"an array of shape {shape}; an image has height, width and perhaps bands")
    if layout is None:
        first, last = shape[0] == count, shape[2] == count
        if first and last:
            raise UndecodableError(
                f"shape {shape} does not say where its bands are; state --layout hwc or --layout chw"
            )
        layout = "chw" if first or (not last and shape[0] < shape[2]) else "hwc"
    return values if layout == "chw" else values.transpose(2, 0, 1)


def _read_tiff(data: bytes) -> Bands:
    import tifffile

    # What it finds odd in a file it logs; what matters it raises.
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            series = file.series[0]
            values, axes, page = series.asarray(), series.axes, series.keyframe
            descriptions, nodata = (_text(page.tags.get(tag)) for tag in (_DESCRIPTIONS, _NODATA))
            alpha = [int(each) in _ALPHA for each in page.extrasamples]
            if int(page.photometric) == 3:
                raise UndecodableError("a palette, which has no bands; save it as colours")
    except UndecodableError:
        raise
    except Exception as error:  # a damaged file makes it raise nearly anything, codecs that are not there too
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UndecodableError(f"broken TIFF: {said}") from None
    planes, hidden = _planes(values, axes), None
    if alpha and alpha[-1] and len(planes) > 1:
        planes, hidden = planes[:-1], planes[-1]
    names = _described(descriptions, len(planes))
    return Bands(values=planes, names=names, sure=bool(names), nodata=_number(nodata), alpha=hidden)


def _text(tag: Any) -> str:
    return str(tag.value) if tag is not None else ""


def _number(text: str) -> float | None:
    try:
        return float(text.strip().rstrip("\0")) if text.strip() else None
    except ValueError:
        return None


def _planes(values: NDArray[Any], axes: str) -> NDArray[Any]:
    """(C, Y, X) from an array whose axes tifffile names by letters."""
    if "Y" not in axes or "X" not in axes:
        raise UndecodableError(f"a TIFF of axes {axes}, without height and width")
    order = [axes.index("Y"), axes.index("X")]
    others = [place for place in range(values.ndim) if place not in order and values.shape[place] > 1]
    if len(others) > 1:
        raise UndecodableError(f"a TIFF of shape {values.shape} (axes {axes}); an image has height, width and bands")
    single = [place for place in range(values.ndim) if place not in (*order, *others)]
    moved = values.transpose([*single, *others, *order])
    return moved.reshape(-1, *moved.shape[-2:])


def _described(text: str, count: int) -> tuple[str, ...]:
    """Names of all bands from GDAL's metadata, or none."""
    if not text:
        return ()
    try:
        items = ElementTree.fromstring(text.strip().rstrip("\0"))  # noqa: S314 - a few tags of one file, no entities
    except ElementTree.ParseError:
        return ()
    found = {item.get("sample"): (item.text or "").strip() for item in items if item.get("role") == "description"}
    names = tuple(found.get(str(place), "") for place in range(count))
    return names if any(names) else ()


def _read_picture(data: bytes) -> Bands:
    """An ordinary picture, turned upright, in its own depth."""
    with opened(data) as image:
        image.load()
        alpha = np.asarray(turned(image.convert("RGBA"), image).getchannel("A")) if _shows_through(image) else None
        plain = turned(_own_depth(image), image)
        values = np.asarray(plain)
    if values.ndim == 2:
        return Bands(values=values[None], alpha=alpha)
    return Bands(values=values.transpose(2, 0, 1), names=("red", "green", "blue"), alpha=alpha)


def _shows_through(image: Image.Image) -> bool:
    return image.has_transparency_data and not image.mode.startswith(("I", "F"))


def _own_depth(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return image
    if image.mode in ("I", "F"):
        return image
    return image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")


def listed(names: Sequence[str]) -> str:
    """Names for an error."""
    return ", ".join(name or "(no name)" for name in names)
