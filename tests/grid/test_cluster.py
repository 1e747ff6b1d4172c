"""Cells computed by a Ray cluster of two workers on this machine, one of which is killed."""

import json
import os
import threading
import time

import pytest

import zoo
from zoo.errors import RunError, ZooError
from zoo.grid.rows import Cell
from zoo.grid.run import run_grid
from zoo.grid.worker import Limits

ray = pytest.importorskip("ray", reason="the extra ray is not installed")

NOISE = "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
pytestmark = [pytest.mark.long, *(pytest.mark.filterwarnings(each) for each in NOISE)]


@pytest.fixture
def cluster(tasks, tmp_path, monkeypatch):
    """A head that computes nothing and two workers of one processor each, which find the tasks."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "tasks"), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # beside other tests a nicer process would starve
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    made.workers = [made.add_node(num_cpus=1) for _ in range(2)]
    yield made
    made.shutdown()


def cells(tasks, name, **parameters):
    return [Cell(task=f"{tasks}:{name}", parameters={"x": x, **parameters}) for x in (2.0, 2.1, 2.2, 2.3)]


def test_a_worker_that_is_killed_costs_no_row(cluster, tasks, tmp_path, request):
    # Joined once: a process that joins the node that is killed, or was, ends with it.
    ray.init(address=cluster.address, log_to_driver=False)
    request.addfinalizer(ray.shutdown)
    own, killed = ray.get_runtime_context().get_node_id(), []

    def kill():
        time.sleep(5.0)
        cluster.remove_node(next(each for each in cluster.workers if each.node_id != own), allow_graceful=False)
        killed.append(time.monotonic())

    thread = threading.Thread(target=kill)
    thread.start()
    wanted = [Cell(task=f"{tasks}:slow", parameters={"x": x}) for x in (6.0, 6.1, 1.0, 1.1)]
    rows = run_grid(wanted, tmp_path / "rows.jsonl", ray=cluster.address, limits=Limits(seconds=60))
    thread.join()
    assert killed
    assert [row.status for row in rows] == ["ok"] * 4
    assert [row.result for row in rows] == [6.0, 6.1, 1.0, 1.1]
    # Failures and limits are rows there too, and what is done is not done again.
    bad = [Cell(task=f"{tasks}:{name}", parameters={"x": x}) for name, x in (("fail", 7), ("slow", 30.0))]
    found = run_grid([*wanted, *bad], tmp_path / "rows.jsonl", ray=cluster.address, limits=Limits(seconds=3))
    assert found[:4] == rows
    assert (found[4].status, found[4].message) == ("error", "ValueError: no 7 please")
    assert found[5].status == "timeout"
    other = [Cell(task=f"{tasks}:slow", parameters={"x": 0.1}, context={"polars": "0.0.1"})]
    with pytest.raises(RunError, match=r"it has polars .* and the one that asks has 0\.0\.1"):
        run_grid(other, tmp_path / "rows.jsonl", ray=cluster.address)


def test_a_ranking_is_computed_by_the_cluster(cluster, shape_folder, tmp_path, monkeypatch):
    options = {"backbones": ("torchvision/squeezenet1_1", "torchvision/shufflenet_v2_x0_5"), "weights": "none"}
    more = {"size": 64, "folds": 2, "device": "cpu", "ray": cluster.address}
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)  # whatever tests before this one have set
    data = shape_folder(16, 16)
    there = zoo.rank(data, out=tmp_path / "there", **options, **more)
    here = zoo.rank(data, out=tmp_path / "here", **options, **{**more, "ray": None})
    assert not there.failures
    scores = [{row["backbone"]: row["probe"] for row in each.rows} for each in (there, here)]
    assert len(scores[0]) == 2
    assert scores[0] == scores[1]


def test_what_no_machine_can_compute_is_refused(cluster, tasks, tmp_path):
    with pytest.raises(ZooError, match="no machine of the Ray cluster has 3 processors and 0 GPUs"):
        run_grid(cells(tasks, "slow"), tmp_path / "rows.jsonl", ray=cluster.address, limits=Limits(threads=3))


def test_an_address_without_a_cluster_is_told(tmp_path, tasks, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ZooError, match="--ray auto: no Ray cluster there"):
        run_grid(cells(tasks, "slow"), tmp_path / "rows.jsonl", ray="auto")


def test_each_device_serves_one_process_that_sees_no_other(tasks, tmp_path):
    (tmp_path / "tasks" / "seen.py").write_text(
        "import os, time\ndef see(parameters, seed):\n    time.sleep(0.5)\n"
        "    return [os.environ['CUDA_VISIBLE_DEVICES'], time.time()]\n"
    )
    wanted = [Cell(task="seen:see", parameters={"x": x}) for x in range(4)]
    rows = run_grid(wanted, tmp_path / "rows.jsonl", devices=2)
    assert sorted(row.result[0] for row in rows) == ["0", "0", "1", "1"], json.dumps([row.message for row in rows])
