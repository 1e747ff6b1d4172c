"""`zoo info` says what a run does: each interval's trainable parameters, learning rates and moving statistics."""

from __future__ import annotations

import pytest

import zoo
from zoo.errors import OptionError, ZooError
from zoo.jobs import fitting
from zoo.jobs import info as module
from zoo.jobs.info import info
from zoo.model.batchnorm import batch_norms
from zoo.training.loop import Trainer


@pytest.fixture
def watched(monkeypatch, tmp_path):
    """What each interval of a run has: by stage, as `StageInterval`; and the head's rate."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    seen, jobs = [], []
    train, fit = fitting.train_interval, Trainer.fit

    def training(job, *rest):
        jobs.append(job)
        return train(job, *rest)

    def watching(self, progress=None):
        model = jobs[-1].model
        norms = batch_norms(model.backbone)
        before = {path: layer.running_mean.clone() for path, layer in norms.items()}
        groups = self.optimiser.param_groups
        rates = {id(own): group["initial_lr"] for group in groups for own in group["params"]}
        found = fit(self, progress)
        moved = {path for path, layer in norms.items() if not layer.running_mean.equal(before[path])}
        parameters, stages = dict(model.backbone.named_parameters()), []
        for stage in model.view.stages:
            own = [parameters[name] for name in stage.parameters]
            real = [rates[id(each)] for each in own if each.requires_grad]
            within = [path for path in norms if f"{path}.weight" in stage.parameters]
            stages.append(
                {
                    "name": stage.name,
                    "parameters": sum(each.numel() for each in own),
                    "trainable": sum(each.numel() for each in own if each.requires_grad),
                    "lowest_rate": min(real, default=None),
                    "highest_rate": max(real, default=None),
                    "norms": len(within),
                    "moving": len(moved.intersection(within)),
                }
            )
        seen.append((stages, next(group["initial_lr"] for group in groups if group["part"] == "head")))
        return found

    monkeypatch.setattr(fitting, "train_interval", training)
    monkeypatch.setattr(Trainer, "fit", watching)
    return seen


@pytest.mark.parametrize(
    ("backbone", "freeze", "intervals", "options"),
    [
        ("test_resnet", "head", 1, {}),
        ("test_resnet", "last(1)", 1, {"batchnorm": "train"}),
        ("test_resnet", "last(2)@lp-ft(1)", 2, {"layer_decay": 0.5}),
        ("test_resnet", "last(2)@gradual", 3, {"optimiser": "sgd"}),
        ("test_resnet", "thaw(stage4, 1)", 2, {"batchnorm": "recalibrate", "backbone_lr": 3e-4}),
        ("test_efficientnet", "norm@last(2)", 1, {"lr": 2e-3}),
        ("test_efficientnet", "depth(0.5)", 1, {"batchnorm": "train", "layer_decay": 0.8}),
        ("test_vit", "none", 1, {"layer_decay": 0.75}),
    ],
)
def test_what_is_shown_is_what_a_run_does(shape_folder, tmp_path, watched, backbone, freeze, intervals, options):
    shown = info(f"tiny/{backbone}", freeze, epochs=3, **options).intervals
    result = zoo.train(
        shape_folder(20, 20),
        backbone=f"tiny/{backbone}",
        out=tmp_path / "run",
        freeze=freeze,
        epochs=3,
        batch_size=8,
        device="cpu",
        precision="fp32",
        quiet=True,
        **({"size": 64} if backbone != "test_vit" else {}),
        **options,
    )
    assert len(shown) == len(watched) == intervals
    recorded = result.run["freeze"]["intervals"]
    for each, (stages, head), written in zip(shown, watched, recorded, strict=True):
        assert [{name: getattr(own, name) for name in own.__slots__} for own in each.stages] == stages
        assert each.head_rate == head == written["learning_rate"]
        assert each.trainable == sum(own["trainable"] for own in stages)
        assert [each.first, each.last] == written["epochs"]
        heads = written["trainable_parameters"] - each.trainable
        assert written["parameters"] == each.parameters + heads
        fastest = max((own.highest_rate for own in each.stages if own.highest_rate), default=None)
        assert written["backbone_learning_rate"] == fastest
    assert sum(written["epochs_run"] for written in recorded) == 3


def test_nothing_is_allocated(monkeypatch):
    timeline, seen = module.timeline, []

    def watching(model, *rest):
        seen.extend(model.parameters())
        return timeline(model, *rest)

    monkeypatch.setattr(module, "timeline", watching)
    info("tiny/test_resnet", "lp-ft(2)")
    assert seen
    assert all(parameter.is_meta for parameter in seen)


@pytest.mark.parametrize(
    ("freeze", "options", "error", "said"),
    [
        ("lst(1)", {}, OptionError, "unknown freeze policy 'lst'.*did you mean last"),
        ("until(stag4)", {}, OptionError, "has no stage 'stag4'.*did you mean stage"),
        ("lp-ft(2)", {"epochs": 2}, OptionError, "a run of 2 epochs ends before epoch 3"),
        ("last(1)", {"batchnorm": "recalibrate"}, ZooError, "has no BatchNorm to recalibrate"),
        ("last(1)", {"optimiser": "lion"}, ZooError, "no default learning rates for --optimiser lion"),
        ("last(1)", {"layer_decay": 2.0}, ZooError, "--layer-decay must be more than 0 and at most 1"),
    ],
)
def test_what_training_refuses_is_refused(freeze, options, error, said):
    name = "tiny/test_vit" if options.get("batchnorm") else "tiny/test_resnet"
    with pytest.raises(error, match=said):
        info(name, freeze, **options)
