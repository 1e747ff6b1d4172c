"""What a run will cost is predicted for every part of it, and nothing is trained."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from zoo.cli import main
from zoo.config import TrainConfig
from zoo.errors import ZooError
from zoo.jobs.costs import costs_of, planned_costs, predict_costs
from zoo.jobs.progress import Reporter
from zoo.jobs.start import Clock, start_job


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Each test begins with nothing kept and nothing measured."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def config(shape_folder, tmp_path):
    def make(**options):
        fields = {"backbone": "tiny/test_resnet", "size": 64, "device": "cpu", "freeze": "last(1)", "epochs": 2}
        return TrainConfig(data=str(shape_folder()), out=tmp_path / "run", quiet=True, **{**fields, **options})

    return make


@pytest.mark.parametrize("freeze", ["head", "last(1)", "none", "lp-ft(1)"])
def test_every_part_is_predicted_however_short_the_run_is(config, tmp_path, freeze):
    found = predict_costs(config(freeze=freeze), Reporter(quiet=True))
    assert found.total > found.started > 0
    assert len(found.intervals) == 1 + (freeze == "lp-ft(1)")
    assert found.memory > 2**20
    assert (found.disk > 0) == (freeze != "none")
    assert not (tmp_path / "run").exists()


def test_more_epochs_and_larger_batches_cost_more(config):
    job = start_job(config(freeze="none"), Reporter(quiet=True), Clock(), claimed=False)
    (_, plan, costs), *_ = planned_costs(job)
    assert costs_of(replace(job, batch_size=64), plan).memory > costs_of(replace(job, batch_size=2), plan).memory
    longer = replace(plan, basis=replace(plan.basis, size=replace(plan.basis.size, epochs=20)))
    assert costs_of(job, longer).epochs == pytest.approx(10 * costs.epochs)
    with pytest.raises(ValueError, match="this plan has no basis"):
        costs_of(job, replace(plan, basis=None))


def test_what_is_kept_costs_nothing_more_unless_a_cold_start_is_asked_about(config):
    import zoo

    own = config(freeze="head")
    zoo.train(own.data, out=own.out, backbone=own.backbone, size=64, device="cpu", epochs=2, quiet=True)
    job = start_job(replace(own, overwrite=True), Reporter(quiet=True), Clock(), claimed=False)
    warm, cold = planned_costs(job)[0][2], planned_costs(job, cold=True)[0][2]
    assert warm.disk == 0 < cold.disk
    assert warm.features < cold.features


def test_deterministic_runs_measure_nothing_and_say_so(config):
    found = predict_costs(config(deterministic=True), Reporter(quiet=True))
    assert found.total is None
    assert found.memory > 0


def test_the_command_predicts_without_a_run_folder(shape_folder, capsys):
    words = ["plan", str(shape_folder()), "--backbone", "tiny/test_resnet", "--size", "64", "--device", "cpu"]
    assert main([*words, "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert "predicted time    " in shown
    assert "predicted memory  " in shown
    assert "→ cached" in shown
    assert main([*words, "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["total_seconds"] > 0


def test_a_test_of_rates_is_no_run(shape_folder, capsys):
    assert main(["plan", str(shape_folder()), "--backbone", "tiny/test_resnet", "--find-lr"]) == 2
    assert "zoo plan is about a run, and --find-lr is none" in capsys.readouterr().err


def test_unknown_backbones_are_refused(config):
    with pytest.raises(ZooError, match="nosuch"):
        predict_costs(config(backbone="tiny/nosuch"), Reporter(quiet=True))
