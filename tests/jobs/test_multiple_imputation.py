"""Multiple imputation in whole runs: one network, several completions, pooled predictions with their spread."""

import json

import numpy as np
import polars as pl
import pytest

import zoo
from zoo.config import ExportConfig
from zoo.errors import OptionError, ZooError
from zoo.jobs.export import run_export
from zoo.run.artifact import load_artifact

BASE = {"backbone": "tiny/test_efficientnet", "size": 32, "quiet": True, "deterministic": True}
IMPUTE = ("covariates=iterative+multiple(m=4)",)


@pytest.fixture
def holed(shapes, tmp_path):
    """A CSV of 90 images; two numbers follow each other and the class, and a third of the second is missing."""
    paths, labels = shapes(90)
    random = np.random.default_rng(0)
    first = random.normal(size=90) + 2.0 * np.array(labels)
    frame = pl.DataFrame(
        {
            "image": [str(path) for path in paths],
            "kind": ["disc" if label == 0 else "square" for label in labels],
            "weight": first + 0.3 * random.normal(size=90),
            "first": first,
            "second": [None if row % 3 == 0 else value for row, value in enumerate(first + random.normal(size=90))],
        }
    )
    path = tmp_path / "holed.csv"
    frame.write_csv(path)
    return path


def run(data, out, **more):
    options = {"target": ("kind", "weight"), "task": ("weight=regression",), "covariate": ("first", "second")}
    return zoo.train(data, out=out, **{**options, **BASE, "epochs": 6, "impute": IMPUTE, **more})


def test_predictions_are_pooled_over_the_draws_and_say_how_far_these_lie_apart(holed, tmp_path):
    found = run(holed, tmp_path / "run")
    assert found.run["imputation"][0]["draws"] == 4
    assert "iterative, 4 draws of each hole" in (tmp_path / "run" / "report.html").read_text()
    frame = pl.read_csv(tmp_path / "run" / "predictions.csv").join(pl.read_csv(holed), on="image")
    missing = frame["second"].is_null()
    for name in ("kind", "weight"):
        spread = frame[f"{name}.spread"]
        assert (spread.filter(~missing) < 1e-9).all()
        assert (spread.filter(missing) > 1e-6).all()
    shares = frame["kind.p(disc)"] + frame["kind.p(square)"]
    assert shares.to_list() == pytest.approx([1.0] * len(frame))
    # The same anywhere: of one image alone, of a table, and where the run is scored.
    alone = zoo.predict(tmp_path / "run", holed)
    both = frame.join(alone, on="image", suffix=".again")
    for column in ("kind.p(disc)", "kind.spread", "weight.predicted"):
        assert both[column].to_list() == pytest.approx(both[f"{column}.again"].to_list(), abs=1e-6)
    row = pl.read_csv(holed).filter(pl.col("second").is_null()).head(1)
    row.write_csv(tmp_path / "one.csv")
    one = zoo.predict(tmp_path / "run", tmp_path / "one.csv")
    same = alone.filter(pl.col("image") == row["image"][0])
    assert one["kind.spread"].to_list() == pytest.approx(same["kind.spread"].to_list(), abs=1e-6)
    scored = zoo.evaluate(tmp_path / "run", holed)
    assert scored.metrics["kind"]["accuracy"] == found.metrics["kind"]["test"]["accuracy"]


def test_training_sees_one_completion_after_the_other(holed, tmp_path):
    losses = {}
    for name, impute in (("once", ("covariates=iterative",)), ("more", IMPUTE)):
        run(holed, tmp_path / name, impute=impute, epochs=2)
        losses[name] = pl.read_csv(tmp_path / name / "history.csv")["train_loss"].to_list()
    assert losses["once"] != losses["more"]
    again = run(holed, tmp_path / "again", epochs=2)
    assert pl.read_csv(again.folder / "history.csv")["train_loss"].to_list() == losses["more"]


def test_a_run_that_goes_on_draws_too_and_an_exported_file_takes_what_has_no_holes(holed, tmp_path):
    run(holed, tmp_path / "run", epochs=1)
    again = {"quiet": True, "deterministic": True, "epochs": 1, "target": ("kind", "weight")}
    more = zoo.train(holed, start=tmp_path / "run", out=tmp_path / "more", **again)
    assert more.run["imputation"][0]["draws"] == 4
    with pytest.raises(ZooError, match=r"holes are filled as .* learned to; leave it out"):
        zoo.train(holed, start=tmp_path / "run", out=tmp_path / "no", impute=IMPUTE, **again)
    run_export(ExportConfig(run=tmp_path / "run", out=tmp_path / "model.pt2", format="torch"))


def test_a_run_from_before_there_were_draws_fills_each_hole_once(holed, tmp_path):
    run(holed, tmp_path / "run", epochs=1, impute=("covariates=iterative",))
    artifact = load_artifact(tmp_path / "run")
    old = {name: value for name, value in artifact.covariates.items() if name != "draws"}
    from zoo.run.covariates import Covariates

    assert Covariates.load(json.loads(json.dumps(old)), artifact.imputers).draws == 0
    assert "kind.spread" not in zoo.predict(tmp_path / "run", holed).columns


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"impute": ("covariates=mean+multiple",)}, "mean fills a hole with one value; those that can draw several"),
        ({"impute": ("covariates=multiple",)}, r"the mean fills a hole .* are .*iterative.*: covariates=\w+\+multiple"),
        ({"impute": ("covariates=knn+multiple(m=1)",)}, "m must be 2 or more, not 1"),
        ({"fitter": "lbfgs"}, "multiple imputation changes them; leave out one of them"),
        ({"imbalance": ("smote",)}, "multiple imputation changes them; choose one"),
        ({"imbalance": ("bagging",)}, "multiple imputation changes them; choose one"),
    ],
)
def test_it_is_refused_where_it_cannot_act(holed, tmp_path, options, said):
    with pytest.raises((ZooError, OptionError), match=said):
        zoo.train(
            holed,
            out=tmp_path / "run",
            **{"target": ("kind",), "covariate": ("first", "second"), "impute": IMPUTE, "epochs": 1, **BASE, **options},
        )
