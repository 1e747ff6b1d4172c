"""Imputers, indicators and dropped rows in whole runs: learned once, kept with the run, used wherever the run is."""

import polars as pl
import pytest
import torch

import zoo
from zoo.config import ExportConfig, PredictConfig
from zoo.errors import DataError, ZooError
from zoo.jobs.export import run_export
from zoo.jobs.predict import run_prediction
from zoo.jobs.progress import Reporter
from zoo.training.seeds import covariates_of
from zoo.training.settings import Absence, Data

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


@pytest.fixture
def telling(shapes, tmp_path):
    """A CSV whose covariate gives the class away, and whose images show it too."""
    paths, labels = shapes(80)
    frame = pl.DataFrame(
        {
            "image": [str(path) for path in paths],
            "kind": ["disc" if label == 0 else "square" for label in labels],
            "size": [10.0 * label + (row % 5) for row, label in enumerate(labels)],
            **{f"more{number}": [50.0 * label for label in labels] for number in range(6)},
            "site": ["north" if row % 3 else "south" for row in range(80)],
        }
    )
    path = tmp_path / "telling.csv"
    frame.write_csv(path)
    return path


TELLING = {
    "target": ("kind",),
    "covariate": ("size", "site", *(f"more{number}" for number in range(6))),
    "epochs": 12,
    "backbone": "tiny/test_efficientnet",
}


def test_dropout_of_covariates_lets_a_model_do_without_them(telling, tmp_path):
    options = {**TELLING, "size": 32, "quiet": True, "deterministic": True, "epochs": 60, "head_l2": 0.01}
    plain = zoo.train(telling, out=tmp_path / "plain", impute=("covariates=mean+indicator",), **options)
    taught = zoo.train(telling, out=tmp_path / "taught", impute=("covariates=mean+dropout(p=0.5)",), **options)
    assert "without_covariates" not in plain.run
    bare = taught.run["without_covariates"]["kind"]
    assert set(bare) == {"val", "test"}
    images = telling.parent / "images.csv"
    pl.read_csv(telling).select("image", "kind").write_csv(images)
    losses = {}
    for name in ("plain", "taught"):
        scored = zoo.evaluate(tmp_path / name, images, rows="test")
        assert any("no column 'size'" in each for each in scored.warnings)
        losses[name] = scored.metrics["kind"]["log_loss"]
    assert losses["taught"] < losses["plain"]
    assert losses["taught"] == pytest.approx(bare["test"]["log_loss"], abs=1e-6)
    assert taught.metrics["kind"]["test"]["log_loss"] < losses["taught"]
    page = (tmp_path / "taught" / "report.html").read_text()
    assert "kind without covariates, test rows" in page


def test_dropout_of_covariates_is_drawn_by_epoch_and_row_and_survives_an_interruption(telling, tmp_path):
    settings = {**TELLING, "size": 32, "quiet": True, "deterministic": True, "epochs": 3}
    impute = ("covariates=median+dropout",)
    runs = [zoo.train(telling, out=tmp_path / str(number), impute=impute, **settings) for number in range(2)]
    first, second = (pl.read_csv(run.folder / "history.csv")["train_loss"].to_list() for run in runs)
    assert first == second
    other = zoo.train(telling, out=tmp_path / "other", impute=("covariates=median+dropout(p=0.9)",), **settings)
    assert pl.read_csv(other.folder / "history.csv")["train_loss"].to_list() != first
    absence = Absence(share=0.3, columns=torch.full((2,), -7.0))
    data = Data(inputs=None, covariates=torch.zeros(1000, 2), targets={}, train=None, val=None, absence=absence)
    epochs = [covariates_of(data, 5, epoch)[:, 0] == -7.0 for epoch in (0, 0, 1)]
    assert torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[0], epochs[2])
    assert 0.25 < epochs[0].float().mean() < 0.35


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"impute": ("covariates=mean+dropout(p=1.5)",)}, r"p must lie in \(0, 1\), not 1.5"),
        ({"impute": ("covariates=mean+dropout(q=0.5)",)}, "q"),
        ({"impute": ("covariates=mean+dropout",), "fitter": "lbfgs"}, "dropout of covariates changes them"),
        ({"impute": ("covariates=mean+dropout",), "imbalance": ("bagging",)}, "dropout of covariates changes them"),
        ({"impute": ("covariates=dropout",), "covariate": ()}, "dropout is about covariates"),
    ],
)
def test_dropout_of_covariates_is_refused_where_it_cannot_act(telling, tmp_path, options, said):
    given = {**TELLING, "size": 32, "quiet": True, "deterministic": True, "epochs": 1, **options}
    with pytest.raises(ZooError, match=said):
        zoo.train(telling, out=tmp_path / "run", **given)


def test_a_run_that_goes_on_may_drop_covariates_only_where_the_head_knows_what_missing_is(telling, tmp_path):
    options = {**TELLING, "size": 32, "quiet": True, "deterministic": True, "epochs": 1}
    zoo.train(telling, out=tmp_path / "plain", **options)
    zoo.train(telling, out=tmp_path / "marked", impute=("covariates=mean+indicator",), **options)
    again = {"epochs": 1, "quiet": True, "deterministic": True, "impute": ("covariates=dropout",)}
    with pytest.raises(ZooError, match="nothing that says that covariates are missing"):
        zoo.train(telling, out=tmp_path / "a", start=tmp_path / "plain", target=("kind",), **again)
    more = zoo.train(telling, out=tmp_path / "b", start=tmp_path / "marked", target=("kind",), **again)
    assert "kind" in more.run["without_covariates"]


@pytest.mark.parametrize("imputer", ["knn", "iterative+multiple(m=2)"])
def test_columns_that_are_missing_in_all_test_rows_or_all_rows_of_a_class_are_filled_and_told(
    shapes, tmp_path, imputer
):
    paths, labels = shapes(60)
    splits = ["test" if row >= 40 else "val" if row >= 30 else "train" for row in range(60)]
    frame = pl.DataFrame(
        {
            "image": [str(path) for path in paths],
            "shape": ["disc" if label == 0 else "square" for label in labels],
            "part": splits,
            "whole": [float(row) for row in range(60)],
            "untested": [None if part == "test" else 2.0 * row for row, part in enumerate(splits)],
            "one_class": [None if label == 0 else 3.0 * row for row, label in enumerate(labels)],
        }
    )
    data = tmp_path / "table.csv"
    frame.write_csv(data)
    options = {**BASE, "target": ("shape",), "covariate": ("whole", "untested", "one_class"), "split": "part"}
    run = zoo.train(data, out=tmp_path / "run", impute=(f"covariates={imputer}",), **options)
    assert run.run["imputation"][0]["filled"] == {"untested": 20, "one_class": 30}
    assert run.metrics["shape"]["test"]["rows"] == 20
    [depends] = [each for each in run.run["data"]["holes"] if each["column"] == "one_class"]
    assert depends["p_value"] < 1e-6
    predictions = pl.read_csv(tmp_path / "run" / "predictions.csv")
    assert predictions["shape.confidence"].is_finite().all()
