"""A ranking through whole jobs: in this process with small backbones, and through the grid with timm's own."""

from __future__ import annotations

import json
import shutil

import pytest

import zoo
from zoo.cli import main
from zoo.errors import DataError, OptionError, UnknownNameError, ZooError
from zoo.features import extract
from zoo.jobs.rank_cell import fine_tune, score_backbone

TAGGED = "timm/test_vit.r160_in1k"
"""With `--weights none` a contradiction, which its own process finds."""

TRAIN = {"size": 64, "device": "cpu", "batch_size": 8, "metric": "balanced_accuracy"}


def parameters(data, backbone="tiny/test_resnet", **more):
    train = {"data": str(data), "backbone": backbone, **TRAIN, **more.pop("train", {})}
    return {"train": train, "folds": 3, "rows": None, "freeze": "head", "epochs": 2, **more}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Each test begins with nothing kept."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


def scores(found):
    return {name: found[name] for name in ("probe", "neighbours", "log_me", "h_score")}


def test_scores_are_the_same_again_and_features_are_not_computed_again(shape_folder, monkeypatch):
    data, passed, compute = shape_folder(24, 24), [], extract._compute

    def counted(source, rows, *rest):
        passed.append(len(rows))
        compute(source, rows, *rest)

    monkeypatch.setattr(extract, "_compute", counted)
    first, before = score_backbone(parameters(data), 0), sum(passed)
    second = score_backbone(parameters(data), 0)
    assert scores(second) == scores(first)
    assert 0 < before == sum(passed)
    assert first["images_per_second"] > 0
    assert first["run_seconds"] > 0
    assert first["run_memory"] > 2**20


def test_only_training_rows_decide(shape_folder, tmp_path):
    """Without the pictures of the held-out rows' shapes, and with others in their place, the scores are the same."""
    found = []
    for name in ("one", "other"):
        drawn, root = shape_folder(24, 24, name=f"drawn-{name}"), tmp_path / name
        for kind in ("disc", "square"):
            for row in range(24):
                split = ("train", "val", "test")[row % 3]
                # Held-out pictures of the other kind, all of one class more: nothing of it may show.
                shown = "square" if name == "other" and split != "train" else kind
                target = root / split / kind / f"{row}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(drawn / shown / f"{row}.png", target)
        found.append(score_backbone(parameters(root), 0))
    assert scores(found[0]) == scores(found[1])


def test_so_many_rows_are_drawn_by_class(shape_folder):
    found = score_backbone(parameters(shape_folder(40, 20), rows=15), 0)
    assert found["rows"] == 15


def test_a_short_fine_tuning_scores_on_held_out_training_rows(shape_folder):
    found = [fine_tune(parameters(shape_folder(24, 24), freeze="last(1)"), 0) for _ in range(2)]
    assert found[0] == found[1]
    assert 0 <= found[0]["value"] <= 1
    with pytest.raises(DataError, match="has one interval"):
        fine_tune(parameters(shape_folder(24, 24), freeze="lp-ft(1)"), 0)


def test_the_grid_keeps_rows_and_failures_are_rows(shape_folder, tmp_path, capsys):
    data, out = shape_folder(24, 24), tmp_path / "rank"
    words = ["rank", str(data), "--backbones", "timm/test_resnet", TAGGED, "--weights", "none"]
    words += ["--size", "64", "--folds", "3", "--epochs", "2", "--out", str(out), "--device", "cpu", "--budget", "1h"]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert "timm/test_resnet" in shown.out
    assert f"no score    {TAGGED}: ZooError: {TAGGED} names the weights" in shown.out
    assert "timm/test_resnet_" not in shown.out  # a name is no pattern
    assert "best within 3600 s: timm/test_resnet" in shown.out
    assert "random weights, which say little" in shown.out
    assert (out / "pareto.png").read_bytes().startswith(b"\x89PNG")
    before = (out / "rows.jsonl").read_text()
    assert main([*words, "--json"]) == 0
    assert (out / "rows.jsonl").read_text() == before
    assert json.loads(capsys.readouterr().out) == json.loads((out / "rank.json").read_text())


def test_from_python_the_same(shape_folder, tmp_path):
    fields = {"weights": "none", "size": 64, "folds": 3, "device": "cpu", "out": tmp_path / "rank"}
    found = zoo.rank(
        shape_folder(24, 24), backbones="timm/test_resnet", finetune=1, freeze="last(1)", epochs=2, **fields
    )
    assert found.rows[0]["backbone"] == "timm/test_resnet"
    assert found.rows[0]["rung"] == 1
    assert found.rows[0]["tuned"] is not None
    assert found.front == ("timm/test_resnet",)
    with pytest.raises(ZooError, match="rank has no option 'metrik'; did you mean metric"):
        zoo.rank("x", backbones="y", metrik="accuracy")


def test_what_cannot_be_is_refused_before_anything_is_computed(shape_folder, tmp_path):
    data, out = shape_folder(12, 12), tmp_path / "rank"

    def refused(error, match, **options):
        with pytest.raises(error, match=match):
            zoo.rank(data, **{"backbones": "timm/test_resnet", "out": out, **options})

    refused(UnknownNameError, "no backbone matches 'timm/test_resnt'.*did you mean", backbones="timm/test_resnt")
    refused(UnknownNameError, "unknown metric", metric="balance")
    refused(OptionError, "--folds must be at least 2, not 1", folds=1)
    refused(OptionError, "--rows must be at least twice --folds, 10, not 4", rows=4)
    refused(OptionError, "--seconds must be positive", seconds=0.0)
    refused(OptionError, "--finetune trains part of the backbone", finetune=2)
    refused(ZooError, "--budget 'soon' is no time", budget="soon")
    assert not out.exists()


def test_one_class_is_refused(shape_folder, tmp_path):
    with pytest.raises(DataError, match="one class only"):
        zoo.rank(shape_folder(12, 0), backbones="timm/test_resnet", out=tmp_path / "rank")


def test_where_nothing_can_be_scored_each_reason_is_said(shape_folder, tmp_path):
    said = r"no backbone could be scored; --retry tries again:\n  timm/test_vit.r160_in1k: "
    with pytest.raises(ZooError, match=said):
        zoo.rank(shape_folder(24, 24), backbones=TAGGED, weights="none", device="cpu", out=tmp_path / "rank")


def test_a_name_whose_weights_are_not_here_is_refused(shape_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.registry.origins.Disk.holds", lambda self, origin: origin.endswith("test_vit2.r160_in1k"))
    with pytest.raises(UnknownNameError, match="no weights of timm/test_vit lie on this disk"):
        zoo.rank(shape_folder(24, 24), backbones="timm/test_vit", on_disk=True, out=tmp_path / "rank")
