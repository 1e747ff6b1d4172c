"""Several processes of one machine, as --devices starts them: over gloo on the CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import zoo
from zoo.cli import main
from zoo.errors import ZooError

pytestmark = pytest.mark.long


@pytest.fixture(autouse=True)
def tiny():
    """Not here: the other processes know only what is installed."""


def test_devices_starts_them(noise, environment, tmp_path, monkeypatch, capfd):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "run"
    words = [
        "train",
        str(noise),
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


def test_what_a_process_says_is_heard(noise, environment, tmp_path, monkeypatch, capfd):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    words = ["train", str(noise), "--backbone", "timm/test_resnet", "--freeze", "none", "--weights", "none"]
    assert main([*words, "--batch-size", "3", "--devices", "2", "--device", "cpu", "--out", str(tmp_path / "run")]) == 2
    said = capfd.readouterr().err
    assert "need two rows each, and the largest batch has 3" in said
    assert "process 0 of 2 ended with exit code 2" in said or "process 1 of 2 ended with exit code 2" in said
    assert not (tmp_path / "run").exists()


def test_a_device_for_each_process(noise, tmp_path):
    with pytest.raises(ZooError, match="say --device cuda"):
        zoo.train(
            noise, backbone="timm/test_resnet", weights="none", freeze="none", devices=2, device="cpu:0", out=tmp_path
        )


def test_ctrl_c_at_a_terminal_saves_once_and_the_run_goes_on(noise, environment, tmp_path):
    """The whole foreground group gets the signal, as from a terminal."""
    out = tmp_path / "run"
    words = [sys.executable, "-m", "zoo", "train", str(noise), "--backbone", "timm/test_resnet", "--weights", "none"]
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
