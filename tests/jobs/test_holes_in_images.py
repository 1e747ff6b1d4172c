"""Missing pixels in whole runs: told, filled as training taught it, and never taken for what they are not."""

import numpy as np
import polars as pl
import pytest
from PIL import Image

import zoo
from zoo.errors import DataError, OptionError, ZooError

BASE = {"backbone": "tiny/test_efficientnet", "size": 32, "epochs": 1, "quiet": True, "deterministic": True}
ON = {"epochs": 1, "quiet": True, "deterministic": True}


@pytest.fixture
def holed(shape_folder):
    """Cuts a transparent corner out of every third image; only of one class, or of none, where asked."""

    def cut(classes=("disc", "square")):
        root = shape_folder(14, 14)
        for name in ("disc", "square"):
            for row, path in enumerate(sorted((root / name).iterdir())):
                pixels = np.asarray(Image.open(path))
                alpha = np.full(pixels.shape[:2], 255, dtype=np.uint8)
                if row % 3 == 0 and name in classes:
                    alpha[:20, :20] = 0
                Image.fromarray(np.dstack([pixels, alpha])).save(path)
        return root

    return cut


def test_holes_are_filled_in_training_evaluation_prediction_and_by_the_run_that_goes_on(holed, tmp_path):
    root = holed()
    first = zoo.train(root, out=tmp_path / "run", impute=("pixels=telea(radius=2)",), **BASE)
    assert first.run["imputation"] == [{"kind": "pixels", "imputer": "telea", "filled": {"images": 10}}]
    assert first.run["data"]["rows_with_holes"]["pixels"] == 10
    (hole,) = first.run["data"]["holes"]
    assert (hole["column"], hole["classes"]) == ("image (pixels)", {"disc": 5, "square": 5})
    scored = zoo.evaluate(tmp_path / "run", root)
    assert scored.metrics["label"]["log_loss"] == first.metrics["label"]["test"]["log_loss"]
    assert "telea filled them as it learned to in training" in scored.warnings[0]
    with pytest.warns(UserWarning, match="1 images lack pixels; telea filled them"):
        assert len(zoo.predict(tmp_path / "run", root / "disc" / "0.png")) == 1
    second = zoo.train(root, out=tmp_path / "more", start=tmp_path / "run", **ON)
    assert second.run["imputation"] == first.run["imputation"]
    assert ["imputer of pixels", "telea", "backbone-zoo"] in [each[:3] for each in second.run["plugins"]]
    with pytest.raises(ZooError, match=r"--nodata 3\.0: missing pixels are known as .* knows them; leave it out"):
        zoo.train(root, out=tmp_path / "no", start=tmp_path / "run", nodata=3.0, **ON)


def test_features_of_whole_images_are_shared_and_those_of_filled_ones_are_not(holed, tmp_path):
    root = holed()
    zoo.train(root, out=tmp_path / "one", impute=("pixels=telea",), **BASE)
    other = zoo.train(root, out=tmp_path / "two", impute=("pixels=mean",), **BASE)
    again = zoo.train(root, out=tmp_path / "three", impute=("pixels=mean",), **BASE)
    computed = [
        next(each["choice"] for each in run.run["decisions"] if each["what"] == "rows through the frozen part")
        for run in (other, again)
    ]
    assert computed == ["10 computed", "0 computed"]


def test_transparency_that_nobody_fills_is_told(holed, tmp_path):
    result = zoo.train(holed(("disc",)), out=tmp_path / "run", **BASE)
    assert result.run["imputation"] == []
    said = result.run["data"]["warnings"]
    assert any("5 images have transparent pixels; the colour below is taken" in each for each in said)
    (hole,) = result.run["data"]["holes"]
    assert "depend on 'label'" in hole["said"]


def test_nodata_pixels_must_be_filled_or_their_images_left_out(shape_folder, tmp_path):
    root = shape_folder(20, 20)
    for row in range(3):
        pixels = np.asarray(Image.open(root / "disc" / f"{row}.png")).copy()
        pixels[:10] = 255
        Image.fromarray(pixels).save(root / "disc" / f"{row}.png")
    asked = {**BASE, "nodata": 255.0}
    with pytest.raises(
        DataError, match=r"3 of 40 image files cannot be used:\n.*pixels are missing \(nodata\)"
    ) as caught:
        zoo.train(root, out=tmp_path / "run", **asked)
    assert "fill what is missing (--impute pixels=NAME" in str(caught.value)
    dropped = zoo.train(root, out=tmp_path / "run", bad_files="drop", max_bad=0.1, max_bad_class=0.2, **asked)
    assert len(dropped.run["data"]["bad_files"]) == 3
    filled = zoo.train(root, out=tmp_path / "filled", impute=("pixels=mean",), **asked)
    assert filled.run["imputation"][0]["filled"] == {"images": 3}
    with pytest.raises(DataError, match="train with --impute pixels=NAME"):
        zoo.evaluate(tmp_path / "run", root)


def test_holes_in_held_out_rows_alone_are_told(holed, tmp_path):
    root = holed()
    rows = [
        {"image": f"{name}/{path.name}", "label": name, "split": "test" if row % 3 == 0 else ("val", "train")[row % 2]}
        for name in ("disc", "square")
        for row, path in enumerate(sorted((root / name).iterdir()))
    ]
    pl.DataFrame(rows).write_csv(root / "table.csv")
    roles = {"target": ("label",), "split": "split"}
    result = zoo.train(root / "table.csv", out=tmp_path / "run", impute=("pixels=mean",), **roles, **BASE)
    said = result.run["data"]["warnings"]
    assert any("pixels are missing in 10 test rows and in no training row" in each for each in said)


def test_an_imputer_of_holes_that_cannot_be_is_refused_and_one_without_any_is_told(holed, shape_folder, tmp_path):
    with pytest.raises(OptionError, match="none of these images can lack one: uint8 holds no NaN"):
        zoo.train(shape_folder(name="whole"), out=tmp_path / "no", impute=("pixels=telea",), **BASE)
    result = zoo.train(holed(()), out=tmp_path / "run", impute=("pixels=telea",), **BASE)
    assert "no image here lacks pixels; telea was fitted, and acts on later images" in result.run["data"]["warnings"]
