"""Part of a backbone trains on what its frozen part gave once, and becomes what it becomes through the whole."""

from __future__ import annotations

import json

import polars as pl
import pytest
import torch

import zoo
from zoo.cli import main
from zoo.errors import ZooError
from zoo.features.calls import CutError
from zoo.features.extract import keep
from zoo.features.plan import MODES
from zoo.run.artifact import load_artifact
from zoo.training.loop import Trainer

pytestmark = pytest.mark.long

EPOCHS = 2


def train(data, out, **options):
    fields = {
        "backbone": "tiny/test_resnet",
        "size": 64,
        "epochs": EPOCHS,
        "batch_size": 8,
        "quiet": True,
        "device": "cpu",
        "precision": "fp32",
        "freeze": "last(1)",
        "backbone_lr": 1e-3,
        **options,
    }
    return zoo.train(data, out=out, **fields)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Each test begins with nothing kept."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def way(monkeypatch):
    """Makes the planner take one way, whatever it costs."""

    def force(mode):
        others = {other: "the test asks for another way" for other in MODES if other != mode}
        monkeypatch.setattr("zoo.jobs.planning._refused", lambda *_: others)

    return force


def weights(folder):
    return load_artifact(folder).model.state_dict()


def distance(a, b):
    """The largest difference of two networks' tensors, relative to the largest number in each."""
    return max(float((a[n].float() - b[n].float()).abs().max() / a[n].float().abs().max().clamp_min(1)) for n in a)


def decisions(result):
    return {each["what"]: each for each in result.run["decisions"]}


def kept_part(run):
    """How many rows went through the frozen part, and how many were there."""
    found = {each["what"]: each for each in run["decisions"]}["rows through the frozen part"]
    return int(found["choice"].split()[0]), int(found["why"].split()[0])


@pytest.mark.parametrize("freeze", ["last(1)", "last(2)"])
@pytest.mark.parametrize(
    ("backbone", "whole"), [("tiny/test_resnet", 2e-4), ("tiny/test_vit", 0.0), ("tiny/test_efficientnet", 5e-3)]
)
def test_every_way_trains_the_same_network(shape_folder, tmp_path, way, monkeypatch, backbone, whole, freeze):
    """On kept rows and on live ones bit for bit, where batches are alike; the whole network is not folded."""
    data = shape_folder(32, 32)
    monkeypatch.setitem(keep.__kwdefaults__, "batch", 8)
    for mode in MODES:
        way(mode)
        result = train(data, tmp_path / mode, backbone=backbone, freeze=freeze, test_fraction=0.5, val_fraction=0.5)
        assert decisions(result)["feature cache"]["choice"].startswith(MODES[mode])
    cached, live, through = (weights(tmp_path / mode) for mode in MODES)
    # Depthwise convolutions round by the place of a row in its batch, and AdamW makes a step of any size of it.
    assert distance(cached, live) <= (5e-3 if backbone == "tiny/test_efficientnet" else 0.0)
    assert distance(cached, through) <= whole


def test_without_the_cache_nothing_is_kept_and_the_network_is_the_same(shape_folder, tmp_path, monkeypatch):
    data = shape_folder(32, 32)
    monkeypatch.setitem(keep.__kwdefaults__, "batch", 8)
    options = {"test_fraction": 0.5, "val_fraction": 0.5}
    live = train(data, tmp_path / "live", cache=False, **options)
    assert "cached: --no-cache" in decisions(live)["feature cache"]["why"]
    train(data, tmp_path / "cached", **options)
    assert distance(weights(tmp_path / "cached"), weights(tmp_path / "live")) == 0


def test_a_second_run_with_the_same_boundary_computes_nothing_and_another_policy_has_other_rows(shape_folder, tmp_path):
    data = shape_folder()
    first = train(data, tmp_path / "first")
    computed, there = kept_part(first.run)
    assert (computed, there) == (45, 0)  # 60 rows without those of the test split
    assert kept_part(train(data, tmp_path / "again", seed=1, lr=1e-2, imbalance="class-weights").run)[0] <= 15
    assert kept_part(train(data, tmp_path / "same").run) == (0, 45)
    assert kept_part(train(data, tmp_path / "other", freeze="last(2)").run) == (45, 0)
    assert kept_part(train(data, tmp_path / "head", freeze="head").run) == (60, 0)


def test_a_trained_suffix_behind_an_equal_prefix_finds_the_rows_of_that_prefix(shape_folder, tmp_path):
    data = shape_folder()
    train(data, tmp_path / "first")
    again = train(data, tmp_path / "again", weights=str(tmp_path / "first"))
    assert kept_part(again.run) == (0, 45)


@pytest.mark.parametrize("mode", MODES)
def test_what_is_frozen_stands_still_and_what_trains_moves(shape_folder, tmp_path, way, mode):
    way(mode)
    result = train(shape_folder(16, 16), tmp_path / "run", epochs=1)
    assert result.run["freeze"]["verified"].endswith("frozen tensors are bit for bit what they were before training")
    start, trained = zoo.load("tiny/test_resnet", num_classes=2).backbone.state_dict(), weights(tmp_path / "run")
    moved = {name.split(".")[0] for name in start if not torch.equal(start[name], trained[f"backbone.{name}"])}
    assert moved == {"layer4"}


def test_a_frozen_tensor_that_moves_behind_a_cut_fails_the_run(shape_folder, tmp_path, monkeypatch):
    plain = Trainer.fit

    def meddling(self, progress=None):
        fit = plain(self, progress)
        self.model.backbone.layer1[0].conv1.weight.data.add_(1)
        return fit

    monkeypatch.setattr(Trainer, "fit", meddling)
    with pytest.raises(zoo.errors.IntegrityError, match=r"1 frozen tensors changed .*layer1\.0\.conv1\.weight"):
        train(shape_folder(16, 16), tmp_path / "run", epochs=1)


def test_the_network_predicts_after_training_on_kept_rows_as_its_metrics_say(shape_folder, tmp_path):
    data = shape_folder()
    result = train(data, tmp_path / "run", epochs=4)
    again = zoo.evaluate(tmp_path / "run", data)
    assert again.metrics["label"]["accuracy"] == result.metrics["label"]["test"]["accuracy"]


def test_prediction_and_truth_stand_in_the_run(shape_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.jobs.measuring.WORTH_MEASURING", 1)
    train(shape_folder(), tmp_path / "run")
    plan = json.loads((tmp_path / "run" / "run.json").read_text())["plan"]
    assert {each["mode"] for each in plan["alternatives"]} == set(MODES)
    assert all(each["train"] > 0 and not each["refused"] for each in plan["alternatives"])
    assert plan["predicted"] == {name: plan["alternatives"][0][name] for name in ("features", "train")}
    totals = [each["features"] + each["train"] for each in plan["alternatives"]]
    assert totals == sorted(totals)
    assert plan["actual"]["train"] > 0


def test_kept_views_are_each_computed_once_and_shown_in_turn(shape_folder, tmp_path):
    data = shape_folder(32, 32)
    options = {"augment": "light", "views": 3, "epochs": 4}
    first = train(data, tmp_path / "first", **options)
    splits = first.run["data"]["splits"]
    assert kept_part(first.run) == (splits["val"] + 3 * splits["train"], 0)
    assert decisions(first)["views"]["choice"] == "3 of each training image"
    again = train(data, tmp_path / "again", **options)
    assert kept_part(again.run)[0] == 0
    assert distance(weights(tmp_path / "first"), weights(tmp_path / "again")) == 0
    more = train(data, tmp_path / "more", **{**options, "views": 4})
    assert kept_part(more.run)[0] == splits["train"]


def test_views_of_another_augmentation_are_computed_anew_and_those_of_the_same_found(shape_folder, tmp_path):
    data = shape_folder(16, 16)
    for number, (augment, found) in enumerate(
        [("randaugment", False), ("randaugment(m=7)", False), ("randaugment(2, m=9)", True), ("trivialaugment", False)]
    ):
        result = train(data, tmp_path / str(number), augment=augment, views=2)
        computed = kept_part(result.run)[0]
        assert (computed == 0) == found, augment


def test_views_are_four_unless_told_and_no_more_than_epochs(shape_folder, tmp_path):
    data = shape_folder(16, 16)
    for epochs, views in ((2, "2 of each training image"), (6, "4 of each training image")):
        result = train(data, tmp_path / str(epochs), augment="light", epochs=epochs)
        assert decisions(result)["views"]["choice"] == views


@pytest.mark.parametrize("mode", ["live", "whole"])
def test_where_nothing_is_kept_every_epoch_has_a_view_of_its_own(shape_folder, tmp_path, way, mode):
    way(mode)
    result = train(shape_folder(16, 16), tmp_path / "run", augment="light")
    assert decisions(result)["views"]["choice"] == "a new one in every epoch"


@pytest.mark.parametrize("augment", ["light", "light+randaugment(m=20)"])
def test_live_and_whole_see_the_same_augmented_images(shape_folder, tmp_path, way, augment):
    data = shape_folder(16, 16)
    for mode in ("live", "whole"):
        way(mode)
        train(data, tmp_path / mode, augment=augment, backbone="tiny/test_vit")
    assert distance(weights(tmp_path / "live"), weights(tmp_path / "whole")) < 1e-4


@pytest.mark.parametrize("options", [{}, {"augment": "light", "views": 2}])
def test_rows_read_from_the_memory_map_train_as_those_in_memory(shape_folder, tmp_path, monkeypatch, options):
    data = shape_folder()
    held = train(data, tmp_path / "held", **options)
    monkeypatch.setattr("zoo.jobs.amounts.available_memory", lambda: 1)
    mapped = train(data, tmp_path / "mapped", **options)
    assert decisions(held)["feature cache"]["choice"].endswith("in memory")
    assert decisions(mapped)["feature cache"]["choice"].endswith("read from the memory-mapped files")
    assert decisions(mapped)["waiting for data"]["choice"].endswith("of the epochs")
    assert distance(weights(tmp_path / "held"), weights(tmp_path / "mapped")) == 0


def test_covariates_reach_the_head_behind_a_cut(shape_folder, tmp_path):
    root = shape_folder(80, 0)
    rows = [{"image": f"disc/{row}.png", "label": "ab"[row % 2], "hint": "xy"[row % 2]} for row in range(80)]
    pl.DataFrame(rows).write_csv(root / "t.csv")
    options = {"target": ("label",), "covariate": ("hint",), "epochs": 20, "lr": 0.03, "backbone_lr": 1e-6}
    result = train(root / "t.csv", tmp_path / "run", backbone="tiny/test_vit", **options)
    assert result.metrics["label"]["test"]["accuracy"] > 0.8


def test_a_backbone_that_cannot_be_cut_trains_whole_and_says_why(shape_folder, tmp_path, monkeypatch):
    def refuse(*_):
        raise CutError("it has no seam")

    monkeypatch.setattr("zoo.features.boundary.plan_cut", refuse)
    result = train(shape_folder(16, 16), tmp_path / "run", epochs=1)
    said = decisions(result)
    assert said["boundary"]["choice"] == "none"
    assert said["boundary"]["why"] == "tiny/test_resnet cannot be cut before stage4: it has no seam"
    assert said["feature cache"]["choice"] == MODES["whole"]


@pytest.mark.parametrize("as_json", [False, True])
def test_explain_shows_every_way_and_makes_no_run_folder(shape_folder, tmp_path, capsys, monkeypatch, as_json):
    monkeypatch.setattr("zoo.jobs.measuring.WORTH_MEASURING", 1)
    words = ["train", str(shape_folder(16, 16)), "--backbone", "tiny/test_resnet", "--out", str(tmp_path / "run")]
    words += ["--freeze", "last(1)", "--epochs", "2", "--size", "64", "--device", "cpu", "--explain", "--quiet"]
    assert main([*words, *(["--json"] if as_json else [])]) == 0
    said = capsys.readouterr().out
    if as_json:
        [interval] = json.loads(said)
        assert (interval["epochs"], interval["policy"]) == ([1, 2], "last(1)")
        assert {each["mode"] for each in interval["alternatives"]} == set(MODES)
    else:
        assert all(text in said for text in MODES.values())
        assert said.count("→") == 1
        assert "boundary: layer3: " in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("freeze", ["head", "last(1)", "none"])
def test_a_deterministic_run_measures_nothing_and_is_the_same_again(shape_folder, tmp_path, monkeypatch, freeze):
    def refuse(*_, **__):
        raise AssertionError("something was timed")

    for timer in ("jobs.measuring.time_steps", "jobs.measuring.remembered", "jobs.amounts.disk_speed"):
        monkeypatch.setattr(f"zoo.{timer}", refuse)
    for timer in ("race", "remembered"):
        monkeypatch.setattr(f"zoo.features.choose.{timer}", refuse)
    monkeypatch.setattr("zoo.jobs.measuring.WORTH_MEASURING", 1)
    data = shape_folder(16, 16)
    options = {"deterministic": True, "freeze": freeze, "precision": "auto"}
    first = train(data, tmp_path / "first", **options)
    train(data, tmp_path / "second", **options)
    assert distance(weights(tmp_path / "first"), weights(tmp_path / "second")) == 0
    assert decisions(first)["trainable part"]["why"] == "by rule; nothing was measured (--deterministic)"
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_measured_run_is_planned_the_same_way_again(shape_folder, tmp_path, monkeypatch, way):
    """What was measured is read again; the way is asked for, since on so small a network the clock decides it."""
    way("cached")
    monkeypatch.setattr("zoo.jobs.measuring.WORTH_MEASURING", 1)
    data = shape_folder(16, 16)
    ran = [train(data, tmp_path / name, precision="auto") for name in ("first", "second")]
    first, second = (decisions(result) for result in ran)
    assert second["trainable part"]["choice"] == first["trainable part"]["choice"]
    assert second["trainable part"]["why"] == first["trainable part"]["why"] + " (measured by an earlier run)"
    assert first["prefix"]["choice"] == second["prefix"]["choice"]


def test_too_little_memory_on_the_device_says_what_to_try(shape_folder, tmp_path, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory\nand more")

    monkeypatch.setattr(Trainer, "fit", full)
    with pytest.raises(ZooError, match=r"^out of memory on cpu: CUDA out of memory; try a smaller --batch-size$"):
        train(shape_folder(16, 16), tmp_path / "run")


def test_views_without_augmentation_are_refused(shape_folder, tmp_path):
    with pytest.raises(ZooError, match="--views counts augmented views of each image; say --augment light too"):
        train(shape_folder(16, 16), tmp_path / "run", views=2)


def test_without_the_cache_no_feature_is_left_on_the_disk(shape_folder, tmp_path):
    train(shape_folder(16, 16), tmp_path / "run", cache=False, epochs=1)
    assert not (tmp_path / "cache" / "features").exists()


@pytest.mark.parametrize("options", [{"cache": False}, {"freeze": "none"}])
def test_views_that_are_not_kept_are_shown_in_turn_all_the_same(shape_folder, tmp_path, options):
    result = train(shape_folder(16, 16), tmp_path / "run", augment="light", views=2, epochs=1, **options)
    assert decisions(result)["views"]["choice"] == "2 of each training image"
