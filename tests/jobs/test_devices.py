"""Several processes that train together, over gloo on the CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import zoo
from zoo.cli import main
from zoo.errors import ZooError
from zoo.model.view import build_view
from zoo.run.artifact import load_artifact

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
}
# A linear head begins at zero, through which no gradient would reach the backbone.
STEP = {"epochs": 1, "batch_size": 1000, "schedule": "constant", "warmup": 0.0, "weight_decay": 0.0}
RUNS = {
    "last": {"freeze": "last(1)", "augment": "light", "imbalance": ["class-weights"]},
    "none": {"freeze": "none", "augment": "light", "accumulate": 2, "clip_norm": 1.0, "ema": 0.9},
    "schedule": {"freeze": "last(2)@lp-ft(1)"},
    "head": {"freeze": "head"},
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
    "step": {
        "freeze": "none",
        "head": "cosine",
        **STEP,
        "optimiser": "sgd(momentum=0.0, nesterov=false)",
        "lr": 1.0,
        "backbone_lr": 1.0,
    },
}


@pytest.fixture(autouse=True)
def tiny():
    """Not here: the other processes know only what is installed."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Fifty-one noisy images of two classes, so that nothing divides evenly."""
    from PIL import Image

    root, draws = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for row in range(51):
        folder = root / ("dark" if row % 3 else "bright")
        folder.mkdir(exist_ok=True)
        pixels = draws.integers(0, 160, (64, 64, 3)) + (0 if row % 3 else 60)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{row}.png")
    return root


@pytest.fixture(scope="module")
def table(data):
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
        rows.append({"image": f"{'dark' if row % 3 else 'bright'}/{row}.png", **shown})
    path = data.parent / f"{data.name}.csv"
    pl.DataFrame(rows).with_columns(image=pl.lit(f"{data}/") + pl.col("image")).write_csv(path)
    return path


def told(own):
    """Options as `zoo.train` takes them in this process."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in own.items()}


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return {**os.environ, "ZOO_CACHE": str(tmp_path_factory.mktemp("cache")), "OMP_NUM_THREADS": "1"}


def torchrun(runs, folder, environment, restarts=0):
    """Two processes that train one run after the other."""
    path = folder / "runs.json"
    path.write_text(json.dumps(runs))
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words += [f"--max-restarts={restarts}", str(Path(__file__).with_name("together.py")), str(path)]
    found = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=500)
    assert found.returncode == 0, found.stderr[:6000]


@pytest.fixture(scope="module")
def together(data, table, environment, tmp_path_factory):
    """All runs, by two processes."""
    folder = tmp_path_factory.mktemp("two")
    runs = [
        {**OPTIONS, **own, "data": str(table if "task" in own else data), "out": str(folder / name)}
        for name, own in RUNS.items()
    ]
    torchrun(runs, folder, environment)
    return folder


@pytest.fixture(scope="module")
def alone(data, table, tmp_path_factory):
    """The same by one."""
    folder = tmp_path_factory.mktemp("one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        for name, own in RUNS.items():
            zoo.train(table if "task" in own else data, out=folder / name, **{**OPTIONS, **told(own)})
    return folder


@pytest.mark.parametrize("name", ["last", "none", "schedule", "head", "targets", "pseudo"])
def test_two_processes_have_the_losses_of_one(alone, together, name):
    one, two = (pl.read_csv(folder / name / "history.csv") for folder in (alone, together))
    assert len(one) == 2
    watched = ("log_loss", "nmse", "mean")
    columns = [each for each in one.columns if each.endswith(watched) or each.startswith("weight(")]
    assert len(columns) == {"targets": 9, "pseudo": 3}.get(name, 1)
    for column in ("train_loss", *columns):
        assert np.allclose(one[column], two[column], rtol=1e-3, atol=0), column
    given = [json.loads((folder / name / "run.json").read_text())["pseudo_labels"] for folder in (alone, together)]
    assert given[0] == given[1]
    assert bool(given[0]) == (name == "pseudo")
    scores = [json.loads((folder / name / "metrics.json").read_text()) for folder in (alone, together)]
    rows = [[split["rows"] for task in found.values() for split in task.values()] for found in scores]
    assert rows[0] == rows[1]


def test_the_first_step_is_the_same(alone, together, data, environment):
    """Plain gradient descent with a rate of 1: the weights moved by the gradients."""
    one, two = (dict(load_artifact(folder / "step").model.named_parameters()) for folder in (alone, together))
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


def test_a_process_that_is_killed_is_started_again_and_the_run_ends_right(data, environment, tmp_path):
    options = {**OPTIONS, "data": str(data), "freeze": "last(2)@lp-ft(1)", "epochs": 3, "save_every": 0.0}
    torchrun([{**options, "out": str(tmp_path / "whole")}], tmp_path, environment)
    torchrun([{**options, "out": str(tmp_path / "killed"), "killed": True}], tmp_path, environment, restarts=1)
    whole, killed = (load_artifact(tmp_path / name).model.state_dict() for name in ("whole", "killed"))
    assert all(torch.equal(tensor, killed[name]) for name, tensor in whole.items())
    assert not (tmp_path / "killed" / "resume.json").exists()


def test_devices_starts_them(data, environment, tmp_path, monkeypatch, capfd):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "run"
    words = [
        "train",
        str(data),
        "--backbone",
        "timm/test_resnet",
        "--weights",
        "none",
        "--freeze",
        "none",
        "--size",
        "64",
    ]
    assert main([*words, "--epochs", "1", "--device", "cpu", "--devices", "2", "--quiet", "--out", str(out)]) == 0
    said = capfd.readouterr()
    assert said.out.count("best epoch") == 1
    assert json.loads((out / "run.json").read_text())["training"]["epochs"] == 1
    assert not (out / "resume.json").exists()


def test_what_a_process_says_is_heard(data, environment, tmp_path, monkeypatch, capfd):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    words = ["train", str(data), "--backbone", "timm/test_resnet", "--freeze", "none", "--weights", "none"]
    assert main([*words, "--batch-size", "3", "--devices", "2", "--device", "cpu", "--out", str(tmp_path / "run")]) == 2
    said = capfd.readouterr().err
    assert "need two rows each, and the largest batch has 3" in said
    assert "process 0 of 2 ended with exit code 2" in said or "process 1 of 2 ended with exit code 2" in said
    assert not (tmp_path / "run").exists()


def test_a_device_for_each_process(data, tmp_path):
    with pytest.raises(ZooError, match="say --device cuda"):
        zoo.train(
            data, backbone="timm/test_resnet", weights="none", freeze="none", devices=2, device="cpu:0", out=tmp_path
        )


def test_ctrl_c_at_a_terminal_saves_once_and_the_run_goes_on(data, environment, tmp_path):
    """The whole foreground group gets the signal, as from a terminal."""
    out = tmp_path / "run"
    words = [sys.executable, "-m", "zoo", "train", str(data), "--backbone", "timm/test_resnet", "--weights", "none"]
    words += ["--freeze", "none", "--size", "64", "--batch-size", "4", "--device", "cpu", "--epochs", "200"]
    words += ["--devices", "2", "--save-every", "0", "--deterministic", "--quiet", "--out", str(out)]
    process = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None and not (out / "checkpoint.safetensors").exists():
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert f"zoo train --resume {out}" in said
    assert (out / "resume.json").exists()
    assert not (out / "run.json").exists()
