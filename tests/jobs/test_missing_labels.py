"""Tables whose targets have holes: what a row still teaches, what is counted, and what is said."""

import json
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

import zoo
from zoo.errors import DataError, OptionError, ZooError
from zoo.jobs.pseudo import with_labels

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


def test_rows_that_lack_a_label_may_be_left_out_within_caps(table, tmp_path):
    path = table(lambda row, column: column == "colour" and row % 10 == 0)
    with pytest.raises(
        DataError, match=r"(?s)training rows have holes in their labels, too many.*--missing-labels mask"
    ):
        train(path, tmp_path / "run", missing_labels="drop")
    result = train(path, tmp_path / "run", missing_labels="drop(max=0.2, max_class=0.3)")
    dropped = [said for said in result.run["data"]["warnings"] if "were left out" in said]
    splits = pl.read_csv(tmp_path / "run" / "splits.csv")["split"].to_list()
    gone = splits.count("unused")
    assert dropped == [f"{gone} of {38} training rows have holes in their labels and were left out"]
    assert result.run["data"]["splits"]["train"] == 38 - gone
    # Held-out rows are the same, with their holes.
    masked = train(path, tmp_path / "masked")
    assert masked.run["data"]["splits"]["test"] == result.run["data"]["splits"]["test"]
    assert masked.metrics["colour"]["test"]["rows"] == result.metrics["colour"]["test"]["rows"]


@pytest.mark.parametrize("options", [{}, {"freeze": "last(1)", "augment": "light", "views": 2}])
def test_pseudo_labels_are_of_training_rows_alone_and_flagged(table, tmp_path, options):
    path = table(lambda row, column: column == "shape" and row % 3 == 0)
    fields = {"target": ("shape",), "epochs": 12, "missing_labels": "pseudo(tau=0.7)", **options}
    result = train(path, tmp_path / "run", **fields)
    assert "20 train rows have no label and may get pseudo-labels" in result.run["data"]["splits"]["how"]
    given = result.run["pseudo_labels"]["shape"]
    assert given["candidates"] == 20
    splits = pl.read_csv(tmp_path / "run" / "splits.csv")
    flagged = splits.filter(pl.col("pseudo").is_not_null())
    assert len(flagged) == sum(given["taken"].values()) > 10
    assert set(flagged["split"]) == {"train"}
    said = [text.removeprefix("shape=") for text in flagged["pseudo"]]
    right = [label == image.partition("/")[0] for label, image in zip(said, flagged["image"], strict=True)]
    assert sum(right) > 0.8 * len(right)
    labelled = pl.read_csv(path)["shape"].fill_null("") != ""
    assert not (splits["pseudo"].is_not_null() & labelled).any()
    masked = train(path, tmp_path / "masked", **{**fields, "missing_labels": "mask"})
    for split in ("val", "test"):
        assert result.metrics["shape"][split]["rows"] == masked.metrics["shape"][split]["rows"]
    assert any(each["what"] == "pseudo-labels of shape" for each in result.run["decisions"])
    # The rates run out before labels are given, and begin anew.
    rates = pl.read_csv(tmp_path / "run" / "history.csv")["learning_rate"].to_list()
    assert rates[5] < rates[6]


def test_pseudo_labels_that_nothing_could_get_or_learn_from_are_refused(table, tmp_path):
    with pytest.raises(
        DataError, match="pseudo fills missing classes and labels of training rows, and none is missing"
    ):
        train(table(lambda row, column: False), tmp_path / "run", missing_labels="pseudo")
    path = table(lambda row, column: column == "shape" and row % 3 == 0)
    with pytest.raises(ZooError, match="of 1 epochs none would come before, or none after, the labels are given"):
        train(path, tmp_path / "run", missing_labels="pseudo", epochs=1)
    with pytest.raises(ZooError, match="lbfgs fits heads once, and --missing-labels pseudo divides the run into parts"):
        train(path, tmp_path / "run", missing_labels="pseudo", fitter="lbfgs")
    with pytest.raises(OptionError, match="unknown answer to missing labels 'guess'"):
        train(path, tmp_path / "run", missing_labels="guess")


def test_two_stages_first_every_row_then_the_complete_ones_at_a_lower_rate(table, tmp_path):
    path = table(lambda row, column: column == "colour" and row % 3 == 0)
    first = train(path, tmp_path / "first", epochs=3)
    options = {name: BASE[name] for name in ("quiet", "deterministic")}
    second = zoo.train(
        path,
        out=tmp_path / "second",
        start=tmp_path / "first",
        missing_labels="drop(max=1, max_class=1)",
        lr=1e-4,
        epochs=1,
        **options,
    )
    assert second.run["data"]["splits"]["test"] == first.run["data"]["splits"]["test"]
    assert second.run["data"]["splits"]["train"] < first.run["data"]["splits"]["train"]
    seen = pl.read_csv(tmp_path / "second" / "splits.csv").filter(pl.col("run") == "first")
    assert set(seen["split"]) == {"train"}  # what the first stage was trained on, this run was


def test_no_held_out_row_can_be_given_a_label():
    job = SimpleNamespace(data=SimpleNamespace(splits=SimpleNamespace(train=np.array([1, 2]))))
    with pytest.raises(ValueError, match="a pseudo-label of a row that does not train"):
        with_labels(job, {"shape": {"rows": [2, 3]}})
