"""Tables whose targets have holes: what a row still teaches, what is counted, and what is said."""

import json

import polars as pl
import pytest

import zoo
from zoo.errors import DataError

BASE = {"backbone": "tiny/test_efficientnet", "size": 32, "epochs": 2, "quiet": True, "deterministic": True}


@pytest.fixture
def table(shape_folder):
    """Writes a CSV of 60 rows of two shapes and a colour with holes, given by `blank(row, column)`."""
    root = shape_folder(30, 30)

    def write(blank):
        rows = []
        for row in range(60):
            shape, number = ("disc", row) if row < 30 else ("square", row - 30)
            cells = {"shape": shape, "colour": ("red", "blue")[row % 2]}
            shown = {name: "" if blank(row, name) else cell for name, cell in cells.items()}
            rows.append({"image": f"{shape}/{number}.png", **shown})
        path = root / "table.csv"
        pl.DataFrame(rows).write_csv(path)
        return path

    return write


def train(path, out, **options):
    return zoo.train(path, out=out, **{"target": ("shape", "colour"), **BASE, **options})


def test_a_row_is_left_out_only_where_all_its_labels_are_missing(table, tmp_path):
    def blank(row, column):
        return row % 10 == 0 or row % 5 == (1 if column == "shape" else 2)

    path = table(blank)
    result = train(path, tmp_path / "run")
    data = result.run["data"]
    assert "6 rows without any label left out" in data["splits"]["how"]
    assert sum(data["splits"][name] for name in ("train", "val", "test")) == 54
    assert data["missing_labels"] == {"shape": 18, "colour": 18}
    said = "18 of 60 rows have no label of 'shape'; they teach and measure the other targets alone"
    assert said in data["warnings"]
    holes = {each["column"]: each for each in data["holes"]}
    assert holes["shape"]["by"] == "colour"
    assert holes["shape"]["classes"] == {"blue": 6, "red": 6}  # of the other six nothing is known
    assert holes["colour"]["by"] == "shape"
    assert sum(holes["colour"]["splits"].values()) == 12
    scored = zoo.evaluate(tmp_path / "run", path)
    for name in ("shape", "colour"):
        assert scored.metrics[name]["rows"] == result.metrics[name]["test"]["rows"] <= scored.rows
    assert result.run["training"]["metric"] == "the mean of shape:log_loss and colour:log_loss"
    history = pl.read_csv(tmp_path / "run" / "history.csv")
    assert result.run["training"]["best_value"] == pytest.approx(history["mean"].min())
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("rows in which a value is missing") == 2


def test_one_target_may_choose_the_epoch(table, tmp_path):
    result = train(table(lambda row, column: False), tmp_path / "run", metric="shape:balanced_accuracy")
    assert result.run["training"]["metric"] == "shape:balanced_accuracy"
    history = pl.read_csv(tmp_path / "run" / "history.csv")
    assert result.run["training"]["best_value"] == pytest.approx(history["shape/balanced_accuracy"].max())
    assert "mean" not in history.columns


def test_a_target_that_training_cannot_learn_is_refused(table, tmp_path):
    with pytest.raises(DataError, match="target 'colour' has no label at all in the 38 training rows"):
        train(table(lambda row, column: column == "colour"), tmp_path / "run")
    split = pl.read_csv(table(lambda row, column: column == "colour" and row % 3)).with_columns(
        part=pl.Series(["train" if row % 3 else ("val", "test")[row % 2] for row in range(60)])
    )
    path = table(lambda row, column: False)
    split.write_csv(path)
    with pytest.raises(DataError, match="target 'colour' has no label at all in the 40 training rows"):
        train(path, tmp_path / "run", split="part")


def test_holes_that_depend_on_another_target_are_told(table, tmp_path):
    result = train(table(lambda row, column: column == "colour" and row < 20), tmp_path / "run")
    (found,) = result.run["data"]["holes"]
    assert found["said"].startswith("holes of 'colour' depend on 'shape' (p less than 0.001")
    assert found["said"].endswith("the labels that there are do not stand for all")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["data"]["holes"] == [found]
