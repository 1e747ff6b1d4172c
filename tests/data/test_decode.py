"""Decoding: equal to the reference, upright, of every usual kind, and clear about what is no image."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from zoo.data.decode import UndecodableError, decode
from zoo.errors import DataError
from zoo.specs import InputSpec

SMALL = InputSpec(size=(8, 8), resize=8)


def as_is(image):
    """A spec under which the image keeps its pixels."""
    return InputSpec(size=(image.height, image.width), resize=min(image.size))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(61, 47), (47, 61), (50, 50), (9, 200), (13, 14)])
@pytest.mark.parametrize(("resize", "crop"), [(20, (17, 17)), (21, (16, 16)), (32, (32, 32)), (24, (19, 24))])
def test_pixels_equal_torchvision_resize_and_center_crop(interpolation, size, resize, crop, picture, encoded):
    image = picture(3, size)
    reference = Compose([Resize(resize, InterpolationMode(interpolation), antialias=True), CenterCrop(crop)])
    spec = InputSpec(size=crop, resize=resize, interpolation=interpolation)
    np.testing.assert_array_equal(decode(encoded(image), spec), np.asarray(reference(image)))


def test_squash_takes_the_whole_image_whatever_its_shape(picture, encoded):
    image = picture(1, (40, 20))
    spec = InputSpec(size=(16, 24), resize=1, crop="squash", interpolation="bicubic")
    reference = Resize((16, 24), InterpolationMode.BICUBIC, antialias=True)(image)
    np.testing.assert_array_equal(decode(encoded(image), spec), np.asarray(reference))


def test_a_small_jpeg_equals_the_reference_and_a_large_one_is_close_to_it(picture, encoded):
    spec = InputSpec(size=(32, 32), resize=32)
    for size, tolerance in (((127, 100), 0), ((400, 300), 2.0)):
        data = encoded(picture(5, size), "JPEG", quality=95)
        reference = Compose([Resize(32, antialias=True), CenterCrop(32)])(Image.open(io.BytesIO(data)))
        gap = np.abs(decode(data, spec).astype(int) - np.asarray(reference).astype(int))
        assert gap.mean() <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(orientation, kind, encoded):
    upright = np.zeros((6, 10, 3), dtype=np.uint8)
    upright[:3, :4] = (250, 30, 30)
    upright[3:, 7:] = (20, 200, 60)
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }[orientation](upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    large = np.ascontiguousarray(stored).repeat(8, 0).repeat(8, 1)
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(large), kind, exif=exif, **options)
    got = decode(data, InputSpec(size=(48, 80), resize=48))[4::8, 4::8].astype(int)
    assert np.abs(got - upright.astype(int)).max() < 12


def test_sixteen_bit_grey_is_divided_by_257(encoded):
    values = np.array([[0, 257, 65535], [300, 40000, 128 * 257]], dtype=np.uint16)
    image = Image.fromarray(values)
    for kind in ("PNG", "TIFF"):
        got = decode(encoded(image, kind), as_is(image))
        np.testing.assert_array_equal(got[:, :, 0], [[0, 1, 255], [1, 156, 128]])
        assert (got == got[:, :, :1]).all()


def test_sixteen_bit_grey_that_holds_eight_bits_is_taken_as_it_is(encoded):
    image = Image.fromarray(np.array([[0, 17], [200, 255]], dtype=np.uint16))
    np.testing.assert_array_equal(decode(encoded(image), as_is(image))[:, :, 1], [[0, 17], [200, 255]])


def test_wide_integers_are_refused_where_they_exceed_sixteen_bits(encoded):
    for value in (70000, -1):
        image = Image.fromarray(np.full((4, 4), value, dtype=np.int32))
        with pytest.raises(UndecodableError, match="beyond 16 bits"):
            decode(encoded(image, "TIFF"), SMALL)
    fine = Image.fromarray(np.full((4, 4), 65535, dtype=np.int32))
    assert (decode(encoded(fine, "TIFF"), as_is(fine)) == 255).all()


def test_floating_point_pixels_are_refused_with_the_reason(encoded):
    image = Image.fromarray(np.full((4, 4), 0.5, dtype=np.float32))
    with pytest.raises(UndecodableError, match="floating-point pixels, whose range is unknown"):
        decode(encoded(image, "TIFF"), SMALL)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_every_usual_mode_becomes_rgb(mode, picture, encoded):
    image = Image.fromarray(np.full((9, 9), 4096, np.uint16)) if mode == "I;16" else picture(2, (9, 9)).convert(mode)
    kind = {"CMYK": "TIFF", "YCbCr": "JPEG", "PA": "TIFF"}.get(mode, "PNG")
    assert decode(encoded(image, kind), SMALL).shape == (8, 8, 3)


def test_cmyk_is_converted_as_pillow_converts_it(picture, encoded):
    image = picture(2, (9, 9)).convert("CMYK")
    np.testing.assert_array_equal(decode(encoded(image, "TIFF"), as_is(image)), np.asarray(image.convert("RGB")))


def test_a_palette_gives_its_colours(encoded):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    assert (decode(encoded(image), as_is(image)) == (10, 200, 30)).all()


def test_alpha_is_dropped_and_the_colour_below_it_stays(encoded):
    image = Image.new("RGBA", (4, 4), (10, 200, 30, 0))
    assert (decode(encoded(image), as_is(image)) == (10, 200, 30)).all()


def test_a_palette_with_transparent_bytes_warns_nobody(encoded):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    data = encoded(image, transparency=b"\x00\x80")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (decode(data, as_is(image)) == (10, 200, 30)).all()


def test_warning_filters_are_as_before_after_many_threads(picture, encoded):
    data = encoded(picture())
    with warnings.catch_warnings():
        before = list(warnings.filters)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: decode(data, SMALL), range(40)))
        assert list(warnings.filters) == before


def test_an_empty_file_says_so():
    with pytest.raises(UndecodableError, match=r"^empty file$"):
        decode(b"", SMALL)


@pytest.mark.parametrize("data", [b"hello", b"<svg></svg>", bytes(200), b"\x89PNG\r\n"])
def test_what_is_no_image_says_so(data):
    with pytest.raises(UndecodableError, match=r"^not an image$"):
        decode(data, SMALL)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "WEBP", "PPM", "GIF"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_file_is_found_by_loading_it(kind, share, picture, encoded):
    data = encoded(picture(4, (64, 64)), kind)
    with pytest.raises(UndecodableError, match=r"truncated image|broken image|not an image"):
        decode(data[: int(len(data) * share)], SMALL)


@pytest.mark.parametrize("kind", ["JPEG", "BMP"])
def test_a_truncated_photograph_is_called_truncated(kind, picture, encoded):
    data = encoded(picture(4, (64, 64)), kind)
    with pytest.raises(UndecodableError, match=r"^truncated image$"):
        decode(data[: int(len(data) * 0.7)], SMALL)


def test_a_damaged_chunk_is_a_broken_image(picture, encoded):
    data = bytearray(encoded(picture(4, (64, 64))))
    at = data.index(b"IDAT") + 4
    data[at : at + 8] = bytes(8)
    with pytest.raises(UndecodableError, match=r"^broken image: "):
        decode(bytes(data), SMALL)


def _png_of_size(width, height):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_too_large():
    with pytest.raises(UndecodableError, match=r"^too large: more than \d+ pixels$"):
        decode(_png_of_size(30000, 30000), SMALL)


def test_a_strip_that_would_fill_the_memory_is_refused(encoded):
    image = Image.new("L", (60000, 1))
    with pytest.raises(UndecodableError, match="too elongated: 60000 x 1 pixels"):
        decode(encoded(image), InputSpec(size=(224, 224), resize=224))


def test_damaged_metadata_beside_good_pixels_is_no_hole(picture, encoded):
    data = encoded(picture(), "JPEG", exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff" + b"\x01" * 40)
    assert decode(data, SMALL).shape == (8, 8, 3)
    text = PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n 4\nno hexadecimal digits")
    assert decode(encoded(picture(), pnginfo=text), SMALL).shape == (8, 8, 3)


def test_an_unknown_interpolation_is_named(picture, encoded):
    with pytest.raises(DataError, match="must be one of nearest, bilinear, bicubic, lanczos, not 'area'"):
        decode(encoded(picture()), InputSpec(size=(8, 8), resize=8, interpolation="area"))


def test_the_answer_can_be_written_to(picture, encoded):
    decode(encoded(picture()), SMALL)[0, 0, 0] = 7
