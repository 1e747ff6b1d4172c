"""Decoding of kinds of files, against numbers worked out from what was put into the file, not from another reader."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from zoo.data.decode import decode
from zoo.specs import InputSpec


def as_stored(height, width):
    """A spec under which an image keeps its pixels."""
    return InputSpec(size=(height, width), resize=min(height, width))


def png(values, bits, colour, extra=()):
    """A PNG file written by hand, of integers (H, W, channels)."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = values.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + packed(row, bits, ">") for row in values.reshape(height, -1)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*part) for part in [(b"IHDR", header), *extra, (b"IDAT", body), (b"IEND", b"")]
    )


def tiff(values, bits, photometric, order="<"):
    """An uncompressed TIFF file of one channel written by hand, of integers (H, W)."""
    height, width = values.shape
    body = b"".join(packed(row, bits, order) for row in values)
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, height)]
    tags.append((279, len(body)))
    entries = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in tags)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8 + len(body))
    return head + body + struct.pack(order + "H", len(tags)) + entries + bytes(4)


def packed(row, bits, order):
    """A row of integers at so many bits each."""
    if bits == 16:
        return row.astype(order + "u2").tobytes()
    places = (row[:, None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(places.reshape(-1).astype(np.uint8)).tobytes()


def drawn(bits, *shape):
    values = np.random.default_rng(bits).integers(0, 2**bits, shape)
    values.reshape(-1)[:2] = 0, 2**bits - 1
    return values


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_of_any_depth_is_scaled_to_255(bits):
    values = drawn(bits, 4, 8, 1)
    got = decode(png(values, bits, 0), as_stored(4, 8))
    assert np.abs(got - values * (255 / (2**bits - 1))).max() <= 0.5


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2), (6, 4)])
@pytest.mark.parametrize("bits", [8, 16])
def test_colours_are_scaled_to_255_within_a_level_and_alpha_is_dropped(colour, channels, bits):
    values = drawn(bits, 4, 6, channels)
    got = decode(png(values, bits, colour), as_stored(4, 6))
    expected = values[:, :, :3] if channels > 2 else values[:, :, :1]
    assert np.abs(got - expected * (255 / (2**bits - 1))).max() <= (1 if bits == 16 else 0)


@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_gives_its_colours_at_any_depth_transparent_or_not(bits, transparent):
    palette = np.random.default_rng(0).integers(0, 256, (2**bits, 3), dtype=np.uint8)
    values = drawn(bits, 4, 8, 1)
    extra = [(b"PLTE", palette.tobytes())] + ([(b"tRNS", b"\x00\x80")] if transparent else [])
    got = decode(png(values, bits, 3, extra), as_stored(4, 8))
    np.testing.assert_array_equal(got, palette[values[:, :, 0]])


@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("bits", [1, 4, 8, 16])
def test_a_tiff_is_bright_where_it_says_so_whichever_end_is_white(bits, photometric):
    values = drawn(bits, 4, 8)
    got = decode(tiff(values, bits, photometric), as_stored(4, 8))[:, :, 0]
    share = values / (2**bits - 1)
    assert np.abs(got - 255 * (share if photometric else 1 - share)).max() <= 0.5


def test_a_tiff_of_twelve_bits_is_not_taken_for_a_dark_one_of_sixteen():
    values = drawn(12, 4, 8)
    got = decode(tiff(values, 12, 1), as_stored(4, 8))[:, :, 0]
    assert np.abs(got - values * (255 / 4095)).max() <= 0.51


def test_a_tiff_may_have_its_bytes_in_either_order():
    values = drawn(16, 4, 8)
    got = decode(tiff(values, 16, 1, ">"), as_stored(4, 8))[:, :, 0]
    assert np.abs(got - values / 257).max() <= 0.5


@pytest.mark.parametrize("compression", ["raw", "group4", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_a_tiff_may_be_compressed_in_any_usual_way(compression, encoded):
    if compression == "group4":
        image, expected = Image.new("1", (16, 16), 1), (255, 255, 255)
    else:
        image, expected = Image.new("RGB", (16, 16), (200, 100, 50)), (200, 100, 50)
    got = decode(encoded(image, "TIFF", compression=compression), as_stored(16, 16)).astype(int)
    assert np.abs(got - expected).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM", "GIF"])
def test_one_bit_is_black_and_white(kind, encoded):
    values = np.zeros((4, 8), dtype=bool)
    values[1, 2:5] = True
    got = decode(encoded(Image.fromarray(values), kind), as_stored(4, 8))
    np.testing.assert_array_equal(got, np.where(values, 255, 0)[:, :, None].repeat(3, 2))


def inks():
    """Cyan, magenta, yellow and black, 0 for none, uint8 (16, 64, 4), in squares of 16 pixels."""
    squares = np.random.default_rng(4).integers(0, 256, (1, 4, 4), dtype=np.uint8)
    squares[0, 0] = 0  # bare paper
    return np.ascontiguousarray(squares.repeat(16, 0).repeat(16, 1))


def test_a_cmyk_jpeg_as_adobe_stores_it_is_not_inverted(encoded):
    ink = inks()
    data = encoded(Image.frombytes("CMYK", (64, 16), ink.tobytes()), "JPEG", quality=100)
    assert b"Adobe" in data
    expected = (255.0 - ink[:, :, :3]) * (255.0 - ink[:, :, 3:]) / 255
    got = decode(data, as_stored(16, 64))
    assert np.abs(got - expected)[8::16, 8::16].max() <= 2
    assert (got[8, 8] == 255).all()


@pytest.mark.parametrize("progressive", [False, True])
def test_a_ycck_jpeg_as_adobe_stores_it_is_not_inverted(progressive, encoded):
    ink = inks()
    cyan, magenta, yellow, black = (ink[:, :, channel].astype(float) for channel in range(4))
    stored = [
        0.299 * cyan + 0.587 * magenta + 0.114 * yellow,
        128 - 0.168736 * cyan - 0.331264 * magenta + 0.5 * yellow,
        128 + 0.5 * cyan - 0.418688 * magenta - 0.081312 * yellow,
        255 - black,
    ]
    # Pillow inverts what it stores as CMYK, and libjpeg calls it that: hence the difference, and the mark set by hand.
    samples = 255 - np.stack(stored, axis=2).round().clip(0, 255).astype(np.uint8)
    image = Image.frombytes("CMYK", (64, 16), samples.tobytes())
    data = bytearray(encoded(image, "JPEG", quality=100, progressive=progressive))
    data[data.index(b"Adobe") + 11] = 2  # the transform: YCCK
    expected = (255.0 - ink[:, :, :3]) * (255.0 - ink[:, :, 3:]) / 255
    assert np.abs(decode(bytes(data), as_stored(16, 64)) - expected)[8::16, 8::16].max() <= 2


@pytest.mark.parametrize("scale", [1, 8])
def test_a_progressive_jpeg_has_the_pixels_of_a_sequential_one(scale, picture, encoded):
    image = picture(3, (40 * scale, 32 * scale))
    sequential, progressive = (encoded(image, "JPEG", quality=90, progressive=way) for way in (False, True))
    assert sequential != progressive
    spec = InputSpec(size=(32, 32), resize=32)
    np.testing.assert_array_equal(decode(progressive, spec), decode(sequential, spec))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_counts(kind, encoded):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((250, 0, 0), (0, 250, 0))]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert (decode(data, as_stored(8, 8)) == (250, 0, 0)).all()
