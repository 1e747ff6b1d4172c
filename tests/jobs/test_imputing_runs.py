"""Imputers, indicators and dropped rows in whole runs: learned once, kept with the run, used wherever the run is."""

import polars as pl
import pytest

import zoo
from zoo.config import ExportConfig, PredictConfig
from zoo.errors import DataError, ZooError
from zoo.jobs.export import run_export
from zoo.jobs.predict import run_prediction
from zoo.jobs.progress import Reporter

BASE = {"backbone": "tiny/test_efficientnet", "size": 32, "epochs": 2, "quiet": True, "deterministic": True}
COLUMNS = {"image": "path", "target": ("shape",), "covariate": ("size", "weight", "site")}


@pytest.fixture
def table(shape_folder):
    """A CSV of 40 rows; `size` lacks every fifth value, and discs alone lack some of `weight`."""
    root = shape_folder(20, 20)
    data = [
        {
            "path": f"{name}/{row}.png",
            "shape": name,
            "size": None if row % 5 == 0 else float(row),
            "weight": None if name == "disc" and row < 12 else 2.0 * row,
            "site": "north" if row % 3 else "south",
        }
        for name in ("disc", "square")
        for row in range(20)
    ]
    pl.DataFrame(data).write_csv(root / "table.csv")
    return root / "table.csv"


def test_a_run_fills_holes_as_it_learned_to_wherever_it_is_used(table, tmp_path):
    first = zoo.train(table, out=tmp_path / "run", impute=("covariates=knn(k=3)+indicator",), **COLUMNS, **BASE)
    marks = ["missing(size)", "missing(weight)", "missing(site)"]
    assert first.run["data"]["covariates"] == ["size", "weight", "site=north", "site=south", *marks]
    assert first.run["imputation"][0]["imputer"] == "knn"
    scored = zoo.evaluate(tmp_path / "run", table)
    assert scored.metrics["shape"]["accuracy"] == first.metrics["shape"]["test"]["accuracy"]
    alone = PredictConfig(run=tmp_path / "run", images=(str(table.parent / "disc" / "1.png"),))
    assert len(run_prediction(alone, Reporter(quiet=True)).frame) == 1
    options = {name: BASE[name] for name in ("epochs", "quiet", "deterministic")}
    second = zoo.train(table, out=tmp_path / "more", start=tmp_path / "run", image="path", target=("shape",), **options)
    assert second.run["data"]["covariates"] == first.run["data"]["covariates"]
    assert second.run["imputation"] == first.run["imputation"]
    complete = ("rows=drop(max=1, max_class=1)",)  # the second of two stages: on complete rows alone
    more = {"start": tmp_path / "run", "image": "path", "target": ("shape",), **options}
    third = zoo.train(table, out=tmp_path / "complete", impute=complete, **more)
    assert third.run["data"]["splits"]["train"] < first.run["data"]["splits"]["train"]
    assert third.run["data"]["splits"]["test"] == first.run["data"]["splits"]["test"]
    with pytest.raises(ZooError, match="this run marks which covariates were missing"):
        run_export(ExportConfig(run=tmp_path / "run", out=tmp_path / "model.pt2", format="torch"))


def test_holes_stand_in_the_run_and_in_its_report_by_column_split_and_class(table, tmp_path):
    result = zoo.train(table, out=tmp_path / "run", impute=("covariates=median",), **COLUMNS, **BASE)
    size, weight = result.run["data"]["holes"]
    assert (size["column"], size["rows"], size["classes"]) == ("size", 8, {"disc": 4, "square": 4})
    assert (weight["column"], weight["rows"], weight["classes"]) == ("weight", 12, {"disc": 12, "square": 0})
    assert sum(weight["splits"].values()) == 12
    assert weight["said"].startswith("holes of 'weight' depend on 'shape'")
    assert "show no dependence" in size["said"]
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "<h3>Holes" in page
    assert "depend on" in page


def test_training_rows_with_holes_are_dropped_within_caps_and_refused_above_them(table, tmp_path):
    with pytest.raises(DataError, match="too many to leave out") as caught:
        zoo.train(table, out=tmp_path / "no", impute=("rows=drop",), **COLUMNS, **BASE)
    assert "of shape = disc would go" in str(caught.value)
    asked = ("rows=drop(max=0.9, max_class=0.95)", "covariates=iterative")
    result = zoo.train(table, out=tmp_path / "run", impute=asked, **COLUMNS, **BASE)
    size, _ = result.run["data"]["holes"]
    assert size["splits"]["train"] == 0
    assert size["splits"]["test"] + size["splits"]["val"] > 0
    assert any("were left out" in warning for warning in result.run["data"]["warnings"])


def test_what_is_to_be_filled_must_be_there(shape_folder, tmp_path):
    with pytest.raises(ZooError, match="the run has no covariates; name columns with --covariate"):
        zoo.train(shape_folder(), out=tmp_path / "run", impute=("rows=drop",), **BASE)
