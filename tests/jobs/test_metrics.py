"""The metric that a run names chooses its epoch, and what its figures say stands in every report."""

import json

import polars as pl
import pytest

import zoo
from zoo.cli import main
from zoo.errors import DataError, UnknownNameError
from zoo.jobs import train as job


def train(data, out, **options):
    fields = {"backbone": "tiny/test_efficientnet", "epochs": 3, "batch_size": 8, "quiet": True, "device": "cpu"}
    return zoo.train(data, out=out, **{**fields, "precision": "fp32", **options})


@pytest.mark.parametrize("metric", ["g_mean", "mcc", "pr_auc", "ece", "recall(square)"])
def test_any_metric_chooses_the_best_epoch(metric, shape_folder, tmp_path):
    result = train(shape_folder(16, 16), tmp_path / "run", metric=metric)
    history = pl.read_csv(tmp_path / "run" / "history.csv")
    best = max if metric != "ece" else min
    assert result.run["training"]["best_value"] == pytest.approx(best(history[f"label/{metric}"]))


def test_a_metric_that_validation_leaves_undefined_is_refused_before_anything_is_trained(
    shape_folder, tmp_path, monkeypatch
):
    data = shape_folder(12, 12)
    rows = [(f"{name}/{index}.png", name, index) for name in ("disc", "square") for index in range(12)]
    split = ["val" if name == "disc" and index < 4 else "train" for _, name, index in rows]
    frame = pl.DataFrame({"path": [row[0] for row in rows], "label": [row[1] for row in rows], "part": split})
    frame.write_csv(data / "t.csv")
    monkeypatch.setattr(job, "save_outcome", lambda outcome: pytest.fail("it trained"))
    options = {"image": "path", "target": ("label",), "split": "part"}
    with pytest.raises(DataError, match="g_mean is undefined on the validation rows: no row of 'square'; choose by"):
        train(data / "t.csv", tmp_path / "run", metric="g_mean", **options)
    with pytest.raises(UnknownNameError, match=r"unknown class 'sqare' in f1\(sqare\); .*did you mean square"):
        train(data / "t.csv", tmp_path / "run", metric="f1(sqare)", **options)


def test_every_report_has_every_metric_and_the_interval_of_the_same_rows(shape_folder, tmp_path, capsys):
    data, out = shape_folder(16, 16), tmp_path / "run"
    result = train(data, out)
    stored = json.loads((out / "metrics.json").read_text())["label"]["test"]
    scored = zoo.evaluate(out, data).metrics["label"]
    assert scored["intervals"] == stored["intervals"]
    page = (out / "report.html").read_text()
    assert main(["evaluate", str(out), str(data), "--quiet"]) == 0
    shown = capsys.readouterr().out
    low, high = stored["intervals"]["bounds"]["mcc"]
    for name, key in {"G-mean": "g_mean", "MCC": "mcc", "PR AUC": "pr_auc", "calibration error": "ece"}.items():
        value = f"{result.metrics['label']['test'][key]:.3f}"
        assert f"<tr><th>{name}</th>" in page
        assert value in page
        assert any(line.split(name)[1].split()[0] == value for line in shown.splitlines() if f"  {name} " in line)
    assert f"({low:.3f} to {high:.3f})" in shown
