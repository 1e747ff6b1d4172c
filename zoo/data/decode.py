"""From the bytes of an image file to the pixels that a backbone takes; what cannot be decoded says why."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from zoo.errors import DataError, ZooError
from zoo.specs import InputSpec

DECODE_VERSION = 3
"""Raised by one whenever the same file would give other pixels; part of the key of every store of pixels."""

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BITS, _PHOTOMETRIC = 258, 262  # tags of TIFF: BitsPerSample and PhotometricInterpretation
# A JPEG is decoded at a fraction of its size, but at no less than twice the target: measured on a 4-megapixel image,
# mean error 0.6 of 255 at 1.2 times the time of the smallest fraction, whose error is 2.1.
_DRAFT_MARGIN = 2


class UndecodableError(Exception):
    """Bytes that are no image; `str(error)` is the reason in a few words."""


class _Quiet:
    """Silences Pillow's warnings while any thread decodes; `catch_warnings` alone is not safe across threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.caught = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self.lock:
            if self.inside == 0:
                self.caught = warnings.catch_warnings()
                self.caught.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.|zoo\.data\.decode")
            self.inside += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                self.caught.__exit__(kind, error, at)


quiet = _Quiet()
"""Enter this around many calls of `decode` from several threads, so that the filters change only once."""


def decode(data: bytes, spec: InputSpec) -> NDArray[np.uint8]:
    """Decode, turn upright, make RGB, resize and crop one image; the first frame where there are several.

    The pixels equal torchvision's `Resize` and `CenterCrop` on a Pillow image (antialiased), except that JPEG files
    of more than four times the target are decoded at a fraction of their size. Greyscale of 16 bits is divided by 257
    (65535 becomes 255) where any pixel is above 255, and taken as it is elsewhere; of 12 bits (TIFF) by 4095 / 255; of
    colours of 16 bits the upper byte counts. Transparency is dropped as `convert("RGB")` drops it: the colour below it
    stays.

    Args:
        data: the whole file.
        spec: size, resize, interpolation and crop count here; mean and std do not.

    Returns:
        uint8 (H, W, 3), with (H, W) = `spec.size`.

    Raises:
        UndecodableError: empty, truncated, no image, too large, or of a kind without meaning as RGB.
        DataError: the spec names an interpolation that there is not.
    """
    with opened(data) as image:
        return np.array(fit(upright(image, spec)[0], spec).convert("RGB"))


@contextmanager
def opened(data: bytes) -> Iterator[Image.Image]:
    """An image file, opened; whatever breaks within becomes an `UndecodableError`, except a `ZooError`."""
    if not data:
        raise UndecodableError("empty file")
    with quiet:
        try:
            with Image.open(io.BytesIO(data)) as image:
                yield image
        except (UndecodableError, ZooError):
            raise
        except Exception as error:  # a damaged file makes Pillow's readers raise nearly anything
            raise UndecodableError(_reason(error)) from None


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, Image.DecompressionBombError):
        return "too large: more than " + str(error).partition("limit of ")[2].partition(" pixels")[0] + " pixels"
    if "truncated" in str(error).lower():
        return "truncated image"
    return f"broken image: {error or type(error).__name__}"


def upright(image: Image.Image, spec: InputSpec) -> tuple[Image.Image, Image.Image | None]:
    """Load the image fully, as grey or RGB, turned as its EXIF orientation says; and its alpha channel, if it has one.

    Where some value says that a pixel is missing, none is mixed with its neighbours in decoding.
    """
    target = max(spec.size) if spec.crop == "squash" else spec.resize
    if spec.nodata is None:
        image.draft(None, (_DRAFT_MARGIN * target, _DRAFT_MARGIN * target))
    # Before the metadata: asking a PNG for them loads it, and what breaks there would pass for damaged metadata; and
    # a TIFF turns itself when it loads.
    image.load()
    turn = _turn_of(image)
    plain, alpha = _plain(image), _alpha(image)
    return _turned(plain, turn), alpha and _turned(alpha, turn)


def turned(plain: Image.Image, image: Image.Image) -> Image.Image:
    """`plain`, made of `image`, which is loaded, turned as the EXIF orientation of `image` says."""
    return _turned(plain, _turn_of(image))


def _turned(image: Image.Image, turn: Image.Transpose | None) -> Image.Image:
    return image if turn is None else image.transpose(turn)


def _turn_of(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged metadata beside good pixels
        return None


def _alpha(image: Image.Image) -> Image.Image | None:
    """How opaque each pixel is, 0 to 255."""
    if not image.has_transparency_data or image.mode.startswith(("I", "F")):
        return None
    return image.convert("RGBA").getchannel("A")


def _plain(image: Image.Image) -> Image.Image:
    """The image as grey (a third of the work of resizing, and the same pixels) or RGB."""
    if image.mode == "F":
        raise UndecodableError("floating-point pixels, whose range is unknown; save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise UndecodableError("pixels beyond 16 bits; save it with 8 or 16 bits")
    tags = getattr(image, "tag_v2", {})
    if tags.get(_BITS) == (12,):
        values = (values * 255 + 2047) // 4095
    elif values.max() > 255:
        values = (values + 128) // 257
    if tags.get(_PHOTOMETRIC) == 0:  # white is zero; Pillow turns it round for 8 bits, and not for 16
        values = 255 - values
    return Image.fromarray(values.astype(np.uint8))


def fit(image: Image.Image, spec: InputSpec) -> Image.Image:
    """Resize and crop to `spec.size`; sizes and offsets are rounded as torchvision rounds them.

    Raises:
        UndecodableError: an image so elongated that it would fill the memory.
        DataError: the spec names an interpolation that there is not.
    """
    if spec.interpolation not in _FILTERS:
        raise DataError(f"interpolation must be one of {', '.join(_FILTERS)}, not {spec.interpolation!r}")
    height, width = spec.size
    method = _FILTERS[spec.interpolation]
    if spec.crop == "squash":
        return image.resize((width, height), method)
    short, long = min(image.size), max(image.size)
    other = int(spec.resize * long / short)
    # Pillow's own limit for what it decodes without a warning: a strip of pixels must not fill the memory.
    if spec.resize * other > (Image.MAX_IMAGE_PIXELS or 2**27):
        raise UndecodableError(f"too elongated: {image.width} x {image.height} pixels")
    wide = image.width > image.height
    image = image.resize((other, spec.resize) if wide else (spec.resize, other), method)
    left, top = round((image.width - width) / 2.0), round((image.height - height) / 2.0)
    return image.crop((left, top, left + width, top + height))
