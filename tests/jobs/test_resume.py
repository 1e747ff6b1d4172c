"""Runs that are killed, stopped or cannot write, and what becomes of them afterwards."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time

import polars as pl
import pytest
import torch

import zoo
from zoo.cli import main
from zoo.errors import RunError
from zoo.jobs import resume as module
from zoo.jobs.resume import Checkpoints, InterruptedRunError
from zoo.run.artifact import load_artifact

pytestmark = pytest.mark.long

OPTIONS = {
    "backbone": "tiny/test_resnet",
    "size": 64,
    "epochs": 3,
    "batch_size": 8,
    "quiet": True,
    "device": "cpu",
    "precision": "fp32",
    "freeze": "last(1)",
    "backbone_lr": 1e-3,
    "save_every": 0.0,
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Each test begins with nothing kept; states are saved as often as is asked."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "SHARE", 1e9)


class Killed(BaseException):
    """As SIGKILL: nothing catches it and nothing is written after it."""


@pytest.fixture
def kill(monkeypatch):
    """Kills the run that is under way right after its `number`th state is written."""
    plain = Checkpoints.save

    def after(number):
        left = itertools.count(number - 1, -1)

        def save(self, state):
            plain(self, state)
            if next(left) == 0:
                raise Killed

        monkeypatch.setattr(Checkpoints, "save", save)

    return after


def weights(folder):
    return load_artifact(folder).model.state_dict()


def same(a, b):
    return all(torch.equal(tensor, b[name]) for name, tensor in a.items())


@pytest.mark.parametrize(
    ("options", "states"),
    [
        ({}, (1, 7)),
        ({"freeze": "none", "augment": "light+randaugment(m=7)"}, (3,)),
        ({"freeze": "last(1)", "augment": "trivialaugment", "views": 2, "ema": 0.9}, (5,)),
        ({"freeze": "last(2)@lp-ft(1)"}, (2, 3, 8)),
        ({"freeze": "last(2)@gradual", "optimiser": "sgd"}, (3, 5, 8)),
        ({"freeze": "thaw(stage4, 1)+thaw(stage2, 2)", "batchnorm": "recalibrate"}, (4, 6)),
    ],
)
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(shape_folder, tmp_path, kill, options, states):
    data, fields = shape_folder(20, 20), {**OPTIONS, **options}
    whole = zoo.train(data, out=tmp_path / "whole", **fields)
    for number in states:
        out = tmp_path / f"run{number}"
        kill(number)
        with pytest.raises(Killed):
            zoo.train(data, out=out, **fields)
        assert not (out / "run.json").exists()
        found = zoo.resume(out, quiet=True)
        assert same(weights(tmp_path / "whole"), weights(out)), f"after {number} states"
        kept = {name: value for name, value in found.run["training"].items() if name != "rows_per_second"}
        assert kept == {name: whole.run["training"][name] for name in kept}
        assert found.metrics == whole.metrics
        assert {path.name for path in out.iterdir()} == {path.name for path in (tmp_path / "whole").iterdir()}


@pytest.mark.gpu
@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_on_a_gpu_a_killed_run_goes_on(shape_folder, tmp_path, kill, optimiser):
    data, fields = shape_folder(20, 20), {**OPTIONS, "device": "cuda", "optimiser": optimiser}
    whole = zoo.train(data, out=tmp_path / "whole", **fields)
    kill(5)
    with pytest.raises(Killed):
        zoo.train(data, out=tmp_path / "run", **fields)
    found = zoo.resume(tmp_path / "run", quiet=True)
    assert found.run["training"]["epochs_run"] == whole.run["training"]["epochs_run"]
    assert found.metrics["label"]["val"]["log_loss"] == pytest.approx(
        whole.metrics["label"]["val"]["log_loss"], rel=0.05
    )


def test_a_killed_run_of_several_targets_goes_on_with_what_it_has_learned_of_them(shape_folder, tmp_path, kill):
    root, rows = shape_folder(20, 20), []
    for row in range(40):
        shape = "disc" if row < 20 else "square"
        cells = {
            "shape": shape if row % 4 else None,
            "size": row / 8 if row % 5 else None,
            "tags": "a|b" if row % 3 else "|",
        }
        rows.append({"image": f"{shape}/{row % 20}.png", **cells})
    pl.DataFrame(rows).write_csv(root / "table.csv")
    fields = {**OPTIONS, "target": ("shape",), "task": ("size=regression", "tags=multilabel")}
    fields |= {"task_weights": "learned", "ema": 0.9}
    whole = zoo.train(root / "table.csv", out=tmp_path / "whole", **fields)
    kill(6)
    with pytest.raises(Killed):
        zoo.train(root / "table.csv", out=tmp_path / "run", **fields)
    found = zoo.resume(tmp_path / "run", quiet=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "run"))
    assert found.run["training"]["task_weights"] == whole.run["training"]["task_weights"]
    assert found.metrics == whole.metrics


def test_a_run_that_is_killed_after_pseudo_labels_were_given_goes_on_with_the_same(shape_folder, tmp_path, kill):
    root = shape_folder(20, 20)
    names = [f"{shape}/{row}.png" for row in range(20) for shape in ("disc", "square")]
    labels = [None if row % 3 == 0 else name.partition("/")[0] for row, name in enumerate(names)]
    pl.DataFrame({"image": names, "shape": labels}).write_csv(root / "table.csv")
    fields = {**OPTIONS, "target": ("shape",), "epochs": 4, "missing_labels": "pseudo(tau=0.6)"}
    whole = zoo.train(root / "table.csv", out=tmp_path / "whole", **fields)
    assert sum(whole.run["pseudo_labels"]["shape"]["taken"].values()) > 0
    for number in (3, 5, 7):  # before they are given, after the first step with them, later
        kill(number)
        with pytest.raises(Killed):
            zoo.train(root / "table.csv", out=tmp_path / f"run{number}", **fields)
        found = zoo.resume(tmp_path / f"run{number}", quiet=True)
        assert same(weights(tmp_path / "whole"), weights(tmp_path / f"run{number}"))
        assert found.run["pseudo_labels"] == whole.run["pseudo_labels"]
        texts = [(tmp_path / name / "splits.csv").read_text() for name in ("whole", f"run{number}")]
        assert texts[0] == texts[1]


def test_it_may_be_killed_again_and_again(shape_folder, tmp_path, kill):
    data = shape_folder(20, 20)
    zoo.train(data, out=tmp_path / "whole", **OPTIONS)
    kill(2)
    with pytest.raises(Killed):
        zoo.train(data, out=tmp_path / "run", **OPTIONS)
    for _ in range(3):
        kill(2)
        with pytest.raises(Killed):
            zoo.resume(tmp_path / "run", quiet=True)
    kill(0)
    zoo.resume(tmp_path / "run", quiet=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "run"))


def test_a_run_killed_before_its_first_state_begins_anew(shape_folder, tmp_path, monkeypatch):
    data = shape_folder(16, 16)
    zoo.train(data, out=tmp_path / "whole", **OPTIONS)

    out = tmp_path / "run"
    out.mkdir()
    options = {**OPTIONS, "data": str(data)}
    (out / "resume.json").write_text(json.dumps({"format": 1, "options": options}))
    zoo.resume(out, quiet=True)
    assert same(weights(tmp_path / "whole"), weights(out))


def test_ctrl_c_saves_and_says_how_to_go_on(shape_folder, tmp_path, monkeypatch):
    data = shape_folder(16, 16)
    zoo.train(data, out=tmp_path / "whole", **OPTIONS)
    due, asked = Checkpoints.due, itertools.count()

    def interrupted(self):
        if next(asked) == 4:
            signal.raise_signal(signal.SIGINT)
        return due(self)

    monkeypatch.setattr(Checkpoints, "due", interrupted)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(InterruptedRunError, match=r"stopped by SIGINT; .* zoo train --resume .*run"):
        zoo.train(data, out=tmp_path / "run", **{**OPTIONS, "save_every": 1e9})
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(RunError, match=r"was interrupted: go on with zoo train --resume"):
        zoo.train(data, out=tmp_path / "run", **OPTIONS)
    assert main(["train", "--resume", str(tmp_path / "run"), "--quiet"]) == 0
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "run"))


def test_a_run_in_another_thread_trains_without_listening_to_signals(shape_folder, tmp_path):
    data, found = shape_folder(16, 16), []
    thread = threading.Thread(target=lambda: found.append(zoo.train(data, out=tmp_path / "run", **OPTIONS)))
    thread.start()
    thread.join()
    assert found


def test_a_state_that_cannot_be_written_leaves_the_one_before(shape_folder, tmp_path, monkeypatch):
    data, plain = shape_folder(16, 16), module.write_whole
    zoo.train(data, out=tmp_path / "whole", **OPTIONS)
    written = itertools.count()

    def full(path, content):
        if path.name == "checkpoint.safetensors" and next(written) == 3:
            raise RunError(f"cannot write {path}: No space left on device")
        plain(path, content)

    monkeypatch.setattr(module, "write_whole", full)
    with pytest.raises(RunError, match="No space left on device"):
        zoo.train(data, out=tmp_path / "run", **OPTIONS)
    monkeypatch.setattr(module, "write_whole", plain)
    zoo.resume(tmp_path / "run", quiet=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "run"))


def test_other_data_are_refused(shape_folder, tmp_path, kill):
    data = shape_folder(16, 16)
    kill(2)
    with pytest.raises(Killed):
        zoo.train(data, out=tmp_path / "run", **OPTIONS)
    next((data / "disc").iterdir()).unlink()
    with pytest.raises(RunError, match="have changed since it was interrupted"):
        zoo.resume(tmp_path / "run", quiet=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "is no interrupted run: it has no resume.json"),
        ({"run.json": "{}"}, "is finished; to train it further, say zoo train DATA --from "),
        ({"resume.json": "{"}, "cannot read"),
        ({"resume.json": '{"format": 99, "options": {}}'}, "newer version"),
        ({"resume.json": '{"format": 1, "options": {"unheard": 1}}'}, "does not have: unheard"),
    ],
)
def test_a_folder_without_anything_to_resume_is_refused(tmp_path, capsys, content, message):
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    assert main(["train", "--resume", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_is_not_there_has_nothing_to_resume(tmp_path):
    with pytest.raises(RunError, match=r"there is no run folder .*none; a run that was stopped before it began"):
        zoo.resume(tmp_path / "none")


def test_a_damaged_state_is_refused_and_says_what_to_do(shape_folder, tmp_path, kill):
    data = shape_folder(16, 16)
    kill(2)
    with pytest.raises(Killed):
        zoo.train(data, out=tmp_path / "run", **OPTIONS)
    path = tmp_path / "run" / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RunError, match="remove it to begin the run anew"):
        zoo.resume(tmp_path / "run", quiet=True)


def test_a_run_that_fails_before_it_has_a_state_leaves_nothing(shape_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.jobs.fitting.inputs_of", lambda *_: (_ for _ in ()).throw(RunError("no")))
    with pytest.raises(RunError):
        zoo.train(shape_folder(16, 16), out=tmp_path / "run", **OPTIONS)
    assert not (tmp_path / "run").exists()


def test_sigkill_and_sigterm_of_a_real_process(shape_folder, tmp_path):
    """The command line in a process of its own, killed for good while it trains."""
    data = shape_folder(30, 30)
    words = [sys.executable, "-m", "zoo", "train", str(data), "--backbone", "timm/test_resnet", "--weights", "none"]
    words += ["--freeze", "none", "--size", "64", "--batch-size", "4", "--device", "cpu", "--save-every", "0"]
    words += ["--epochs", "60", "--deterministic", "--out"]
    environment = {**os.environ, "ZOO_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    out = tmp_path / "run"
    for number in (signal.SIGKILL, signal.SIGTERM):
        command = [*words, str(out)] if number == signal.SIGKILL else [*words[:4], "--resume", str(out)]
        before = (out / "checkpoint.safetensors").stat().st_mtime_ns if number == signal.SIGTERM else None
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            path = out / "checkpoint.safetensors"
            if path.exists() and path.stat().st_mtime_ns != before:
                break
            time.sleep(0.02)
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
        assert process.returncode == (-9 if number == signal.SIGKILL else 130), said
        assert (out / "resume.json").exists()
        assert not (out / "run.json").exists()
    assert f"zoo train --resume {out}" in said
