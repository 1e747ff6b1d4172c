"""A plan is made of what was measured, what the machine has and what was asked for, and says why."""

from __future__ import annotations

import dataclasses
import json
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from zoo.config import TrainConfig
from zoo.features.calls import CutError
from zoo.jobs.planning import DEFAULT_VIEWS, Plan, make_plan
from zoo.jobs.progress import Reporter
from zoo.jobs.train import explain_training
from zoo.model.freeze import freeze_parts
from zoo.training.measure import Compute

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Each test begins with nothing kept and nothing measured."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def plan(shape_folder, tmp_path):
    """Plans a run on forty discs and twenty squares."""
    data = shape_folder()

    def explain(**options):
        fields = {"backbone": "tiny/test_resnet", "size": 64, "device": "cpu", "precision": "fp32", **options}
        fields = {"freeze": "last(1)", "epochs": 2, "batch_size": 8, "quiet": True, **fields}
        config = TrainConfig(data=str(data), out=tmp_path / "run", **fields)
        [(_, found)] = explain_training(config, Reporter(quiet=True))
        return found

    return explain


@pytest.fixture
def seconds(monkeypatch):
    """Decides what every step is measured to take, by the beginning of its name, for eight images."""

    def decide(**by_part):
        def timed(model, steps, others, device):
            held = {name: [8 * second for second in by_part[name.partition(" ")[0]]] for name in steps}
            return {**held, **{name: [8 * by_part[name][0]] for name in others}}

        monkeypatch.setattr("zoo.jobs.measuring.time_steps", timed)
        monkeypatch.setattr("zoo.jobs.measuring.WORTH_MEASURING", 1)
        monkeypatch.setattr("zoo.jobs.amounts.disk_speed", lambda _: (1e9, 1e9))

    return decide


def refused(found: Plan):
    return {each.mode: each.refused for each in found.found if each.refused}


def decided(found: Plan, what):
    return next(each for each in found.decisions if each.what == what)


@pytest.mark.parametrize(
    ("prefix", "suffix", "whole", "options", "mode"),
    [
        (0.1, 0.01, 0.2, {}, "cached"),
        (0.1, 0.01, 0.2, {"epochs": 1}, "live"),
        (0.1, 0.01, 0.2, {"epochs": 2, "augment": "light", "views": 4}, "live"),
        (0.1, 0.50, 0.2, {}, "whole"),
        (0.1, 0.01, 0.2, {"cache": False}, "live"),
        (0.1, 0.15, 0.2, {"cache": False}, "whole"),
    ],
)
def test_the_way_that_costs_least_is_taken(plan, seconds, prefix, suffix, whole, options, mode):
    seconds(prefix=[prefix], suffix=[suffix, suffix / 2], whole=[whole, whole])
    found = plan(**options)
    assert found.mode == mode
    assert found.found[0].mode == mode
    assert (found.chosen is None) == (mode == "whole")


def test_rows_that_an_earlier_run_kept_are_not_counted_again(plan, seconds, shape_folder, tmp_path):
    import zoo

    seconds(prefix=[0.1], suffix=[0.01, 0.01], whole=[0.2, 0.2])
    fields = {"backbone": "tiny/test_resnet", "size": 64, "device": "cpu", "precision": "fp32", "freeze": "last(1)"}
    zoo.train(shape_folder(), out=tmp_path / "first", epochs=2, batch_size=8, quiet=True, **fields)
    found = plan(epochs=1)
    assert found.mode == "cached"
    assert found.found[0].features < 0.1


def test_the_fastest_compute_trains(plan, seconds, monkeypatch):
    def timed(model, steps, others, device):
        held = {name: [1.0 if "bf16" in name else 2.0, 1.0] for name in steps}
        return held | {name: [1.0] for name in others}

    monkeypatch.setattr("zoo.jobs.measuring.computes_bf16", lambda kind: True)
    seconds()
    monkeypatch.setattr("zoo.jobs.measuring.time_steps", timed)
    assert plan(precision="auto", freeze="none").compute.autocast
    assert not plan(precision="fp32", freeze="none").compute.autocast


def test_a_way_to_compute_that_does_not_run_is_not_taken_and_named(plan, seconds, monkeypatch):
    def timed(model, steps, others, device):
        held = {name: "no kernel" if "bf16" in name else [2.0, 1.0] for name in steps}
        return held | {name: [1.0] for name in others}

    monkeypatch.setattr("zoo.jobs.measuring.computes_bf16", lambda kind: True)
    seconds()
    monkeypatch.setattr("zoo.jobs.measuring.time_steps", timed)
    found = plan(precision="auto", freeze="none")
    assert not found.compute.autocast
    assert "whole bf16 autocast, channels_last does not run: no kernel" in decided(found, "trainable part").why


def test_where_bf16_is_emulated_no_step_is_timed_in_it(plan, seconds, monkeypatch):
    def timed(model, steps, others, device):
        assert not any("bf16" in name for name in steps)
        return {name: [1.0, 1.0] for name in steps} | {name: [1.0] for name in others}

    seconds()
    monkeypatch.setattr("zoo.jobs.measuring.time_steps", timed)
    monkeypatch.setattr("zoo.jobs.measuring.computes_bf16", lambda kind: False)
    assert not plan(precision="auto", freeze="none").compute.autocast


def test_where_no_suffix_runs_the_whole_network_trains(plan, seconds, monkeypatch):
    def timed(model, steps, others, device):
        held = {name: "no kernel" if name.startswith("suffix") else [2.0, 1.0] for name in steps}
        return held | {name: [1.0] for name in others}

    seconds()
    monkeypatch.setattr("zoo.jobs.measuring.time_steps", timed)
    assert plan().mode == "whole"


def test_too_little_disk_refuses_the_cache_with_the_reason(plan, monkeypatch):
    monkeypatch.setattr("zoo.jobs.amounts.shutil.disk_usage", lambda _: Usage(100, 90, 10))
    found = plan()
    assert refused(found) == {"cached": "it takes 0.0 GB on disk, and 0.0 GB are free"}
    assert found.mode == "live"
    assert "cached: it takes" in decided(found, "feature cache").why


def test_what_was_asked_for_refuses_ways_with_the_reason(plan):
    assert refused(plan(cache=False)) == {"cached": "--no-cache"}
    assert set(refused(plan(freeze="head"))) == {"whole"}
    none = refused(plan(freeze="none"))
    assert set(none) == {"cached", "live"}
    assert none["live"] == "there is no prefix: policy none trains the backbone from its first layer"


def test_a_backbone_that_cannot_be_cut_trains_whole(plan, monkeypatch):
    def refuse(*_):
        raise CutError("it has no seam")

    monkeypatch.setattr("zoo.features.boundary.check_cut", refuse)
    found = plan()
    assert found.mode == "whole"
    assert refused(found)["cached"].endswith("cannot be cut before stage4: it has no seam")


def test_a_plan_without_a_prefix_has_none(plan):
    with pytest.raises(ValueError, match="this plan has no prefix"):
        _ = plan(freeze="none").prefix


@pytest.mark.parametrize(("memory", "resident"), [(None, True), (10**12, True), (1000, False)])
def test_rows_are_held_in_memory_where_half_of_it_is_enough(plan, monkeypatch, memory, resident):
    monkeypatch.setattr("zoo.jobs.amounts.available_memory", lambda: memory)
    found = plan()
    assert found.resident == resident
    ending = "in memory" if resident else "read from the memory-mapped files"
    assert decided(found, "feature cache").choice.endswith(ending)


def test_without_measuring_a_rule_decides_and_says_so(plan):
    found = plan()
    assert found.mode == "cached"
    assert found.compute == Compute(channels_last=found.prefix.recipe.channels_last)
    assert decided(found, "trainable part").why == "by rule: 76 steps of an image are too few to measure"
    assert decided(found, "feature cache").why == "cached: not measured; live: not measured; whole: not measured"


def test_each_view_is_kept_and_no_more_than_there_are_epochs(plan):
    assert plan(augment="light").views == 2
    assert plan(augment="light", epochs=20).views == DEFAULT_VIEWS
    assert plan(augment="light", views=7).views == 7
    assert plan().views is None


def test_what_crosses_stands_in_the_plan(plan):
    assert decided(plan(), "boundary").choice.startswith("layer3")
    assert decided(plan(freeze="head"), "boundary").choice == "pooled features"
    assert decided(plan(freeze="none"), "boundary").choice == "none"


def test_speeds_are_measured_once_and_read_again(plan, seconds, tmp_path):
    seconds(prefix=[0.1], suffix=[0.01, 0.01], whole=[0.2, 0.2])
    first = plan()
    seconds(prefix=[9.0], suffix=[9.0, 9.0], whole=[0.1, 0.1])
    again = plan()
    assert again.found == first.found
    assert plan(freeze="last(2)").mode == "whole"  # another boundary is another measurement
    assert all(
        isinstance(json.loads(path.read_text()), dict) for path in (tmp_path / "cache" / "speeds").glob("*.json")
    )


def test_explaining_leaves_no_run_folder(plan, tmp_path):
    plan()
    assert not (tmp_path / "run").exists()


def test_a_plan_leaves_the_network_as_it_was(shape_folder, tmp_path, monkeypatch):
    from zoo.jobs.start import Clock, start_job

    monkeypatch.setattr("zoo.jobs.measuring.WORTH_MEASURING", 1)
    config = TrainConfig(
        data=str(shape_folder()),
        out=Path(tmp_path / "run"),
        backbone="tiny/test_resnet",
        size=64,
        device="cpu",
        freeze="last(1)",
        epochs=2,
        batch_size=8,
        quiet=True,
    )
    job = start_job(config, Reporter(quiet=True), Clock(), claimed=False)
    frozen = freeze_parts(job.model, job.model.view, job.policy, "backbone.")
    before = {name: tensor.clone() for name, tensor in job.model.state_dict().items()}
    required = [parameter.requires_grad for parameter in job.model.parameters()]
    modes = [part.training for part in job.model.modules()]
    make_plan(job)
    assert frozen.verify() > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in job.model.state_dict().items())
    assert [parameter.requires_grad for parameter in job.model.parameters()] == required
    assert [part.training for part in job.model.modules()] == modes
    assert all(parameter.grad is None for parameter in job.model.parameters())
    assert not any("forward" in vars(part) for part in job.model.modules())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in job.model.modules())


def test_a_plan_is_a_record_that_stays(plan):
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan().mode = "whole"
