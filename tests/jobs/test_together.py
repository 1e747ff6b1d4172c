"""Two processes over gloo on the CPU train as one does: by DDP, by FSDP2, under each strategy, after one was killed."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
import torch

import zoo
from zoo.model.view import build_view
from zoo.run.artifact import load_artifact

pytestmark = pytest.mark.long

OPTIONS = {
    "backbone": "timm/test_resnet",
    "weights": "none",
    "random_frozen": True,
    "size": 64,
    "epochs": 2,
    "batch_size": 8,
    "quiet": True,
    "device": "cpu",
    "deterministic": True,
    "precision": "fp32",
    "backbone_lr": 1e-4,
    "batchnorm": "frozen",  # else each process has statistics of its own rows
    "val_fraction": 0.18,  # seven rows, which two processes cannot divide evenly
}
# A linear head begins at zero, through which no gradient would reach the backbone.
STEP = {"epochs": 1, "batch_size": 1000, "schedule": "constant", "warmup": 0.0, "weight_decay": 0.0}
RUNS = {
    "last": {"freeze": "last(1)", "augment": "light", "imbalance": ["class-weights"]},
    "none": {"freeze": "none", "augment": "light", "accumulate": 2, "clip_norm": 0.1, "ema": 0.9},
    "half": {"freeze": "last(1)", "precision": "fp16", "recompute": True},
    "schedule": {"freeze": "last(2)@lp-ft(1)"},
    "gradual": {"backbone": "timm/test_vit", "size": 160, "freeze": "last(2)@gradual", "epochs": 3},
    "translated": {"freeze": "last(1)@gradual", "compile": True},
    "step": {
        "freeze": "none",
        "head": "cosine",
        **STEP,
        "optimiser": "sgd(momentum=0.0, nesterov=false)",
        "lr": 1.0,
        "backbone_lr": 1.0,
    },
}
STRATEGIES = (
    "balanced-sampler",
    "undersample",
    "drw(start=0.5)",
    "drs(start=0.5)",
    "balanced-softmax",
    "ldam",
    "crt(epochs=1)",
    "logit-adjust+threshold",
)
TRAINED = [*RUNS, *STRATEGIES, "head", "smote"]
RUNS |= {name: {"freeze": "last(1)", "imbalance": [name]} for name in STRATEGIES}
RUNS |= {"head": {"freeze": "head"}, "smote": {"freeze": "head", "imbalance": ["smote"]}}
TARGETS = {
    "targets": {
        "freeze": "last(1)",
        "target": ["shade"],
        "task": ["level=regression", "rank=ordinal", "marks=multilabel(odd, third)"],
        "task_weights": "learned",
        "accumulate": 2,
        "head": "mlp",
    },
    "pseudo": {
        "freeze": "last(1)",
        "target": ["shade"],
        "task": ["marks=multilabel(odd, third)"],
        "missing_labels": "pseudo(tau=0.6)",
    },
}
"""Of a table with targets of every kind."""
# What is mixed is drawn by each process for its own rows.
MIXED = {"remix": {"freeze": "last(1)", "imbalance": ["remix"]}, "mixup": {"freeze": "last(1)", "mixup": 0.2}}
SHARDED = ("last", "none", "half", "schedule", "gradual", "step", "crt(epochs=1)")
WAYS = [*((name, "ddp") for name in TRAINED), *((name, "fsdp") for name in SHARDED)]
"""Each run, and by what its processes share what trains."""


@pytest.fixture(autouse=True)
def tiny():
    """Not here: the other processes know only what is installed."""


@pytest.fixture(scope="module")
def table(noise):
    """The same images with targets of every kind, a third of whose cells are empty."""
    rows = []
    for row in range(51):
        cells = {
            "shade": "dark" if row % 3 else "bright",
            "level": row / 7 + 0.5,
            "rank": row % 3,
            "odd": row % 2,
            "third": int(row % 3 == 0),
        }
        shown = {name: None if (row + place) % 5 < 2 else cell for place, (name, cell) in enumerate(cells.items())}
        rows.append({"image": f"{noise}/{'dark' if row % 3 else 'bright'}/{row}.png", **shown})
    path = noise.parent / f"{noise.name}.csv"
    pl.DataFrame(rows).write_csv(path)
    return path


@pytest.fixture(scope="module")
def together(noise, table, torchrun, tmp_path_factory):
    """All runs, by two processes that are started once."""
    folder = tmp_path_factory.mktemp("two")
    ways = [*WAYS, *((name, "ddp") for name in MIXED), *((name, way) for name in TARGETS for way in ("ddp", "fsdp"))]
    shard = {"ddp": {}, "fsdp": {"shard": "fsdp"}}
    runs = {f"{name}-{way}": {**OPTIONS, **(RUNS | MIXED | TARGETS)[name], **shard[way]} for name, way in ways}
    data = {name: str(table if "task" in own else noise) for name, own in runs.items()}
    torchrun([{**own, "data": data[name], "out": str(folder / name)} for name, own in runs.items()], folder)
    return folder


@pytest.fixture(scope="module")
def alone(noise, table, tmp_path_factory):
    """The same by one."""
    folder = tmp_path_factory.mktemp("one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("zoo.jobs.outcome.render_report", lambda *_: "")
        for name, own in (RUNS | MIXED | TARGETS).items():
            own = {option: tuple(value) if isinstance(value, list) else value for option, value in own.items()}
            data = table if "task" in own else noise
            zoo.train(data, out=folder / name, **{**OPTIONS, **own, "compile": False})
    return folder


def seen(folder):
    return json.loads((folder / "seen.json").read_text())


@pytest.mark.parametrize(("name", "way"), WAYS)
def test_two_processes_have_the_losses_of_one(alone, together, name, way):
    one, two = (pl.read_csv(folder / "history.csv") for folder in (alone / name, together / f"{name}-{way}"))
    assert len(one) == len(two) >= 1
    for column in ("train_loss", *(each for each in one.columns if each.endswith("log_loss"))):
        assert np.allclose(one[column], two[column], rtol=1e-3, atol=0), column
    folders = (alone / name, together / f"{name}-{way}")
    scores = [json.loads((folder / "metrics.json").read_text())["label"] for folder in folders]
    assert [[each["val"]["rows"], each["test"]["rows"]] for each in scores] == [[7, 13], [7, 13]]
    assert scores[0]["test"]["confusion"] == scores[1]["test"]["confusion"]


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
@pytest.mark.parametrize("name", sorted(TARGETS))
def test_targets_of_every_kind_and_pseudo_labels_are_the_same_in_two_processes(alone, together, name, way):
    folders = (alone / name, together / f"{name}-{way}")
    one, two = (pl.read_csv(folder / "history.csv") for folder in folders)
    assert len(one) == len(two) == 2
    watched = ("log_loss", "nmse", "mean")
    columns = [each for each in one.columns if each.endswith(watched) or each.startswith("weight(")]
    assert len(columns) == {"targets": 9, "pseudo": 3}[name]
    for column in ("train_loss", *columns):
        assert np.allclose(one[column], two[column], rtol=1e-3, atol=0), column
    given = [json.loads((folder / "run.json").read_text())["pseudo_labels"] for folder in folders]
    assert given[0] == given[1]
    assert bool(given[0]) == (name == "pseudo")
    scores = [json.loads((folder / "metrics.json").read_text()) for folder in folders]
    rows = [[split["rows"] for task in found.values() for split in task.values()] for found in scores]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_the_first_step_is_the_same(alone, together, way):
    """Plain gradient descent with a rate of 1: the weights moved by the gradients."""
    folders = (alone / "step", together / f"step-{way}")
    one, two = (dict(load_artifact(folder).model.named_parameters()) for folder in folders)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        start = dict(build_view("timm/test_resnet", "none").module.named_parameters())
    compared = 0
    for name, moved in one.items():
        parameter = moved.detach()
        before = start.get(name.removeprefix("backbone."))
        if before is None or before.shape != parameter.shape:
            continue
        gradient = (before.detach() - parameter).norm()
        assert (parameter - two[name].detach()).norm() <= 1e-5 * gradient + 1e-8, name
        compared += float(gradient) > 0
    assert compared > 10


@pytest.mark.parametrize("name", sorted(MIXED))
def test_rows_that_are_mixed_come_in_the_order_of_one_process(alone, together, name):
    orders = [each["rows"] for each in seen(together / f"{name}-ddp")]
    assert orders == [each["rows"] for each in seen(together / "last-ddp")]
    losses = [pl.read_csv(f / "history.csv")["train_loss"] for f in (alone / name, together / f"{name}-ddp")]
    assert np.allclose(*losses, rtol=0.3)
    assert not np.allclose(*losses, rtol=1e-3)


@pytest.mark.parametrize("run", ["gradual-ddp", "gradual-fsdp", "translated-ddp"])
def test_what_an_interval_frees_moves(together, run):
    """Autograd, the wrapper, the translation and the optimiser have all seen it."""
    intervals = seen(together / run)
    where = 1 if run.startswith("translated") else 2  # layer3.… or blocks.3.…
    named = [[name.split(".") for name in each["trained"] if name.startswith("backbone.")] for each in intervals]
    stages = [{parts[where] for parts in each if parts[1] != "norm"} for each in named]
    assert [len(each) for each in stages] == ([0, 1] if run.startswith("translated") else [0, 1, 2])
    assert all(each["moved"] == each["trained"] for each in intervals)


def test_each_process_holds_its_share_of_what_trains(together):
    whole, part = (seen(together / f"none-{way}")[0] for way in ("ddp", "fsdp"))
    assert whole["held"] == whole["numbers"] == part["numbers"]
    assert part["held"] == pytest.approx(part["numbers"] / 2, rel=0.02)
    assert part["remembered"] == pytest.approx(whole["remembered"] / 2, rel=0.02)
    shards = [each for each in decisions(together / "none-fsdp") if each["what"] == "shards"]
    assert shards[0]["choice"] == f"{part['numbers']} numbers that train, over 2 processes"
    assert "blocks one by one (10), then the rest" in shards[0]["why"]


def decisions(folder):
    return json.loads((folder / "run.json").read_text())["decisions"]


def test_a_process_that_is_killed_is_started_again_and_the_run_ends_right(together, noise, torchrun, tmp_path):
    """Once by DDP, and then, in the processes that were started anew, by FSDP2."""
    runs = {
        "schedule-ddp": {**RUNS["schedule"], "killed": "0"},
        "none-fsdp": {**RUNS["none"], "killed": "1", "shard": "fsdp"},
    }
    options = {**OPTIONS, "data": str(noise), "save_every": 0.0}
    torchrun([{**options, **own, "out": str(tmp_path / name)} for name, own in runs.items()], tmp_path, restarts=2)
    for name in runs:
        assert (tmp_path / name / "run.json").exists()
        assert not (tmp_path / name / "resume.json").exists()
        whole, killed = (load_artifact(folder / name).model.state_dict() for folder in (together, tmp_path))
        assert all(torch.equal(tensor, killed[key]) for key, tensor in whole.items())
