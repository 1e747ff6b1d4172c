"""Runs on numbers, ranks and labels: trained, scored, predicted, gone on from, exported; and what users get wrong."""

import json
import math

import polars as pl
import pytest

import zoo
from zoo.cli import main
from zoo.errors import DataError, OptionError, UnknownNameError, ZooError
from zoo.run.artifact import load_artifact

BASE = {
    "backbone": "tiny/test_efficientnet",
    "size": 32,
    "epochs": 6,
    "batch_size": 16,
    "quiet": True,
    "deterministic": True,
    "device": "cpu",
}
KINDS = ("age=regression", "grade=ordinal(low, mid, high)", "marks=multilabel(red, even)", "tags=multilabel")


def cells(row):
    disc = row % 2 == 0
    return {
        "age": None if row % 9 == 0 else 100.5 + 10 * disc + row % 3,
        "grade": None if row % 7 == 0 else ("high" if disc else ("low", "mid")[row % 3 == 0]),
        "red": None if row % 5 == 0 else int(disc),
        "even": int(row % 4 < 2),
        "tags": "" if row % 6 == 0 else "|".join([*["red"] * disc, *["big"] * (row % 3 == 0)]) or "|",
        "shape": "disc" if disc else "square",
    }


@pytest.fixture
def table(shape_folder):
    root = shape_folder(40, 40)
    names = [f"{'disc' if row % 2 == 0 else 'square'}/{row // 2}.png" for row in range(80)]
    pl.DataFrame([{"image": name, **cells(row)} for row, name in enumerate(names)]).write_csv(root / "table.csv")
    return root / "table.csv"


def train(data, out, **options):
    return zoo.train(data, out=out, **{**BASE, **options})


@pytest.mark.pictures
def test_targets_of_every_kind_train_together_and_are_predicted_as_they_were_scored(table, tmp_path):
    out = tmp_path / "run"
    result = train(table, out, task=KINDS, target=("shape",), epochs=20)
    found = {name: by_split["test"] for name, by_split in result.metrics.items()}
    assert {name: own["kind"] for name, own in found.items()} == {
        "shape": "classification",
        "age": "regression",
        "grade": "ordinal",
        "marks": "multilabel",
        "tags": "multilabel",
    }
    assert found["age"]["r2"] > 0.3
    assert found["grade"]["quadratic_kappa"] > 0.5
    assert found["marks"]["per_class"]["red"]["roc_auc"] > 0.9
    assert result.run["data"]["unknown_labels"] == {"marks": {"red": 16}, "tags": {}}
    assert any("do not say whether 'red' is among their 'marks'" in said for said in result.run["data"]["warnings"])
    again = zoo.evaluate(out, table)
    for name, own in found.items():
        assert again.metrics[name]["rows"] == own["rows"], name
        assert again.metrics[name]["undefined"] == own["undefined"], name
    assert again.metrics["age"]["mae"] == pytest.approx(found["age"]["mae"], rel=1e-5)
    frame = pl.read_csv(out / "predictions.csv")
    some = frame.filter(pl.col("split") == "test").head(6)
    fresh = zoo.predict(out, [table.parent / image for image in some["image"]])
    assert fresh["age.predicted"].to_list() == pytest.approx(some["age.predicted"].to_list(), rel=1e-5)
    for name in ("grade.predicted", "marks.predicted", "tags.predicted"):
        assert fresh[name].to_list() == some[name].to_list()
    assert fresh.select("grade.p(low)", "grade.p(mid)", "grade.p(high)").sum_horizontal().to_list() == pytest.approx(
        [1] * 6
    )
    age = pl.read_csv(table)["age"]
    assert frame["age.predicted"].min() >= age.min()
    assert frame["age.predicted"].max() <= age.max()
    page = (out / "report.html").read_text()
    assert "True and predicted" in page
    assert "Each rank" in page
    assert "Rows of each label of tags" in page


def test_the_first_target_may_be_of_any_kind(table, tmp_path):
    for kind, drawn in (("age=regression", "range"), ("tags=multilabel", "rarest label"), (KINDS[1], "rank")):
        result = train(table, tmp_path / kind[:3], task=(kind,), epochs=1)
        assert f"drawn by {drawn} of '{kind.partition('=')[0]}'" in result.run["data"]["splits"]["how"]
        assert math.isfinite(result.run["training"]["best_value"])


def test_a_run_goes_on_in_the_units_and_ranks_that_it_has(table, tmp_path):
    first = train(table, tmp_path / "one", task=KINDS[:3])
    data = pl.read_csv(table)
    data.with_columns(age=pl.col("age") + 5, grade=pl.col("grade").replace({"mid": "low"})).write_csv(table)
    options = {name: BASE[name] for name in ("epochs", "quiet", "deterministic")}
    second = zoo.train(table, out=tmp_path / "two", start=tmp_path / "one", freeze="last(1)", **options)
    one, two = (load_artifact(tmp_path / name).tasks for name in ("one", "two"))
    assert [task.classes for task in one] == [task.classes for task in two]
    assert (two[0].center, two[0].scale) == (one[0].center, one[0].scale)
    assert (two[0].low, two[0].high) == (one[0].low, one[0].high + 5)
    assert second.metrics["age"]["test"]["rows"] == first.metrics["age"]["test"]["rows"]
    with pytest.raises(ZooError, match=r"--task age=ordinal: .*one learned it as regression; leave it out"):
        zoo.train(table, out=tmp_path / "three", start=tmp_path / "one", task=("age=ordinal",), **options)


def test_an_export_gives_what_the_run_gives_for_every_kind(table, tmp_path):
    train(table, tmp_path / "run", task=KINDS[:3], target=("shape",), epochs=1)
    found = zoo.export(tmp_path / "run", format="onnx")
    assert found.check.difference < 1e-4
    card = found.files[-1].read_text()
    assert "in the target's own units, between 100.5 and 112.5, the ends of the training rows" in card
    assert "of each label for itself; the run predicts those of at least one half" in card
    assert "| marks | probabilities (B, 2), float32 | red, even |" in card


@pytest.mark.parametrize("task", KINDS[:3])
def test_one_target_of_any_kind_becomes_the_networks_own_classifier(table, tmp_path, task):
    train(table, tmp_path / "run", task=(task,), epochs=1)
    found = zoo.export(tmp_path / "run", format="safetensors")
    assert found.check.difference < 1e-4
    assert found.notes == ()
    config = json.loads((found.files[0].parent / "config.json").read_text())
    assert config["num_classes"] == {"age": 1, "grade": 2, "marks": 2}[task.partition("=")[0]]


def test_strategies_take_the_kinds_that_they_say(table, tmp_path):
    focal = train(table, tmp_path / "focal", task=KINDS[2:3], imbalance=("focal",), epochs=1)
    assert focal.run["imbalance"][0]["strategy"] == "focal"
    for task, strategy in ((KINDS[2], "smote"), (KINDS[0], "class-weights")):
        name, kind = task.partition("=")[0], "regression" if task == KINDS[0] else "multilabel"
        with pytest.raises(OptionError, match=f"{strategy} takes .* targets; {name} is {kind}"):
            train(table, tmp_path / "run", task=(task,), imbalance=(strategy,))


def test_a_prior_is_of_classes_alone(table, tmp_path):
    train(table, tmp_path / "run", task=KINDS[:1], epochs=1)
    with pytest.raises(
        ZooError, match="--prior corrects probabilities of classes, and no target of this run has classes"
    ):
        zoo.evaluate(tmp_path / "run", table, prior="em")
    train(table, tmp_path / "both", task=KINDS[:1], target=("shape",), epochs=1)
    assert any(
        "age is regression, which has no class prior" in said
        for said in zoo.evaluate(tmp_path / "both", table, prior="em").warnings
    )


def test_numbers_that_a_run_took_for_classes_are_classes_wherever_it_is_used(table, tmp_path):
    classes = pl.read_csv(table).select("image", level=pl.when(pl.col("shape") == "disc").then(0.33).otherwise(1.0))
    classes.write_csv(table)
    train(table, tmp_path / "run", task=("level=classification",), epochs=1)
    assert zoo.evaluate(tmp_path / "run", table).metrics["level"]["classes"] == ["0.33", "1"]
    more = zoo.train(table, out=tmp_path / "more", start=tmp_path / "run", epochs=1, quiet=True, deterministic=True)
    assert more.metrics["level"]["test"]["classes"] == ["0.33", "1"]


def test_many_classes_that_are_numbers_are_learned_and_asked_about(table, tmp_path):
    years = pl.read_csv(table).select("image", year=2000 + pl.int_range(80) % 11)
    years.write_csv(table)
    result = train(table, tmp_path / "run", target=("year",), epochs=1)
    said = "'year' has 11 classes, all of them numbers. If they are measured, say --task year=regression"
    assert said in result.run["data"]["warnings"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"task": ("age=regresion",)}, OptionError, "did you mean regression"),
        ({"task": ("agee=regression",)}, DataError, "has no column 'agee'; did you mean age"),
        ({"task": ("shape=regression",)}, DataError, "'shape' is to be a number, and 80 rows hold none"),
        ({"task": ("grade=ordinal",)}, DataError, "its ranks are no numbers: name them"),
        ({"task": ("x=multilabel(red, evn)",)}, DataError, "there is no column 'evn'; did you mean even"),
        ({"task": ("x=multilabel(red, age)",)}, DataError, "column 'age' of target 'x' holds '101.5' in row 1; a"),
        ({"task": ("age=regression",), "metric": "accuracy"}, UnknownNameError, "unknown metric 'accuracy' of numbers"),
        ({"task": ("age=regression",), "metric": "agee:mae"}, UnknownNameError, "no target 'agee'"),
        ({"task": ("age=regression",), "label_smoothing": 0.1}, ZooError, "no target of this run has such"),
        ({"target": ("age",)}, DataError, "target 'age' holds numbers such as 100.5: say"),
    ],
)
def test_a_mistake_about_kinds_is_one_clear_message(table, tmp_path, options, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        train(table, tmp_path / "run", **options)


def test_the_commands_speak_of_numbers_ranks_and_labels(table, tmp_path, capsys):
    words = ["train", str(table), "--backbone", BASE["backbone"], "--size", "32", "--epochs", "1", "--quiet"]
    for task in KINDS[:3]:
        words += ["--task", task]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    assert "by the mean of age:nmse, grade:log_loss and marks:log_loss on val rows" in shown
    assert "age, test: MAE " in shown
    assert "grade, test: quadratic kappa " in shown
    assert "marks, test: mAP " in shown
    assert main(["evaluate", str(tmp_path / "run"), str(table), "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert "ranks off, mean over ranks" in shown
    assert "squared error / variance" in shown
    assert "\n  label " in shown


def test_weights_of_targets_are_reported_and_stay_out_of_the_model(table, tmp_path):
    options = {"task": KINDS[:1], "target": ("shape",), "epochs": 2}
    learned = train(table, tmp_path / "learned", task_weights="learned", **options)
    told = learned.run["training"]["task_weights"]
    assert told["how"] == "learned"
    history = pl.read_csv(tmp_path / "learned" / "history.csv")
    best = history.row(learned.run["training"]["best_epoch"] - 1, named=True)
    assert told["weights"] == pytest.approx({"shape": best["weight(shape)"], "age": best["weight(age)"]})
    assert load_artifact(tmp_path / "learned").model.heads.log_variances is None
    given = train(table, tmp_path / "given", task_weight=("age=2",), **options)
    assert given.run["training"]["task_weights"] == {"how": "fixed", "weights": {"shape": 1.0, "age": 2.0}}
    assert any(
        each["what"] == "weights of the targets" and each["choice"] == "shape 1, age 2"
        for each in given.run["decisions"]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task_weight": ("agee=2",)}, "no target 'agee'; the targets are shape, age; did you mean age"),
        ({"task_weight": ("age=2",), "task_weights": "learned"}, "--task-weights learned finds the weights itself"),
        ({"task_weight": ("age=2",), "fitter": "ridge"}, "ridge solves for each target by itself"),
        (
            {"task_weights": "learned", "fitter": "lbfgs"},
            "lbfgs has a loop of its own, which knows nothing of --task-weights",
        ),
        (
            {"task_weights": "learned", "sweep": True},
            "--sweep has a loop of its own, which knows nothing of --task-weights",
        ),
    ],
)
def test_weights_that_nothing_obeys_are_refused(table, tmp_path, options, message):
    with pytest.raises(ZooError, match=message):
        train(table, tmp_path / "run", task=KINDS[:1], target=("shape",), **options)
