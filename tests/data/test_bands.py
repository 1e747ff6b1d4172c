"""Named bands: read from TIFF, .npy and pictures, matched by name, with their holes, and refused where nobody knows."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from PIL import Image

from zoo.data import band_files, detect
from zoo.data.bands import check_nodata, file_bands, pixel_type, read_bands, wanted_bands
from zoo.data.decode import UndecodableError
from zoo.errors import DataError
from zoo.specs import InputSpec

NAMES = ("red", "green", "blue", "nir")
SPEC = InputSpec(
    size=(16, 16),
    resize=16,
    crop="squash",
    interpolation="nearest",
    mean=(0.0,) * 4,
    std=(1.0,) * 4,
    full=1.0,
    bands=NAMES,
    file_bands=NAMES,
    dtype="uint16",
)
FLOATS = replace(SPEC, dtype="float32")


def raw(dtype="uint16", bands=4):
    values = np.random.default_rng(0).integers(1, 200, (bands, 16, 16)) * (1 if dtype == "uint8" else 40)
    return values.astype(dtype)


def npy(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def tiff(values, names=(), nodata=None, **options):
    items = "".join(
        f'<Item name="DESCRIPTION" sample="{place}" role="description">{name}</Item>'
        for place, name in enumerate(names)
    )
    tags = [(42112, 2, 0, f"<GDALMetadata>{items}</GDALMetadata>", False)] if names else []
    tags += [(42113, 2, 0, nodata, False)] if nodata else []
    options = {"photometric": "minisblack", "planarconfig": "separate", **options}
    file = io.BytesIO()
    tifffile.imwrite(file, values, metadata=None, extratags=tags, **options)
    return file.getvalue()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_values_come_in_the_files_own_units(dtype):
    values = raw(dtype)
    spec = replace(SPEC, dtype=dtype)
    for data in (npy(values), npy(values.transpose(1, 2, 0)), tiff(values), tiff(values, compression="zlib")):
        found = read_bands(data, spec)
        assert found.pixels.dtype == (np.uint8 if dtype == "uint8" else np.float32)
        assert np.array_equal(found.pixels, values)
        assert found.missing is None


def test_bands_beside_one_another_and_one_a_page_are_read_alike():
    values = raw()
    beside = tiff(values.transpose(1, 2, 0), planarconfig="contig")
    pages = io.BytesIO()
    tifffile.imwrite(pages, values, photometric="minisblack")
    for data in (beside, pages.getvalue()):
        assert np.array_equal(read_bands(data, SPEC).pixels, values)


def test_a_file_that_names_its_bands_is_read_by_name_whatever_their_order():
    values = raw()
    named = tiff(values[[3, 2, 0, 1]], ("NIR", "B", "Red", "green"))
    assert np.array_equal(read_bands(named, SPEC).pixels, values)
    nameless = tiff(values, ("Band 1", "Band 2", "Band 3", "Band 4"))
    assert np.array_equal(read_bands(nameless, SPEC).pixels, values)


def test_a_band_that_the_file_lacks_is_missing_and_one_too_many_is_passed_over():
    values = raw(bands=5)
    found = read_bands(tiff(values[:4], ("red", "swir", "nir", "green")), SPEC)
    assert [bool(flag & detect.ABSENT) for flag in found.flags] == [False, False, True, False]
    assert found.missing[2].all()
    assert not found.missing[[0, 1, 3]].any()
    assert np.array_equal(found.pixels[[0, 3, 1]], values[[0, 2, 3]])


def test_an_ordinary_picture_states_its_colours(picture, encoded):
    image = picture(1, (16, 16))
    found = read_bands(encoded(image), replace(SPEC, dtype="uint8"))
    assert np.array_equal(found.pixels[:3], np.asarray(image).transpose(2, 0, 1))
    assert found.flags[3] & detect.ABSENT
    two = {"mean": (0.0,) * 2, "std": (1.0,) * 2, "dtype": "uint8"}
    found = read_bands(encoded(image), replace(SPEC, bands=("nir", "red"), file_bands=("nir", "red", "green"), **two))
    assert np.array_equal(found.pixels, np.asarray(image).transpose(2, 0, 1)[:2])
    deep = Image.fromarray((np.arange(256).reshape(16, 16) * 200).astype(np.uint16))
    one = replace(SPEC, bands=("grey",), file_bands=("grey",), mean=(0.0,), std=(1.0,))
    assert read_bands(encoded(deep), one).pixels.max() == 255 * 200


def test_a_band_named_by_a_dash_is_passed_over():
    values = raw()
    spec = replace(SPEC, bands=("nir", "red"), file_bands=("red", "-", "-", "nir"), mean=(0.0,) * 2, std=(1.0,) * 2)
    assert np.array_equal(read_bands(npy(values), spec).pixels, values[[3, 0]])


def test_nan_infinity_nodata_and_what_the_file_states_are_missing_by_band():
    values = raw("float32")
    values[0, :4, :4], values[1, 0, 0], values[2, 5, 5], values[3, 7, 7] = np.nan, np.inf, -1.0, -9999.0
    found = read_bands(tiff(values, nodata="-9999"), replace(FLOATS, nodata=-1.0))
    assert found.missing.sum(axis=(1, 2)).tolist() == [16, 1, 1, 1]
    why = [int(flag) & (detect.NOT_FINITE | detect.NODATA) for flag in found.flags]
    assert why == [detect.NOT_FINITE, detect.NOT_FINITE, detect.NODATA, detect.NODATA]
    assert all(flag & detect.STATED for flag in found.flags)
    assert np.isfinite(found.pixels).all()
    values[0] = np.nan
    assert read_bands(npy(values), FLOATS).flags[0] & detect.ABSENT
    values[:] = np.nan
    with pytest.raises(UndecodableError, match="no pixel of it is known"):
        read_bands(npy(values), FLOATS)


def test_alpha_beside_the_bands_hides_pixels_of_all():
    values = raw("uint8")
    alpha = np.full((1, 16, 16), 255, dtype=np.uint8)
    alpha[0, :3, :3] = 0
    data = tiff(
        np.concatenate([values[:3], alpha]).transpose(1, 2, 0),
        photometric="rgb",
        planarconfig="contig",
        extrasamples=["unassalpha"],
    )
    colours = replace(SPEC, dtype="uint8", bands=NAMES[:3], file_bands=NAMES[:3], mean=(0.0,) * 3, std=(1.0,) * 3)
    found = read_bands(data, colours)
    assert found.missing.sum(axis=(1, 2)).tolist() == [9, 9, 9]
    assert found.flags[0] & detect.TRANSPARENT


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (npy(raw("uint8")), "pixels of uint8, and those of the run are of uint16"),
        (npy(raw("int64")), "pixels of int64; save them as uint8, uint16, int16, float32"),
        (npy(raw(bands=5)), "5 bands without names, where --channels names 4: which is which, nobody knows"),
        (npy(np.ones((4, 16, 4), np.uint16)), "does not say where its bands are; state --layout hwc or --layout chw"),
        (npy(np.ones((2, 4, 16, 16), np.uint16)), r"an array of shape \(2, 4, 16, 16\)"),
        (npy(raw())[:-50], r"broken \.npy"),
        (tiff(raw())[:-900], "broken TIFF"),
        (tiff(raw()[:2], ("swir", "thermal")), "it has the bands swir, thermal, and none of red, green, blue, nir"),
        (b"", "empty file"),
        (b"no image at all", "not an image"),
    ],
)
def test_what_cannot_be_meant_says_why(data, message):
    with pytest.raises(UndecodableError, match=message):
        read_bands(data, SPEC)


def test_the_layout_that_is_stated_is_taken():
    values = np.random.default_rng(0).integers(1, 9, (4, 16, 4)).astype(np.uint16)
    assert read_bands(npy(values), replace(SPEC, layout="chw", size=(16, 4))).pixels.shape == (4, 16, 4)
    found = read_bands(npy(values), replace(SPEC, layout="hwc", size=(4, 16)))
    assert np.array_equal(found.pixels, values.transpose(2, 0, 1))


def test_a_palette_is_no_band():
    palette = np.zeros((3, 256), dtype=np.uint16)
    file = io.BytesIO()
    tifffile.imwrite(file, raw("uint8")[0], photometric="palette", colormap=palette, metadata=None)
    with pytest.raises(UndecodableError, match="a palette, which has no bands"):
        read_bands(file.getvalue(), replace(SPEC, dtype="uint8"))


def test_without_its_reader_a_tiff_is_refused_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setattr(band_files, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"need tifffile, not installed here: pip install \"backbone-zoo\[pixels\]\""):
        read_bands(tiff(raw()), SPEC)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("-", "-"), "--channels names no band"),
        (("red", "R"), "--channels names red twice; say - for a band that is to be passed over"),
    ],
)
def test_names_of_bands_that_say_nothing_are_refused(names, message):
    with pytest.raises(DataError, match=message):
        wanted_bands(names)


def test_other_files_may_name_other_bands_but_one_must_be_known():
    assert wanted_bands(("NIR", "-", "r")) == ("nir", "red")
    assert file_bands(("NIR", "-", "r"), NAMES) == ("nir", "-", "red")
    with pytest.raises(DataError, match=r"the run reads red, green, blue, nir, and none of them is there.*nir"):
        file_bands(("nri",), NAMES)


def test_the_type_of_the_pixels_is_that_of_the_first_file_that_can_be_read(tmp_path):
    for name, data in {"a": b"torn", "b": npy(raw("int16")), "c": npy(raw())}.items():
        (tmp_path / f"{name}.npy").write_bytes(data)
    paths = [tmp_path / "none.npy", *sorted(tmp_path.iterdir())]
    assert pixel_type(paths, SPEC) == "int16"
    assert pixel_type(paths[:2], SPEC) == "uint8"


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (-9999.0, "uint8", "--nodata -9999 can stand in no pixel: uint8 holds whole numbers from 0 to 255"),
        (0.5, "int16", r"--nodata 0\.5 can stand in no pixel: int16 holds whole numbers from -32768 to 32767"),
        (float("nan"), "float32", "NaN always counts as missing"),
        (float("inf"), "uint16", "--nodata inf can stand in no pixel"),
    ],
)
def test_a_nodata_value_that_no_pixel_can_have_is_refused(value, dtype, message):
    with pytest.raises(DataError, match=message):
        check_nodata(value, dtype)
    check_nodata(-9999.0, "float32")
    check_nodata(None, "uint8")
