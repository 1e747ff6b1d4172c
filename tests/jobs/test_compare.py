"""Comparisons: a run of one is a run of `zoo train`; the table and the choice; refusals; one through the grid."""

from __future__ import annotations

import csv
import io
import json

import pytest

import zoo
from zoo.cli import main
from zoo.config import CompareConfig
from zoo.errors import DataError, OptionError, RunError, UnknownNameError, ZooError
from zoo.grid.rows import Row
from zoo.jobs import compare as home
from zoo.jobs.compare_cell import try_strategy
from zoo.jobs.compare_table import compared
from zoo.registry.catalogue import catalogue
from zoo.registry.lookup import STRATEGIES
from zoo.report.compare_page import csv_text, table_lines, verdict

TRAIN = {
    "backbone": "tiny/test_resnet", "size": 64, "batch_size": 16, "epochs": 2, "device": "cpu", "precision": "fp32",
    "deterministic": True,
}  # fmt: skip


def cell(data, text, seed=1, **more):
    return try_strategy({"train": {"data": str(data), **TRAIN, **more}, "imbalance": text}, seed)


@pytest.mark.parametrize(
    ("text", "options"),
    [("class-weights", {}), ("none", {}), ("crt(epochs=1)", {"freeze": "last(1)"}), ("threshold", {"metric": "mcc"})],
)
def test_the_figures_of_a_run_are_those_of_zoo_train(text, options, shape_folder, tmp_path):
    data = shape_folder(40, 14)
    found = cell(data, text, **options)
    same = {"imbalance": () if text == "none" else (text,), "seed": 1, "quiet": True, **TRAIN, **options}
    run = zoo.train(data, out=tmp_path / "run", **same)
    for split in ("val", "test"):
        own = run.metrics["label"][split]
        assert found["scores"][split]["balanced_accuracy"] == own["balanced_accuracy"]
        assert found["scores"][split]["log_loss"] == own["log_loss"]
        assert found["scores"][split]["recall(square)"] == own["per_class"]["square"]["recall"]
    assert found["best_epoch"] == run.run["training"]["best_epoch"]
    assert found["counts"] == {"disc": 25, "square": 9}


def test_seeds_hold_out_other_rows_unless_the_data_say_which(shape_folder, tmp_path):
    data = shape_folder(40, 14)
    one, other = (cell(data, "none", seed)["held_out"] for seed in (0, 1))
    assert one["val"] != other["val"]
    assert one["test"] != other["test"]
    lines = ["image,label,split"]
    lines += [f"{path},{path.parent.name},{'test' if int(path.stem) % 3 else 'train'}" for path in data.rglob("*.png")]
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    options = {"image": "image", "split": "split", "target": ["label"]}
    one, other = (cell(tmp_path / "table.csv", "none", seed, **options)["held_out"] for seed in (0, 1))
    assert one["val"] != other["val"]  # drawn from the training rows
    assert one["test"] == other["test"]


def test_what_does_not_go_together_is_an_answer_with_its_reason(shape_folder):
    data = shape_folder(40, 14)
    assert "2.00 times over" in cell(data, "class-weights+balanced-sampler")["refused"]
    assert cell(data, "smote(k=30)")["refused"].startswith("smote: class square has 9 training rows, and k=30")
    assert cell(data, "prior-correct")["refused"] == "prior-correct needs prior={name: number, …}"


def result(value, seed, *, rest=0.5, counts=None, drawn=True, undefined=None, **more):
    scores = dict.fromkeys(("accuracy", "macro_f1", "g_mean", "log_loss", "recall(a)", "recall(b)"), rest)
    scores |= {"balanced_accuracy": value}
    return {
        "scores": {"val": scores, "test": {**scores, "balanced_accuracy": value + 0.01}},
        "undefined": {"val": undefined or {}, "test": {}},
        "rows": {"train": 100, "val": 20, "test": 30},
        "support": {"val": {"a": 15, "b": 5}, "test": {"a": 20, "b": 10}},
        "target": "t",
        "counts": counts or {"a": 80, "b": 20},
        "corrected": 0.0,
        "best_epoch": 1,
        "seconds": {"plan": 0.1, "features": 0.0, "train": 0.5},
        "weights": "fixed",
        "split": "drawn",
        "held_out": {"val": f"val {seed if drawn else 0}", "test": f"test {seed if drawn else 0}"},
        "notes": ["A note."],
        **more,
    }


def row(text, seed, content, status="ok", message=""):
    return Row(
        key=f"{text}{seed}", task="t", parameters={"imbalance": text}, seed=seed, context={}, status=status,
        result=content, message=message,
    )  # fmt: skip


def config(**options):
    return CompareConfig(data="d", **{"backbone": "b", "seeds": 5, **options})


def table(values, **options):
    """The table of strategies with these balanced accuracies by seed."""
    shared = {name: options.pop(name) for name in ("drawn", "undefined", "counts") if name in options}
    rows = {
        text: {seed: row(text, seed, result(value, seed, **shared)) for seed, value in enumerate(own)}
        for text, own in values.items()
    }
    return compared(rows, config(**options))


PLAIN = [0.50, 0.54, 0.46, 0.52, 0.48]


def test_the_best_on_validation_rows_is_taken_where_it_beats_plain_training_by_more_than_noise():
    sure = [value + gain for value, gain in zip(PLAIN, (0.10, 0.11, 0.09, 0.10, 0.10), strict=True)]
    near = [value + gain for value, gain in zip(PLAIN, (0.09, 0.12, 0.08, 0.11, 0.09), strict=True)]
    found = table({"none": PLAIN, "x": sure, "y": near})
    assert [each["strategy"] for each in found["strategies"]] == ["x", "y", "none"]
    assert (found["take"], found["best"], found["alike"]) == ("x", "x", ["y"])
    gain = found["strategies"][0]["val_gain"]["balanced_accuracy"]
    assert gain["mean"] == pytest.approx(0.1)
    assert gain["clear"]
    assert found["strategies"][2]["val_gain"] == {}
    first, second = verdict(found)
    assert first == (
        "Take x: balanced accuracy 0.600 ± 0.038 on validation rows (+0.100 ± 0.007 against plain training), "
        "0.610 ± 0.038 on test rows (+0.100 ± 0.007 against plain training)."
    )
    assert second == "Not told apart from it by these validation rows: y."
    lines = table_lines(found)
    assert lines[1].startswith("x         0.600 ± 0.038  +0.100 ± 0.007  |  0.610 ± 0.038  +0.100 ± 0.007  0.500")


def test_plain_training_is_kept_where_gains_may_be_noise():
    lucky = [value + gain for value, gain in zip(PLAIN, (0.2, -0.1, 0.1, -0.05, 0.1), strict=True)]
    found = table({"none": PLAIN, "x": lucky})
    assert (found["take"], found["best"], found["alike"]) == ("none", "x", ["x"])
    assert "Keep plain training: no strategy beats it on validation rows by more than noise. The best there, x" in (
        next(verdict(found))
    )
    worse = table({"none": PLAIN, "x": [value - 0.1 for value in PLAIN]})
    assert next(verdict(worse)) == "Keep plain training: no strategy has a better balanced accuracy on validation rows."
    assert worse["alike"] == []


def test_what_beats_plain_training_for_sure_goes_before_what_only_seems_to():
    lucky = [value + gain for value, gain in zip(PLAIN, (0.4, -0.1, 0.3, -0.05, 0.3), strict=True)]
    sure = [value + 0.05 for value in PLAIN]
    found = table({"none": PLAIN, "lucky": lucky, "sure": sure})
    assert (found["best"], found["take"]) == ("lucky", "sure")


def test_of_a_loss_the_smallest_is_the_best():
    found = table({"none": PLAIN, "x": PLAIN}, metric="log_loss")
    found["strategies"][0]["val"]["log_loss"]["mean"] = 0.4
    rows = {
        text: {seed: row(text, seed, result(0.5, seed, rest=rest + seed / 100)) for seed in range(3)}
        for text, rest in {"none": 0.7, "x": 0.4, "y": 0.9}.items()
    }
    found = compared(rows, config(metric="log_loss", seeds=3))
    assert [each["strategy"] for each in found["strategies"]] == ["x", "none", "y"]
    assert found["take"] == "x"


def test_where_the_data_name_the_splits_only_training_differs_between_seeds():
    values = {
        "none": PLAIN,
        "x": [value + gain for value, gain in zip(PLAIN, (0.1, 0.12, 0.08, 0.1, 0.1), strict=True)],
    }
    drawn, given = (
        table(values, drawn=drawn)["strategies"][0]["val_gain"]["balanced_accuracy"] for drawn in (True, False)
    )
    assert given["reach"] < drawn["reach"]
    assert "The validation and test rows are the same with every seed" in table(values, drawn=False)["notes"][-1]
    assert table(values, drawn=False)["drawn"] == {"val": False, "test": False}
    assert table(values)["notes"] == ["A note."]


def test_one_seed_says_so():
    found = table({"none": [0.5], "x": [0.9]}, seeds=1)
    assert found["take"] == "none"
    assert list(verdict(found)) == ["The best on validation rows is x. With one seed nothing can be told from noise."]
    assert "One seed cannot tell" in found["notes"][-1]


def test_what_is_undefined_with_a_seed_says_why():
    rows = {"none": {seed: row("none", seed, result(0.5, seed)) for seed in (0, 1)}}
    content = result(0.6, 1, undefined={"g_mean": "no row of 'b'", "recall of 'b'": "no row of this class"})
    content["scores"]["val"] |= {"g_mean": None, "recall(b)": None}
    rows["x"] = {0: row("x", 0, result(0.6, 0)), 1: row("x", 1, content)}
    found = compared(rows, config(seeds=2, metric="g_mean"))
    assert [each["strategy"] for each in found["strategies"]] == ["none", "x"]  # what is undefined stands last
    own = found["strategies"][1]
    assert own["val"]["g_mean"] == {"mean": None, "spread": None, "values": [0.5, None]}
    assert "g_mean" not in own["val_gain"]
    assert own["val_undefined"] == {"g_mean": "no row of 'b'", "recall of 'b'": "no row of this class"}
    assert "undefined" in table_lines(found)[2]
    assert "g_mean is undefined with a seed: no row of &#39;b&#39;" in home.render_comparison(
        found, b"\x89PNG\r\n\x1a\n"
    )


def test_strategies_without_figures_stand_with_their_reasons():
    rows = {
        "none": {seed: row("none", seed, result(0.5, seed)) for seed in (0, 1)},
        "refused": {seed: row("refused", seed, {"refused": "does not go together"}) for seed in (0, 1)},
        "partly": {0: row("partly", 0, result(0.6, 0)), 1: row("partly", 1, None, "timeout", "stopped after 5 s")},
    }
    found = compared(rows, config(seeds=2))
    assert found["without"] == [
        {"strategy": "refused", "seeds": [0, 1], "reason": "does not go together", "broken": False},
        {"strategy": "partly", "seeds": [1], "reason": "stopped after 5 s", "broken": True},
    ]
    assert [each["seeds"] for each in found["strategies"]] == [[0], [0, 1]]
    lines = list(csv.DictReader(io.StringIO(csv_text(found))))
    assert [(line["strategy"], line["seeds"], line["reason"]) for line in lines] == [
        ("partly", "1", "stopped after 5 s"), ("none", "2", ""), ("refused", "0", "does not go together"),
    ]  # fmt: skip
    assert float(lines[1]["test_balanced_accuracy_mean"]) == pytest.approx(0.51)
    with pytest.raises(ZooError, match="plain training has no figures, and nothing to compare with: out of memory"):
        compared({"none": {0: row("none", 0, None, "memory", "out of memory")}, "x": rows["partly"]}, config())


@pytest.fixture
def faked(monkeypatch):
    """Comparisons whose runs are not made: balanced accuracies by strategy, and the cells that were asked for."""
    asked = []

    def run(cells, config, reporter):
        asked.extend(cells)
        return [
            row(
                each.parameters["imbalance"],
                each.seed,
                result(0.5 + len(each.parameters["imbalance"]) / 100, each.seed),
            )
            for each in cells
        ]

    monkeypatch.setattr(home, "_run", run)
    return asked


def compare(data, out, **options):
    return zoo.compare(data, **{"backbone": "tiny/test_resnet", "out": out, **options})


def test_all_stands_for_every_strategy_beside_those_that_are_named(faked, shape_folder, tmp_path):
    found = compare(shape_folder(20, 10), tmp_path / "c", imbalance=("all", "logit-adjust(tau=0.5)"), seeds=2).found
    tried = {each["strategy"] for each in found["strategies"]}
    every = {record.name for _, record in STRATEGIES.items()}
    assert tried == (every - {"logit-adjust-loss"}) | {"none", "logit-adjust(tau=0.5)"}
    said = {each["strategy"]: each["reason"] for each in found["without"]}
    assert said == {"logit-adjust-loss": "another name of balanced-softmax, which is tried"}
    assert {each.seed for each in faked} == {0, 1}
    assert compare(tmp_path / "data", tmp_path / "d").found["strategies"] is not None  # all, where nothing is said
    assert len({each.key for each in faked}) == len(faked) - 2 * (len(tried) - 1)  # two seeds of five are the same rows


def test_a_row_depends_on_what_its_run_depends_on(faked, shape_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = shape_folder(20, 10)
    for options in (
        {},
        {"epochs": 3},
        {"freeze": "last(1)"},
        {"metric": "macro_f1", "quiet": True},
        {"out": "elsewhere"},
    ):
        compare(data, **{"out": tmp_path / "c", "imbalance": "focal", "seeds": 1, **options})
    keys = [each.key for each in faked if each.parameters["imbalance"] == "focal"]
    assert len(set(keys)) == 3
    assert keys[0] == keys[3] == keys[4]
    (data / "disc" / "0.png").write_bytes((data / "disc" / "1.png").read_bytes())
    compare(data, tmp_path / "c", imbalance="focal", seeds=1)
    assert faked[-1].key not in keys


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"imbalance": "focl"}, OptionError, "unknown imbalance strategy 'focl'.*did you mean focal"),
        ({"imbalance": "prior-correct"}, OptionError, "prior-correct needs prior"),
        ({"imbalance": "focal(gama=2)"}, OptionError, "focal has no parameter 'gama'"),
        ({"imbalance": "auto"}, OptionError, "auto chooses for `zoo train`; a comparison tries what it names"),
        ({"imbalance": "label=focal"}, OptionError, "tries strategies for the first target; leave out label="),
        ({"seeds": 0}, OptionError, "--seeds must be at least 1, not 0"),
        ({"jobs": 0}, OptionError, "--jobs must be at least 1, not 0"),
        ({"seconds": 0.0}, OptionError, "--seconds must be positive"),
        ({"metric": "balanced"}, UnknownNameError, "unknown metric 'balanced'"),
        ({"metric": "recall(circle)"}, UnknownNameError, r"unknown class 'circle' in recall\(circle\); there are disc"),
        ({"backbone": "tiny/test_restnet"}, UnknownNameError, "test_resnet"),
        ({"epochs": 0}, ZooError, "--epochs must be positive"),
        ({"imbalence": "all"}, ZooError, "compare has no option 'imbalence'; did you mean imbalance"),
        ({"devices": 2}, ZooError, "compare has no option 'devices'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_computed(options, error, message, faked, shape_folder, tmp_path):
    with pytest.raises(error, match=message):
        compare(shape_folder(20, 10), **{"out": tmp_path / "c", **options})
    assert faked == []
    assert not (tmp_path / "c").exists()


def test_one_class_and_a_folder_that_cannot_be_made_are_refused(faked, shape_folder, tmp_path):
    with pytest.raises(DataError, match="one class only"):
        compare(shape_folder(12, 0, name="one"), tmp_path / "c")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write to"):
        compare(shape_folder(12, 12), tmp_path / "file" / "c")


def test_two_formats_are_refused(capsys):
    assert main(["compare", "d", "--backbone", "b", "--json", "--csv"]) == 2
    assert "--json and --csv are two formats; choose one" in capsys.readouterr().err


def test_through_the_grid_it_goes_on_and_failures_are_rows(shape_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("zoo.model.view.catalogue", catalogue)  # its processes do not know the tests' own plugin
    data, out = shape_folder(40, 14), tmp_path / "compare"
    words = ["compare", str(data), "--backbone", "timm/test_resnet", "--weights", "none", "--random-frozen"]
    words += ["--size", "64", "--epochs", "2", "--device", "cpu", "--seeds", "2", "--out", str(out)]
    words += ["--imbalance", "class-weights", "--imbalance", "smote(k=30)"]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert "no figures  smote(k=30): " in shown.out
    assert "smote: class square has 9 training rows, and k=30 neighbours need 31" in shown.out
    assert "class-weights, seed 1: balanced_accuracy " in shown.err
    assert "validation rows choose" in shown.out
    assert (out / "compare.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "compare.html").read_text()
    assert "data:image/png;base64," in page
    assert "these decide nothing" in page
    before = (out / "rows.jsonl").read_text()
    assert len(before.splitlines()) == 6
    assert main([*words, "--json"]) == 0
    assert (out / "rows.jsonl").read_text() == before
    assert json.loads(capsys.readouterr().out) == json.loads((out / "compare.json").read_text())
    assert main([*words, "--csv", "--seconds", "3000"]) == 0
    assert capsys.readouterr().out.startswith("strategy,seeds,corrected,val_balanced_accuracy_mean,")
    assert (out / "rows.jsonl").read_text() == before
