"""Runs with adapters: trained, resumed, computed from a cached prefix, saved as plain networks."""

from __future__ import annotations

import json

import pytest
import torch

import zoo
from zoo.cli import main
from zoo.errors import ZooError
from zoo.jobs import resume as module
from zoo.jobs.resume import Checkpoints
from zoo.model import lora
from zoo.run.artifact import load_artifact
from zoo.training.loop import Trainer

pytest.importorskip("peft")

OPTIONS = {
    "backbone": "tiny/test_resnet",
    "size": 64,
    "epochs": 3,
    "batch_size": 8,
    "quiet": True,
    "device": "cpu",
    "precision": "fp32",
    "deterministic": True,
    "freeze": "lora(r=2)@last(1)",
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Each test begins with nothing kept; states are saved as often as is asked."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "SHARE", 1e9)


def weights(folder):
    return load_artifact(folder).model.state_dict()


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("backbone", "freeze"),
    [
        ("tiny/test_vit", "lora(r=2)"),
        ("tiny/test_vit", "lora(r=2, alpha=4, dropout=0.1)@last(1)"),
        ("tiny/test_resnet", "lora(r=2)"),
        ("tiny/test_resnet", "lora(r=2)@last(1)"),
        ("tiny/test_efficientnet", "lora(r=2)@last(2)@lp-ft(1)"),
    ],
)
def test_what_is_saved_is_a_plain_network(shape_folder, tmp_path, backbone, freeze):
    size = None if "vit" in backbone else 64
    result = zoo.train(
        shape_folder(12, 12),
        out=tmp_path / "run",
        **{**OPTIONS, "backbone": backbone, "size": size, "freeze": freeze, "ema": 0.9},
    )
    said = result.run["freeze"]
    assert said["policy"] == freeze
    assert said["lora"]["r"] == 2
    assert "bit for bit" in said["verified"]
    saved = weights(tmp_path / "run")
    assert not any("lora" in name or "base_layer" in name for name in saved)
    merged = next(each for each in result.run["decisions"] if each["what"] == "adapters")
    assert "rank 2" in merged["choice"]
    assert sum(stage["trainable"] for stage in result.run["backbone"]["stages"]) > 0
    assert result.run["training"]["backbone_learning_rate"] == 1e-3
    from zoo.model.view import build_view

    start = build_view(backbone).module.state_dict()
    moved = {
        name
        for name in start
        if f"backbone.{name}" in saved and not torch.equal(start[name], saved[f"backbone.{name}"])
    }
    moved = {name for name in moved if start[name].shape == saved[f"backbone.{name}"].shape}
    assert moved
    assert all(name.endswith("weight") and start[name].ndim > 1 for name in moved if "pos_embed" not in name)


class Killed(BaseException):
    """As SIGKILL: nothing catches it and nothing is written after it."""


@pytest.mark.parametrize("freeze", ["lora(r=2, dropout=0.2)@last(1)", "lora(r=2)@last(2)@lp-ft(1)"])
def test_a_resumed_run_ends_with_the_same_weights(shape_folder, tmp_path, monkeypatch, freeze):
    data = shape_folder(16, 16)
    fields = {**OPTIONS, "freeze": freeze, "save_every": 0.0, "ema": 0.9}
    zoo.train(data, out=tmp_path / "whole", **fields)
    plain, count = Checkpoints.save, []

    def save(self, state):
        plain(self, state)
        count.append(state)
        if len(count) == 8:
            raise Killed

    monkeypatch.setattr(Checkpoints, "save", save)
    with pytest.raises(Killed):
        zoo.train(data, out=tmp_path / "run", **fields)
    assert any("lora_A" in name for name in count[-1].tensors)
    assert any("lora_B" in name for name in count[-1].tensors if name.startswith("average."))
    zoo.resume(tmp_path / "run", quiet=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "run"))


@pytest.mark.parametrize(("backbone", "size"), [("tiny/test_vit", None), ("tiny/test_resnet", 64)])
def test_the_cached_prefix_trains_as_the_whole_network(shape_folder, tmp_path, monkeypatch, backbone, size):
    data, seen = shape_folder(12, 12), []
    fit = Trainer.fit

    def watching(self, progress=None):
        found = fit(self, progress)
        seen.append([row["train_loss"] for row in found.history])
        return found

    monkeypatch.setattr(Trainer, "fit", watching)
    fields = {**OPTIONS, "backbone": backbone, "size": size}
    cached = zoo.train(data, out=tmp_path / "cached", **fields)
    monkeypatch.setattr("zoo.jobs.planning._refused", lambda job, boundary: {"cached": "a test", "live": "a test"})
    whole = zoo.train(data, out=tmp_path / "whole", **fields)
    ways = [
        next(d["choice"] for d in each.run["decisions"] if d["what"] == "feature cache") for each in (cached, whole)
    ]
    assert ways[0].startswith("what crosses the boundary is computed once")
    assert ways[1].startswith("every epoch goes through the whole network")
    assert seen[0] == pytest.approx(seen[1], rel=1e-4)
    assert seen[0][-1] != seen[0][0]


def test_the_optimiser_holds_the_adapters_from_the_first_step_on(shape_folder, tmp_path, monkeypatch):
    seen = []
    fit = Trainer.fit

    def watching(self, progress=None):
        held = {id(p): group for group in self.optimiser.param_groups for p in group["params"]}
        names = {name: held[id(p)]["weight_decay"] for name, p in self.model.named_parameters() if id(p) in held}
        seen.append((len(held), {name: decay for name, decay in names.items() if "lora_" in name}))
        return fit(self, progress)

    monkeypatch.setattr(Trainer, "fit", watching)
    zoo.train(
        shape_folder(8, 8),
        out=tmp_path / "run",
        **{**OPTIONS, "freeze": "lora(r=2)@last(1)@gradual", "epochs": 2, "weight_decay": 0.03},
    )
    assert len(seen) == 2
    assert seen[0][0] == seen[1][0]
    assert seen[1][1]
    assert set(seen[1][1].values()) == {0.03}


def test_explain_says_that_adapters_in_the_first_layer_leave_no_prefix(shape_folder, tmp_path, capsys):
    arguments = ["--backbone", "tiny/test_resnet", "--size", "64", "--device", "cpu", "--out", str(tmp_path / "run")]
    words = ["train", str(shape_folder(16, 16)), *arguments, "--freeze", "lora(r=2)", "--explain", "--deterministic"]
    code = main([*words, "--epochs", "2", "--quiet"])
    said = " ".join(capsys.readouterr().out.split())
    assert code == 0
    assert "policy lora(r=2) adapts the backbone from its first layer" in said


def test_info_counts_the_matrices(capsys):
    assert main(["info", "tiny/test_resnet", "--freeze", "lora(r=2)@last(1)", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    [last] = [stage for stage in found["stages"] if stage["trainable"]]
    assert 0 < found["trainable_parameters"] == last["trainable"] < last["parameters"] / 2


def test_without_peft_a_run_is_refused_before_it_begins(shape_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(lora, "find_spec", lambda name: None)
    with pytest.raises(ZooError, match="pip install"):
        zoo.train(shape_folder(8, 8), out=tmp_path / "run", **OPTIONS)
    assert not (tmp_path / "run").exists()
