"""Every head through the whole job: trained on cached features, saved, read again, predicting the same."""

import json
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

import zoo
from zoo.cli import main
from zoo.errors import OptionError, ZooError
from zoo.features.extract import prefix_features
from zoo.jobs import feeding
from zoo.model.load import in_full, one_head
from zoo.model.network import Standardise
from zoo.run.artifact import load_artifact

HEADS = ("linear", "mlp(hidden=32)", "cosine", "attention")


def train(data, out, head, **options):
    fields = {
        "backbone": "tiny/test_vit",
        "epochs": 8,
        "batch_size": 8,
        "quiet": True,
        "device": "cpu",
        "precision": "fp32",
        **options,
    }
    return zoo.train(data, out=out, head=head, **fields)


@pytest.mark.parametrize("head", HEADS)
def test_a_run_with_any_head_beats_chance_and_predicts_what_it_was_scored_on(shape_folder, tmp_path, head):
    data = shape_folder(30, 30)
    result = train(data, tmp_path / "run", head, test_fraction=0.4)
    assert result.metrics["label"]["test"]["balanced_accuracy"] > 0.75  # half by chance, of 24 pictures
    kind = "tokens" if head == "attention" else "pooled"
    assert result.run["backbone"]["feature"] == {"name": kind, "width": 64}
    artifact = load_artifact(tmp_path / "run")
    assert artifact.model.kind == kind
    assert str(artifact.model.heads.call) == str(in_full(one_head(head)))
    saved = pl.read_csv(tmp_path / "run" / "predictions.csv").filter(pl.col("split") == "test")
    again = zoo.predict(tmp_path / "run", [data / image for image in saved["image"]])
    assert again["label.p(disc)"].to_list() == pytest.approx(saved["label.p(disc)"].to_list(), abs=1e-5)


def two_targets(shape_folder):
    root = shape_folder(16, 16)
    rows = [
        {"path": f"{name}/{row}.png", "shape": name, "parity": "even" if row % 2 else "odd", "size": float(row)}
        for name in ("disc", "square")
        for row in range(16)
    ]
    pl.DataFrame(rows).write_csv(root / "table.csv")
    return root / "table.csv"


@pytest.mark.parametrize("head", HEADS)
def test_several_targets_and_covariates_with_any_head(shape_folder, tmp_path, head):
    options = {"image": "path", "target": ("shape", "parity"), "covariate": ("size",), "epochs": 2}
    result = train(two_targets(shape_folder), tmp_path / "run", head, **options)
    assert set(result.metrics) == {"shape", "parity"}
    heads = load_artifact(tmp_path / "run").model.heads
    assert len(heads.heads) == 2
    assert heads.covariates > 0


def test_tokens_without_the_cache_give_the_same_run(shape_folder, tmp_path):
    data = shape_folder(16, 16)
    # 8 rows in every batch on both sides: one row may round otherwise in a batch of another size.
    options = {"batch_size": 8, "test_fraction": 0.5, "val_fraction": 0.5, "epochs": 2}
    runs = [train(data, tmp_path / f"cache-{cache}", "attention", cache=cache, **options) for cache in (True, False)]
    first, second = (run.metrics["label"]["test"] for run in runs)
    assert first["accuracy"] == second["accuracy"]
    frames = [pl.read_csv(tmp_path / f"cache-{cache}" / "predictions.csv") for cache in (True, False)]
    one, other = (frame["label.p(disc)"].to_list() for frame in frames)
    assert one == pytest.approx(other, abs=1e-4)


def test_tokens_while_part_of_the_backbone_trains(shape_folder, tmp_path):
    data = shape_folder(12, 12)
    result = train(data, tmp_path / "run", "attention", freeze="last(1)", epochs=1)
    assert result.run["freeze"]["trainable_stages"]
    assert zoo.evaluate(tmp_path / "run", data).metrics["label"]["accuracy"] == pytest.approx(
        result.metrics["label"]["test"]["accuracy"]
    )


def test_statistics_are_learned_from_few_rows_in_parts_where_the_backbone_trains(shape_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(feeding, "STANDARDISE_ROWS", 16)
    monkeypatch.setattr(feeding, "STATISTICS_ROWS", 5)
    sizes = []
    fit_parts = Standardise.fit_parts

    def watch(self, parts):
        fit_parts(self, (sizes.append(len(part)) or part for part in parts))

    monkeypatch.setattr(Standardise, "fit_parts", watch)
    run = train(shape_folder(20, 20), tmp_path / "run", "attention", freeze="last(1)", epochs=1).run
    assert 16 < run["data"]["splits"]["train"] < 32
    assert 8 <= sum(sizes) <= 16
    assert max(sizes) == 5


def test_features_that_are_needed_at_once_and_do_not_fit_are_refused(monkeypatch):
    monkeypatch.setattr("zoo.features.memory.available_memory", lambda: 10_000_000)
    prefix = SimpleNamespace(shape=(197, 768))
    with pytest.raises(ZooError, match=r"features of 1000 images, 197 x 768 numbers each, take 0\.6 GB of memory"):
        prefix_features(prefix, None, np.arange(1000))


def test_features_are_predicted_in_parts_where_they_are_many(shape_folder, tmp_path, monkeypatch):
    data = shape_folder(40, 40)
    train(data, tmp_path / "run", "attention", epochs=1)
    whole = zoo.evaluate(tmp_path / "run", data, rows="all", out=tmp_path / "whole.csv")
    monkeypatch.setattr("zoo.run.pipeline.HELD_NUMBERS", 1)
    parts = zoo.evaluate(tmp_path / "run", data, rows="all", out=tmp_path / "parts.csv")
    assert whole.rows == parts.rows == 80  # more than one batch
    one, other = (pl.read_csv(tmp_path / name)["label.p(disc)"].to_list() for name in ("whole.csv", "parts.csv"))
    assert one == pytest.approx(other, abs=1e-6)


@pytest.mark.parametrize(
    ("head", "l2", "rate"),
    [
        ("linear", 64 / (4 * 38), 1e-2),
        ("linear(dropout=0.1)", 64 / (4 * 38), 1e-2),
        ("cosine", 10 / 38, 3e-3),
        ("mlp", 10 / 38, 1e-3),
        ("attention", 10 / 38, 1e-3),
    ],
)
def test_the_penalty_and_the_rate_fit_the_head(shape_folder, tmp_path, head, l2, rate):
    run = train(shape_folder(30, 30), tmp_path / "run", head, epochs=1).run
    assert run["data"]["splits"]["train"] == 38
    assert run["training"]["head_l2"] == pytest.approx(l2)
    assert run["training"]["learning_rate"] == pytest.approx(rate)


def test_a_head_that_does_not_fit_the_backbone_is_refused_before_anything_is_computed(shape_folder, tmp_path):
    data = shape_folder(8, 8)
    with pytest.raises(ZooError, match="head attention takes tokens, but tiny/test_efficientnet offers"):
        train(data, tmp_path / "run", "attention", backbone="tiny/test_efficientnet")
    with pytest.raises(ZooError, match="cosine head takes one vector an image; tokens need a head that pools them"):
        train(data, tmp_path / "run", "cosine", features="tokens")
    with pytest.raises(OptionError, match=r"mlp: hidden must be at least 1, not 0\n    mlp\(hidden=0\)\n"):
        train(data, tmp_path / "run", "mlp(hidden=0)")
    assert not (tmp_path / "run" / "run.json").exists()


def test_plugins_list_the_heads_of_the_core(capsys):
    assert main(["plugins", "--json"]) == 0
    plugins = {plugin["name"]: plugin for plugin in json.loads(capsys.readouterr().out)}
    assert plugins["builtin"]["offers"]["heads"] == ["linear", "mlp", "cosine", "attention", "ensemble", "trees"]
    assert all(plugins["builtin"]["summaries"]["heads"].values())
