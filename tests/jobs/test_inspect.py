"""`zoo inspect`: what is missing in data, told without stopping at any of it."""

import json

import numpy as np
import polars as pl
import pytest
from PIL import Image

import zoo
from zoo.cli import main
from zoo.errors import DataError, RunError, ZooError

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def table(shapes, tmp_path):
    """A CSV of 60 images with holes of every kind: a truncated and an empty file, one that is nowhere, alpha, cells."""
    paths, labels = shapes(60)
    for row in (10, 11, 12):
        pixels = np.asarray(Image.open(paths[row]))
        alpha = np.full(pixels.shape[:2], 255, dtype=np.uint8)
        alpha[: 24 if row == 10 else 12] = 0
        Image.fromarray(np.dstack([pixels, alpha])).save(paths[row])
    paths[20].write_bytes(paths[20].read_bytes()[:300])
    paths[21].write_bytes(b"")
    paths[22].unlink()
    paths[31].write_bytes(paths[30].read_bytes())
    names = ["disc" if label == 0 else "square" for label in labels]
    frame = pl.DataFrame(
        {
            "image": [str(path) for path in paths],
            "kind": [None if row == 40 else name for row, name in enumerate(names)],
            "age": ["NaN" if name == "square" and row % 4 else str(row / 7) for row, name in enumerate(names)],
            "limit": ["inf" if row == 5 else "1.5" for row in range(60)],
            "site": [None if row % 10 == 0 else "north" for row in range(60)],
            "whole": ["x"] * 60,
        }
    )
    path = tmp_path / "table.csv"
    frame.write_csv(path)
    return path


def by_column(found):
    return {each["column"]: each for each in found["holes"]}


def test_every_kind_of_hole_is_found_and_counted(table, tmp_path):
    result = zoo.inspect(table, target="kind", size=32, out=tmp_path / "out")
    found = result.found
    holes = by_column(found)
    counts = {name: own["rows"] for name, own in holes.items()}
    assert counts == {"image (file)": 3, "image (pixels)": 3, "kind": 1, "age": 30, "limit": 1, "site": 6}
    assert holes["age"]["classes"] == {"disc": 0, "square": 30}
    assert holes["age"]["p_value"] < 0.001
    assert "depend on 'kind'" in holes["age"]["said"]
    assert holes["site"]["p_value"] is not None
    assert sum(holes["site"]["splits"].values()) <= 6
    assert [(bad["row"], bad["reason"]) for bad in found["bad_files"]] == [
        (20, "truncated image"),
        (21, "empty file"),
        (22, "no such file"),
    ]
    assert "3 of 60 image files cannot be read" in found["problems"][0]
    (twins,) = found["equal_files"]
    assert (twins["rows"], twins["labels"]) == ([30, 31], ["disc", "square"])
    assert found["classes"]["kind"][0]["rows"] == 29
    assert json.loads((tmp_path / "out" / "inspect.json").read_text()) == json.loads(json.dumps(found))


def test_the_page_shows_where_holes_are_and_looks_nothing_up(table, tmp_path):
    zoo.inspect(table, target="kind", size=32, out=tmp_path / "out")
    page = (tmp_path / "out" / "inspect.html").read_text()
    assert (tmp_path / "out" / "inspect.png").read_bytes().startswith(PNG)
    assert page.count("data:image/png") == 2  # rows against columns, and places in the image
    assert page.count("data:image/jpeg") == 3
    assert "50% of its pixels" in page
    assert page.index("50% of its pixels") < page.index("25% of its pixels")
    assert "truncated image" in page
    assert "http" not in page.replace("http-equiv", "")


def test_the_counts_are_those_that_a_run_records(holed_run, tmp_path):
    root, run = holed_run
    found = zoo.inspect(root, size=32, out=tmp_path / "out").found
    assert by_column(found) == {each["column"]: each for each in run["data"]["holes"]}
    assert {own["name"]: own["train"] for own in found["classes"]["label"]} == {"disc": 14, "square": 14}


@pytest.fixture
def holed_run(shape_folder, tmp_path):
    root = shape_folder(22, 22)
    for row in range(0, 22, 3):
        pixels = np.asarray(Image.open(root / "disc" / f"{row}.png"))
        alpha = np.full(pixels.shape[:2], 255, dtype=np.uint8)
        alpha[:20, :20] = 0
        Image.fromarray(np.dstack([pixels, alpha])).save(root / "disc" / f"{row}.png")
    options = {"size": 32, "crop": "squash", "epochs": 1, "quiet": True, "deterministic": True}
    result = zoo.train(root, backbone="tiny/test_efficientnet", out=tmp_path / "run", **options)
    return root, result.run


def test_what_training_would_stop_at_is_said_and_stops_nothing(shape_folder, tmp_path):
    one = zoo.inspect(shape_folder(9, 0, name="one"), size=32, out=tmp_path / "a").found
    assert any("one class only" in each for each in one["problems"]), one["problems"]
    few = zoo.inspect(shape_folder(9, 1, name="few"), size=32, out=tmp_path / "b").found
    assert any("square" in each for each in few["problems"]), few["problems"]


def test_data_without_holes_or_labels(shapes, tmp_path):
    paths, _ = shapes(4)
    pl.DataFrame({"image": [str(path) for path in paths]}).write_csv(tmp_path / "bare.csv")
    out = tmp_path / "out"
    out.mkdir()
    (out / "inspect.png").write_bytes(b"of an earlier look")
    found = zoo.inspect(tmp_path / "bare.csv", size=32, out=out).found
    assert (found["holes"], found["classes"], found["problems"]) == ([], {}, [])
    assert found["splits"]["how"] == "not split: no target is named"
    assert not (out / "inspect.png").exists()
    assert "every cell and channel has a value" in (out / "inspect.html").read_text()


def test_named_bands_with_holes(tmp_path):
    generator = np.random.default_rng(0)
    for row in range(8):
        values = generator.normal(100, 20, (3, 20, 20)).astype(np.float32)
        if row < 2:
            values[2] = np.nan
        if row == 3:
            values[0, :5] = np.nan
        for name in ("a", "b")[row % 2 :][:1]:
            (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
            np.save(tmp_path / "data" / name / f"{row}.npy", values)
    found = zoo.inspect(tmp_path / "data", channels=("red", "green", "nir"), size=16, out=tmp_path / "out").found
    counts = {name: own["rows"] for name, own in by_column(found).items()}
    assert counts == {"image (pixels)": 1, "image (channel nir)": 2}
    page = (tmp_path / "out" / "inspect.html").read_text()
    assert "100% of nir" in page
    assert "25% of red" in page


def test_the_command(table, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", str(table), "--target", "kind", "--size", "32", "--out", "o", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "bad files   1 truncated image" in said
    assert "age" in said
    assert "1 file is there with several labels" in said
    assert main(["inspect", str(table), "--target", "kind", "--size", "32", "--out", "o", "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 60


def test_wrong_requests(table, tmp_path):
    with pytest.raises(ZooError, match=r"inspect has no option 'tagret'.*target"):
        zoo.inspect(table, tagret="kind")
    with pytest.raises(DataError, match="kinds"):
        zoo.inspect(table, target="kinds", out=tmp_path / "out")
    with pytest.raises(ZooError, match="--size must be at least 1"):
        zoo.inspect(table, target="kind", size=0)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="cannot write to"):
        zoo.inspect(table, target="kind", size=32, out=tmp_path / "file" / "below")


def test_a_column_of_numbers_with_nan_and_inf_as_text_is_one_of_numbers(table, tmp_path):
    options = {"size": 32, "epochs": 1, "quiet": True, "deterministic": True, "bad_files": "drop", "max_bad": 0.1}
    result = zoo.train(
        table,
        backbone="tiny/test_efficientnet",
        target=("kind",),
        covariate=("age", "limit"),
        out=tmp_path / "run",
        max_bad_class=0.2,
        **options,
    )
    assert result.run["data"]["covariates"] == ["age", "limit"]
