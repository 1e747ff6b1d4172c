"""Options of the engine through a whole run: what they do to it, what is recorded, and what is refused."""

from __future__ import annotations

import polars as pl
import pytest

import zoo
from zoo.errors import OptionError, ZooError
from zoo.training.loop import Trainer

pytestmark = pytest.mark.long


def train(data, out, **options):
    fields = {
        "backbone": "tiny/test_resnet",
        "size": 64,
        "epochs": 2,
        "batch_size": 8,
        "quiet": True,
        "device": "cpu",
        "precision": "fp32",
        "freeze": "last(1)",
        **options,
    }
    return zoo.train(data, out=out, **fields)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Each test begins with nothing kept."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


def test_a_run_with_everything_at_once_says_so(shape_folder, tmp_path, monkeypatch):
    seen = []
    fit = Trainer.fit
    monkeypatch.setattr(Trainer, "fit", lambda self, progress=None: (seen.append(self), fit(self, progress))[1])
    options = {
        "optimiser": "lion(beta2=0.98)",
        "lr": 1e-3,
        "backbone_lr": 1e-5,
        "layer_decay": 0.7,
        "schedule": "one-cycle",
        "accumulate": 2,
        "clip_norm": 1.0,
        "ema": 0.99,
        "label_smoothing": 0.1,
        "mixup": 0.2,
        "cutmix": 1.0,
        "patience": 5,
    }
    result = train(shape_folder(20, 20), tmp_path / "run", **options)
    said = result.run["training"]
    assert said["optimiser"] == "lion(beta2=0.98)"
    assert said["schedule"] == "one-cycle"
    assert said["batch_size"] == 16
    for name in ("layer_decay", "clip_norm", "ema", "label_smoothing", "mixup", "cutmix"):
        assert said[name] == options[name]
    assert said["epochs_run"] == 2
    [own] = seen
    assert type(own.optimiser).__name__ == "Lion"
    assert own.mixer is not None
    assert own.average is not None
    assert len({group["initial_lr"] for group in own.optimiser.param_groups}) > 2
    ways = {each["mode"]: each["refused"] for each in result.run["plan"]["alternatives"]}
    assert not ways["whole"]
    assert "mix images anew" in ways["cached"]


def test_images_are_not_mixed_where_the_head_trains_alone(shape_folder, tmp_path, monkeypatch):
    mixed = []
    fit = Trainer.fit
    monkeypatch.setattr(
        Trainer, "fit", lambda self, progress=None: (mixed.append(self.mixer is not None), fit(self, progress))[1]
    )
    train(shape_folder(16, 16), tmp_path / "run", freeze="lp-ft(1)", mixup=0.2)
    assert mixed == [False, True]


def test_sgd_begins_with_ten_times_the_rates_of_adamw(shape_folder, tmp_path):
    data = shape_folder(16, 16)
    one = train(data, tmp_path / "adamw").run["training"]
    two = train(data, tmp_path / "sgd", optimiser="sgd").run["training"]
    assert two["learning_rate"] == pytest.approx(10 * one["learning_rate"])
    assert two["backbone_learning_rate"] == pytest.approx(10 * one["backbone_learning_rate"])


def test_a_head_alone_takes_the_options_too(shape_folder, tmp_path):
    result = train(
        shape_folder(16, 16),
        tmp_path / "run",
        freeze="head",
        optimiser="sgd(momentum=0.8)",
        schedule="plateau",
        ema=0.9,
        label_smoothing=0.1,
        epochs=9,
        patience=1,
    )
    assert result.run["training"]["optimiser"] == "sgd(momentum=0.8)"
    assert result.run["training"]["epochs_run"] <= 9


def test_files_of_a_step_whose_loss_is_not_finite_are_named(shape_folder, tmp_path):
    with pytest.raises(
        ZooError, match=r"the loss of step .* is (nan|inf); .*; the step's files: .*\.png.* and \d+ more"
    ):
        train(shape_folder(30, 30), tmp_path / "run", freeze="none", epochs=8, batch_size=16, backbone_lr=1e30, lr=1e30)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimiser": "lion"}, "no default learning rates for --optimiser lion; say --lr and --backbone-lr"),
        ({"optimiser": "lion", "freeze": "head"}, "say --lr$"),
        ({"freeze": "head", "mixup": 0.2}, "let part of the backbone train"),
        ({"ema": 1.0}, "--ema must be more than 0 and less than 1, not 1.0"),
        ({"layer_decay": 0.0}, "--layer-decay must be more than 0"),
        ({"label_smoothing": 1.0}, "--label-smoothing must be at least 0 and less than 1"),
        ({"mixup": -1.0}, "--mixup must be at least 0"),
        ({"accumulate": 0}, "--accumulate must be positive"),
        ({"clip_norm": 0.0}, "--clip-norm must be positive"),
        ({"patience": 0}, "--patience must be positive"),
        ({"schedule": "cosin"}, "did you mean cosine"),
        ({"optimiser": "adamww"}, "did you mean adamw"),
        ({"freeze": "head", "fitter": "lbfgs", "ema": 0.9}, "--fitter lbfgs has a loop of its own.* --ema"),
        ({"freeze": "head", "sweep": True, "schedule": "linear"}, "--sweep has a loop of its own.* --schedule"),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_data_are_read(tmp_path, options, message):
    with pytest.raises((ZooError, OptionError), match=message):
        train(tmp_path / "nothing", tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def losses(found):
    return [float(row) for row in pl.read_csv(found.folder / "history.csv")["train_loss"]]


@pytest.mark.parametrize("freeze", ["last(1)", "none"])
def test_recomputing_changes_nothing(shape_folder, tmp_path, freeze):
    data = shape_folder(16, 16)
    options = {"backbone": "tiny/test_resnet", "size": 64, "epochs": 2, "precision": "fp32", "quiet": True}
    options |= {"freeze": freeze, "deterministic": True}
    plain = zoo.train(data, out=tmp_path / "plain", **options)
    again = zoo.train(data, out=tmp_path / "again", recompute=True, **options)
    assert losses(plain) == losses(again)
    assert plain.metrics == again.metrics


def test_a_scaled_loss_trains_as_an_unscaled_one(shape_folder, tmp_path):
    data = shape_folder(16, 16)
    options = {"backbone": "tiny/test_vit", "epochs": 2, "freeze": "last(1)", "quiet": True, "deterministic": True}
    options |= {"size": 160, "device": "cpu", "clip_norm": 1.0}
    half = zoo.train(data, out=tmp_path / "half", precision="fp16", **options)
    full = zoo.train(data, out=tmp_path / "full", precision="fp32", **options)
    assert losses(half) == pytest.approx(losses(full), rel=0.05)
    assert losses(half) != losses(full)
    assert "fp16 autocast" in str(half.run["decisions"])


def test_a_translated_network_trains_as_it_is(shape_folder, tmp_path):
    """Of intervals that are translated anew each, `test_each_unfreezing_is_seen_under_compile` tells."""
    data = shape_folder(10, 10)
    options = {"backbone": "tiny/test_resnet", "size": 64, "epochs": 2, "precision": "fp32", "quiet": True}
    options |= {"freeze": "last(1)", "deterministic": True, "batch_size": 8}
    plain = zoo.train(data, out=tmp_path / "plain", **options)
    again = zoo.train(data, out=tmp_path / "again", compile=True, **options)
    assert losses(plain) == pytest.approx(losses(again), rel=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compile": True}, "--compile is about the part of the backbone that trains"),
        ({"recompute": True}, "--recompute is about the part"),
        ({"recompute": True, "freeze": "none", "batchnorm": "train"}, "would move twice"),
        ({"batch_size": 0}, "--batch-size must be positive"),
        ({"devices": 0}, "--devices must be positive"),
        ({"shard": "fsdp", "freeze": "none"}, "has one process to divide it among; say --devices 2, or start zoo by"),
        ({"shard": "fsdp", "devices": 2}, "divides the part .* that trains, and --freeze head trains none"),
        ({"shard": "fsdp", "devices": 2, "freeze": "lora(r=2)"}, "adapters, which are small; leave out --shard"),
        (
            {"shard": "fsdp", "devices": 2, "freeze": "none", "compile": True},
            "block by block, and --compile translates",
        ),
        ({"shard": "fsdp", "devices": 2, "freeze": "none", "batch_size": "auto"}, "tries all of it on one; say a num"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, options, message):
    with pytest.raises(ZooError, match=message):
        zoo.train(tmp_path, backbone="tiny/test_resnet", out=tmp_path / "run", **options)
