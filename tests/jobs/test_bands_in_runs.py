"""Named bands in whole runs: learned, normalised by the training rows, matched by name wherever the run is used."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

import zoo
from zoo.config import ExportConfig
from zoo.errors import DataError, OptionError, ZooError
from zoo.jobs.export import run_export

BASE = {"backbone": "tiny/test_efficientnet", "size": 32, "epochs": 1, "quiet": True, "deterministic": True}
BANDS = ("red", "green", "blue", "nir")
BOTH = ("pixels=mean", "channels=subset")


def scene(label, seed, dtype="float32"):
    random = np.random.default_rng(seed)
    values = random.normal(np.array([900.0, 1000.0, 1100.0, 3000.0])[:, None, None], 60.0, (4, 36, 40))
    values[3, 8:28, 8:28] += 2000.0 * label
    return values.astype(dtype)


@pytest.fixture
def scenes(tmp_path):
    """24 files of four bands of two classes; with holes, every fourth lacks pixels and two of one class lack nir."""

    def write(suffix=".tif", dtype="float32", holes=False):
        root = tmp_path / f"scenes{suffix}{dtype}"
        for label, name in enumerate(("bare", "crop")):
            (root / name).mkdir(parents=True)
            for row in range(12):
                values = scene(label, 100 * label + row, dtype)
                if holes and row % 4 == 0:
                    values[:, :10, :10] = np.nan
                if holes and label == 0 and row in (1, 2):
                    values[3] = np.nan
                path = root / name / f"{row}{suffix}"
                if suffix == ".npy":
                    np.save(path, values)
                else:
                    tifffile.imwrite(path, values, photometric="minisblack", planarconfig="separate", metadata=None)
        return root

    return write


@pytest.mark.parametrize(("suffix", "dtype"), [(".tif", "uint16"), (".npy", "int16")])
def test_bands_are_learned_in_the_files_own_units(scenes, tmp_path, suffix, dtype):
    root = scenes(suffix, dtype)
    result = zoo.train(root, out=tmp_path / "run", channels=BANDS, **BASE)
    spec = result.run["backbone"]["input"]
    assert (tuple(spec["bands"]), spec["dtype"], spec["full"]) == (BANDS, dtype, 1.0)
    assert spec["mean"][3] == pytest.approx(3600.0, rel=0.2)
    (normalised,) = [each for each in result.run["decisions"] if each["what"] == "normalisation"]
    assert "red, green, blue, nir by mean and deviation of the" in normalised["why"]
    scored = zoo.evaluate(tmp_path / "run", root)
    assert scored.metrics["label"]["log_loss"] == result.metrics["label"]["test"]["log_loss"]


def test_bands_are_matched_by_name_and_one_that_is_missing_is_filled(scenes, tmp_path):
    root = scenes(holes=True)
    result = zoo.train(root, out=tmp_path / "run", channels=BANDS, impute=BOTH, augment="light+erase", **BASE)
    assert [(each["kind"], each["filled"]["images"]) for each in result.run["imputation"]] == [
        ("channels", 2),
        ("pixels", 6),
    ]
    columns = {each["column"]: each for each in result.run["data"]["holes"]}
    assert columns["image (channel nir)"]["classes"] == {"bare": 2, "crop": 0}
    files = tmp_path / "new"
    files.mkdir()
    values = scene(1, 999)
    orders = {"same": [0, 1, 2, 3], "turned": [3, 2, 1, 0], "short": [0, 1, 2]}
    for name, order in orders.items():
        tifffile.imwrite(files / f"{name}.tif", values[order], photometric="minisblack", planarconfig="separate")
    run, column = tmp_path / "run", "label.p(crop)"
    same = zoo.predict(run, files / "same.tif")[column][0]
    turned = zoo.predict(run, files / "turned.tif", channels=("nir", "blue", "green", "red"))[column][0]
    assert turned == same
    with pytest.warns(UserWarning, match="1 images lack channels; subset filled them"):
        short = zoo.predict(run, files / "short.tif", channels=BANDS[:3])[column][0]
    assert short != same
    with pytest.raises(DataError, match="3 bands without names, where --channels names 4"):
        zoo.predict(run, files / "short.tif")
    more = zoo.train(root, out=tmp_path / "more", start=run, epochs=1, quiet=True, deterministic=True)
    assert more.run["imputation"] == result.run["imputation"]
    assert more.run["backbone"]["input"] == result.run["backbone"]["input"]


def test_holes_that_nothing_fills_are_refused_and_an_absent_band_is_too(scenes, tmp_path):
    root = scenes(".npy", holes=True)
    with pytest.raises(DataError, match=r"8 of 24 image files cannot be used:\n.*\(NaN or infinite\)"):
        zoo.train(root, out=tmp_path / "run", channels=BANDS, **BASE)
    with pytest.raises(DataError, match="channel nir is missing, and nothing fills it"):
        zoo.train(root, out=tmp_path / "run", channels=BANDS, impute=("pixels=mean",), **BASE)


def test_a_channel_that_no_training_row_has_is_refused(scenes, tmp_path):
    root = scenes(".npy")
    for path in root.rglob("*.npy"):
        values = np.load(path)
        values[3] = np.nan
        np.save(path, values)
    with pytest.raises(DataError, match=r"channel nir is missing in all .* training rows"):
        zoo.train(root, out=tmp_path / "run", channels=BANDS, impute=BOTH, **BASE)


@pytest.mark.parametrize("form", ["torch", "safetensors"])
def test_a_run_of_bands_is_exported_in_raw_units(scenes, tmp_path, form):
    zoo.train(scenes(".npy", holes=True), out=tmp_path / "run", channels=BANDS, impute=BOTH, **BASE)
    name = "model.pt2" if form == "torch" else "model.safetensors"
    found = run_export(ExportConfig(run=tmp_path / "run", format=form, out=tmp_path / "served" / name))
    assert found.check is not None
    assert found.check.difference < 1e-4
    card = found.files[-1].read_text(encoding="utf-8")
    assert "read the bands red, green, blue, nir in this order" in card


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"channels": ("grey",), "impute": ("channels=mean",)}, OptionError, "these images have one alone"),
        ({"layout": "hwc"}, ZooError, "--layout is about .npy files of named bands"),
        ({"channels": ("-",)}, ZooError, "--channels names no band"),
        ({"channels": BANDS, "nodata": float("nan")}, ZooError, "NaN always counts as missing"),
        ({}, DataError, "name its bands with --channels"),
        ({"channels": BANDS, "augment": "randaugment"}, ZooError, "take images of 8 bits and 1 or 3 channels"),
    ],
)
def test_what_does_not_go_together_is_refused(scenes, tmp_path, options, error, message):
    root = scenes(".npy")
    if options.get("channels") == ("grey",):
        for path in root.rglob("*.npy"):
            np.save(path, np.load(path)[0])
    with pytest.raises(error, match=message):
        zoo.train(root, out=tmp_path / "run", **options, **BASE)


def test_channels_of_a_run_of_ordinary_pictures_are_refused(shape_folder, tmp_path):
    root = shape_folder(14, 14)
    zoo.train(root, out=tmp_path / "run", **BASE)
    with pytest.raises(DataError, match="the run reads ordinary pictures; leave out --channels and --layout"):
        zoo.evaluate(tmp_path / "run", root, channels=BANDS)
