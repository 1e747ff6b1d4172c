"""Runs under a freeze schedule: each interval trains what it says, nothing else moves, one optimiser goes through."""

from __future__ import annotations

import json

import pytest
import torch

import zoo
from zoo.cli import main
from zoo.errors import OptionError
from zoo.features.extract import keep
from zoo.features.plan import MODES
from zoo.features.prefix import Prefix
from zoo.run.artifact import load_artifact
from zoo.training.loop import Trainer

pytestmark = pytest.mark.long


def train(data, out, **options):
    fields = {
        "backbone": "tiny/test_resnet",
        "size": 64,
        "batch_size": 8,
        "quiet": True,
        "device": "cpu",
        "precision": "fp32",
        "backbone_lr": 1e-3,
        **options,
    }
    return zoo.train(data, out=out, **fields)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Each test begins with nothing kept."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def watched(monkeypatch):
    """What each interval begins and ends with: a list of records, filled by runs."""
    seen = []
    fit = Trainer.fit

    def watching(self, progress=None):
        before = {name: tensor.clone() for name, tensor in self.model.named_parameters()}
        moments = {id(parameter) for parameter, state in self.optimiser.state.items() if state}
        held = {id(parameter) for group in self.optimiser.param_groups for parameter in group["params"]}
        rates = [group["initial_lr"] for group in self.optimiser.param_groups]
        found = fit(self, progress)
        moved = {name for name, tensor in self.model.named_parameters() if not torch.equal(tensor, before[name])}
        seen.append(
            {
                "optimiser": self.optimiser,
                "held": {name for name, parameter in self.model.named_parameters() if id(parameter) in held},
                "names": [name for name, _ in self.model.named_parameters()],
                "moments": len(moments),
                "rates": rates,
                "moved": moved,
                "epochs": [row["epoch"] for row in found.history],
                "trained": {name for name, p in self.model.named_parameters() if p.requires_grad},
            }
        )
        return found

    monkeypatch.setattr(Trainer, "fit", watching)
    return seen


def names_in(moved, *prefixes):
    return {name for name in moved if name.startswith(prefixes)}


@pytest.mark.parametrize(
    ("freeze", "epochs", "trained"),
    [
        ("lp-ft(1)", 3, [(), ("",)]),
        ("last(2)@gradual", 3, [(), ("layer4.",), ("layer3.", "layer4.")]),
        ("thaw(stage4, 1)+thaw(stage2, 2)", 3, [(), ("layer4.",), ("layer2.", "layer3.", "layer4.")]),
        ("bias@lp-ft(1)", 2, [(), ("",)]),
    ],
)
def test_each_interval_moves_what_its_policy_names(shape_folder, tmp_path, watched, freeze, epochs, trained):
    result = train(shape_folder(20, 20), tmp_path / "run", freeze=freeze, epochs=epochs)
    assert len(watched) == len(trained)
    everything = {name for name, _ in load_artifact(tmp_path / "run").model.named_parameters()}
    for each, prefixes in zip(watched, trained, strict=True):
        backbone = {name for name in everything if name.startswith("backbone.")}
        wanted = names_in(backbone, *(f"backbone.{prefix}" for prefix in prefixes)) if prefixes else set()
        if freeze.startswith("bias") and prefixes:
            wanted = {name for name in wanted if name.endswith(".bias")}
        assert names_in(each["trained"], "backbone.") == wanted
        assert names_in(each["moved"], "backbone.") <= wanted
        assert bool(wanted) == bool(names_in(each["moved"], "backbone."))
        assert names_in(each["moved"], "heads.")
        assert each["held"] == set(each["names"]), "a parameter is not in the optimiser"
    assert len({id(each["optimiser"]) for each in watched}) == 1
    assert watched[0]["moments"] == 0
    assert all(each["moments"] >= 2 for each in watched[1:]), "the heads' moments were lost"
    assert [epoch for each in watched for epoch in each["epochs"]] == [number + 1.0 for number in range(epochs)]
    assert result.run["freeze"]["verified"].endswith("is bit for bit what it was before that interval")


def test_each_unfreezing_is_seen_under_compile(shape_folder, tmp_path, watched, monkeypatch):
    """Translated anew in each interval, autograd included: a graph of the interval before would leave stages frozen."""
    from torch._dynamo.backends.debugging import aot_eager

    compile_, graphs = torch.compile, []

    def translate(graph, inputs, **options):
        graphs.append(len(watched))
        return aot_eager(graph, inputs, **options)

    monkeypatch.setattr("torch.compile", lambda function: compile_(function, backend=translate))
    train(shape_folder(20, 20), tmp_path / "run", freeze="last(2)@gradual", epochs=3, compile=True)
    assert set(graphs) == {0, 1, 2}
    for each, stages in zip(watched, ((), ("layer4",), ("layer3", "layer4")), strict=True):
        backbone = names_in(each["trained"], "backbone.")
        assert {name.split(".")[1] for name in backbone} == set(stages)
        assert each["moved"] == each["trained"]


def test_lp_ft_lowers_every_rate_after_the_probe(shape_folder, tmp_path, watched):
    train(shape_folder(16, 16), tmp_path / "run", freeze="lp-ft(1, rate=0.25)", epochs=2, lr=0.01)
    before, after = (set(each["rates"]) for each in watched)
    assert before == {0.01, 1e-3}
    assert after == {0.0025, 2.5e-4}


def test_the_model_kept_is_the_best_epoch_of_the_last_interval(shape_folder, tmp_path, monkeypatch):
    """The head alone may score higher by chance; what is handed over is what the schedule ends with."""
    values = iter([0.1, 0.5, 0.4, 0.6])
    monkeypatch.setattr(Trainer, "validate", lambda self: {"label/log_loss": next(values)})
    result = train(shape_folder(16, 16), tmp_path / "run", freeze="lp-ft(1)", epochs=4, metric="log_loss")
    assert result.run["training"]["best_epoch"] == 3


def test_each_interval_is_planned_and_recorded(shape_folder, tmp_path):
    result = train(shape_folder(16, 16), tmp_path / "run", freeze="last(1)@lp-ft(1)", epochs=3)
    assert [(each["policy"], each["epochs"]) for each in result.run["freeze"]["intervals"]] == [
        ("head", [1, 1]),
        ("last(1)", [2, 3]),
    ]
    told = [each["what"] for each in result.run["decisions"]]
    assert "epochs 1 to 1: boundary" in told
    assert "epochs 2 to 3: boundary" in told
    assert len(result.run["plan"]["intervals"]) == 2


def test_a_frozen_tensor_that_moves_stops_the_run(shape_folder, tmp_path, monkeypatch):
    step = Trainer._step

    def careless(self, rows, inputs):
        with torch.no_grad():
            next(self.model.parameters()).add_(1e-3)
        return step(self, rows, inputs)

    monkeypatch.setattr(Trainer, "_step", careless)
    with pytest.raises(zoo.errors.IntegrityError):
        train(shape_folder(16, 16), tmp_path / "run", freeze="last(1)@lp-ft(1)", epochs=2)


def test_a_run_that_is_too_short_is_refused_before_images_are_read(shape_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.jobs.start.prepare", lambda *_: pytest.fail("the images were read"))
    with pytest.raises(OptionError, match="a run of 2 epochs ends before epoch 4"):
        train(shape_folder(16, 16), tmp_path / "run", freeze="lp-ft(3)", epochs=2)
    assert not (tmp_path / "run").exists()


def test_explain_shows_each_interval(shape_folder, tmp_path, capsys):
    words = ["train", str(shape_folder(16, 16)), "--backbone", "tiny/test_resnet", "--out", str(tmp_path / "run")]
    words += ["--freeze", "last(1)@lp-ft(1)", "--epochs", "3", "--size", "64", "--device", "cpu", "--explain"]
    assert main([*words, "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "epochs 1 to 1: head" in said
    assert "epochs 2 to 3: last(1)" in said
    assert main([*words, "--quiet", "--json"]) == 0
    assert [each["epochs"] for each in json.loads(capsys.readouterr().out)] == [[1, 1], [2, 3]]


@pytest.mark.parametrize("options", [{}, {"augment": "light", "views": 2}])
def test_what_later_intervals_keep_is_computed_first_and_once(shape_folder, tmp_path, monkeypatch, options):
    """The first interval's rows go on from the last one's, and the network is what it is without that."""
    monkeypatch.setitem(keep.__kwdefaults__, "batch", 8)
    others = {other: "the test asks for another way" for other in MODES if other != "cached"}
    monkeypatch.setattr("zoo.jobs.planning._refused", lambda *_: others)
    # By rule: each run would race layouts anew in its own cache, and another layout rounds otherwise.
    options = {"freeze": "last(2)@gradual", "epochs": 3, "deterministic": True, **options}
    data = shape_folder(24, 24)
    result = train(data, tmp_path / "ahead", **options)
    said = {each["what"]: each["choice"] for each in result.run["decisions"]}
    assert said["epochs 1 to 1: computed ahead"].endswith("rows of the interval that begins with epoch 3")
    assert said["epochs 3 to 3: prefix"] == said["epochs 1 to 1: prefix"]
    beyond = Prefix.beyond
    monkeypatch.setattr("zoo.jobs.fitting.plan_ahead", lambda _, plan: plan)
    monkeypatch.setattr(Prefix, "beyond", lambda *_: pytest.fail("rows went on from others"))
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "other"))
    train(data, tmp_path / "each", **options)
    monkeypatch.setattr(Prefix, "beyond", beyond)
    ahead, each = (load_artifact(tmp_path / name).model.state_dict() for name in ("ahead", "each"))
    assert all(torch.equal(ahead[name], each[name]) for name in each)


def test_that_an_earlier_interval_was_better_is_said_beside_the_epoch_that_was_kept(shape_folder, tmp_path, capsys):
    """A rate at which what is freed last diverges: the epoch is chosen in the last interval all the same."""
    words = ["train", str(shape_folder(16, 16)), "--backbone", "tiny/test_resnet", "--size", "64", "--device", "cpu"]
    words += ["--freeze", "last(1)@lp-ft(2)", "--epochs", "4", "--batch-size", "8", "--precision", "fp32"]
    assert main([*words, "--backbone-lr", "30", "--out", str(tmp_path / "run"), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "4, among those of the last interval by log_loss" in said
    assert "the epoch that was kept: label/log_loss" in said
    assert "of an earlier interval had" in said
    assert "the best of the last interval is" in (tmp_path / "run" / "report.html").read_text()
