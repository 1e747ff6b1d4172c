"""A test of learning rates through a whole job: what it tests, what it writes, and that a run is none the wiser."""

from __future__ import annotations

import json

import pytest
import torch

import zoo
from zoo.cli import main
from zoo.errors import ZooError
from zoo.jobs.find_lr import _suggestion
from zoo.run.artifact import load_artifact
from zoo.training.range_test import RangeTest, Reading

FIELDS = {
    "backbone": "tiny/test_resnet",
    "size": 64,
    "epochs": 3,
    "batch_size": 8,
    "quiet": True,
    "device": "cpu",
    "precision": "fp32",
}


def find(data, out, **options):
    return zoo.find_lr(data, out=out, **{**FIELDS, "find_lr_steps": 30, **options})


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Each test begins with nothing kept."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def tests(monkeypatch):
    """The range tests that were made."""
    seen = []
    observe = RangeTest.observe
    monkeypatch.setattr(
        RangeTest, "observe", lambda self, progress=None: (seen.append(self), observe(self, progress))[1]
    )
    return seen


def test_a_run_after_it_is_the_run_without_it_and_may_go_into_its_folder(shape_folder, tmp_path):
    data = shape_folder(16, 16)
    weights = []
    for name in ("plain", "tested"):
        if name == "tested":
            find(data, tmp_path / name, freeze="last(1)")
        zoo.train(data, out=tmp_path / name, freeze="last(1)", deterministic=True, **FIELDS)
        weights.append(load_artifact(tmp_path / name).model.state_dict())
    assert all(torch.equal(own, weights[1][name]) for name, own in weights[0].items())
    assert (tmp_path / "tested" / "lr.png").exists()


def test_a_head_that_trains_alone_has_one_rate(shape_folder, tmp_path, tests):
    found = find(shape_folder(16, 16), tmp_path / "lr", find_lr_range=(1e-6, 1.0))
    written = json.loads((tmp_path / "lr" / "lr.json").read_text())
    assert found.lr is not None
    assert 1e-6 < found.lr < 1
    assert found.backbone_lr is None
    assert found.flags == f"--lr {found.lr:g}"
    assert written["suggestion"]["flags"] == found.flags
    assert (written["policy"], written["epochs"]) == ("head", [1, 3])
    assert len(written["rates"]) == len(written["losses"]) == len(written["smoothed"]) <= 30
    assert written["rates"][0] == pytest.approx(1e-6)
    assert written["notes"] == []
    assert (tmp_path / "lr" / "lr.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in (tmp_path / "lr").iterdir()} == {"lr.json", "lr.png"}
    [own] = tests
    assert own.model is own.heads  # on cached features: the backbone has no part in it


def test_the_optimiser_the_batches_and_the_ratio_of_the_rates_are_the_runs(shape_folder, tmp_path, tests):
    options = {"lr": 2e-3, "backbone_lr": 1e-3, "optimiser": "sgd(momentum=0.8)", "accumulate": 2}
    found = find(shape_folder(24, 24), tmp_path / "lr", freeze="last(1)", find_lr_range=(1e-5, 10), **options)
    [own] = tests
    assert type(own.optimiser).__name__ == "SGD"
    assert own.settings.accumulate == 2
    assert found.test["backbone_to_head"] == 0.5


def test_the_suggestion_has_both_rates_with_two_digits():
    said = _suggestion(Reading(rate=1.2345e-3, smoothed=(), why="it falls"), 0.5)
    assert (said["lr"], said["backbone_lr"]) == (1.2e-3, 6e-4)
    assert said["flags"] == "--lr 0.0012 --backbone-lr 0.0006"
    assert _suggestion(Reading(rate=None, smoothed=(), why="it is flat"), 0.5)["flags"] == ""


def test_an_optimiser_without_default_rates_is_tested_at_the_ratio_of_adamw(shape_folder, tmp_path):
    found = find(shape_folder(16, 16), tmp_path / "lr", freeze="last(1)", optimiser="lion")
    assert found.test["backbone_to_head"] == pytest.approx(0.1)


def test_of_a_schedule_the_first_interval_is_tested_and_the_others_are_named(shape_folder, tmp_path):
    found = find(shape_folder(16, 16), tmp_path / "lr", freeze="last(1)@lp-ft(1)")
    assert (found.test["policy"], found.test["epochs"]) == ("head", [1, 1])
    assert found.backbone_lr is None
    [note] = found.test["notes"]
    assert "about epochs 1 to 1 (head) alone; epochs 2 to 3 (last(1)) have the same rates" in note
    assert "--freeze 'last(1)' --find-lr" in note


def test_where_nothing_is_learned_nothing_is_suggested(shape_folder, tmp_path, capsys):
    words = ["train", str(shape_folder(16, 16)), "--backbone", "tiny/test_resnet", "--out", str(tmp_path / "lr")]
    words += ["--size", "64", "--device", "cpu", "--precision", "fp32", "--batch-size", "8", "--quiet", "--find-lr"]
    assert main([*words, "--find-lr-range", "1e-12", "1e-10", "--find-lr-steps", "20"]) == 0
    said = capsys.readouterr().out
    assert "no rate up to 1e-10 teaches the network anything" in said
    assert said.endswith("suggested   nothing\n")
    assert (tmp_path / "lr" / "lr.png").exists()


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_prints_what_to_paste(shape_folder, tmp_path, capsys, as_json):
    words = ["train", str(shape_folder(24, 24)), "--backbone", "tiny/test_resnet", "--out", str(tmp_path / "lr")]
    words += ["--size", "64", "--device", "cpu", "--precision", "fp32", "--batch-size", "8", "--quiet", "--find-lr"]
    words += ["--freeze", "last(1)", "--find-lr-range", "1e-6", "10", "--find-lr-steps", "40"]
    assert main([*words, *(["--json"] if as_json else [])]) == 0
    said = capsys.readouterr().out
    flags = json.loads((tmp_path / "lr" / "lr.json").read_text())["suggestion"]["flags"]
    assert flags.startswith("--lr ")
    assert " --backbone-lr " in flags
    if as_json:
        assert json.loads(said)["suggestion"]["flags"] == flags
    else:
        assert said.endswith(f"suggested   {flags}\n")
        assert "tested      1e-06 to" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sweep": True}, "and --sweep tries learning rates of the head by itself; leave out one"),
        ({"fitter": "lbfgs"}, "and --fitter lbfgs has no learning rate; leave out one"),
        ({"fitter": "ridge"}, "and --fitter ridge has no learning rate; leave out one"),
        ({"explain": True}, "and --explain computes nothing; leave out one"),
        ({"devices": 2}, "and --devices is for runs; a test takes a hundred steps of one process; leave out one"),
        ({"shard": "fsdp"}, "and --shard is for runs of several processes; leave out one"),
        ({"find_lr_steps": 5}, "--find-lr-steps: a test takes at least 20 steps, not 5"),
        ({"find_lr_range": (1.0, 0.1)}, "--find-lr-range: the rates rise from a positive one"),
        ({"nonsense": 1}, "find_lr has no option 'nonsense'"),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_data_are_read(tmp_path, options, message):
    with pytest.raises(ZooError, match=message):
        find(tmp_path / "nothing", tmp_path / "lr", **options)
    assert not (tmp_path / "lr").exists()


def test_a_folder_with_a_run_is_not_written_to(tmp_path, shape_folder):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(ZooError, match="holds a run; choose another --out"):
        find(shape_folder(16, 16), tmp_path / "run")


def test_zoo_train_says_where_learning_rates_are_tested(tmp_path):
    with pytest.raises(ZooError, match=r"call zoo\.find_lr with these options"):
        zoo.train("nothing", out=tmp_path / "run", find_lr=True, **FIELDS)


def test_out_of_memory_is_one_sentence(shape_folder, tmp_path, monkeypatch):
    def full(self, progress=None):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")

    monkeypatch.setattr(RangeTest, "observe", full)
    with pytest.raises(ZooError, match=r"Tried to allocate 2 GiB; try a smaller --batch-size$"):
        find(shape_folder(16, 16), tmp_path / "lr")
    assert not (tmp_path / "lr").exists()
