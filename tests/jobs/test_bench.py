"""`zoo bench`: rows of every mode and policy, failures as rows, the page; no timing is judged."""

from __future__ import annotations

import json
import os

import pytest
import timm
import torch

import zoo
from zoo.cli import main
from zoo.config import BenchConfig
from zoo.errors import OptionError, UnknownNameError
from zoo.grid.rows import Row, RowFile
from zoo.jobs import bench_cell as cell
from zoo.jobs.bench import TASK, bench_cells
from zoo.training.work import Peaks

GIVEN = {
    "backbone": "tiny/test_resnet",
    "freeze": "none",
    "data": "synthetic",
    "device": "cpu",
    "augment": "none",
    "batch_size": 8,
    "weights": "none",
    "size": 64,
    "batchnorm": "frozen",
    "precision": "fp32",
    "optimiser": "adamw",
    "compile": False,
    "classes": 3,
    "warmup": 1,
    "steps": 3,
    "seconds": 60.0,
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    peaks = Peaks(flops={"fp32": 1e15, "bf16": 1e15}, bandwidth=1e15)
    monkeypatch.setattr(cell, "measure_peaks", lambda device: peaks)


def measured(**options):
    return cell.bench_cell({**GIVEN, **options}, 0)


def first_layer(name):
    """Multiplications and additions of the layer that reads one image."""
    network = timm.create_model(name).eval()
    layer = next(part for part in network.modules() if isinstance(part, torch.nn.Conv2d))
    seen = []
    layer.register_forward_hook(lambda part, given, made: seen.append(made.numel()))
    with torch.no_grad():
        network(torch.zeros(1, 3, 64, 64)) if name != "test_vit" else layer(torch.zeros(1, 3, 64, 64))
    return 2 * seen[0] * layer.weight[0].numel()


def check(row):
    json.dumps(row, allow_nan=False)
    assert row["images_per_second_p10"] <= row["images_per_second"] <= row["images_per_second_p90"]
    assert set(row["step_ms"]) == {"data", "forward", "backward", "optimiser"}
    assert all(own > 0 for own in row["step_ms"].values())
    assert row["timed_steps"] == 3
    assert 0 < row["roofline_fraction"] < 1
    assert row["peak_rss_mib"] > 0


@pytest.mark.parametrize("data", ["synthetic", "resident"])
@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet"])
def test_with_everything_trainable_the_flops_are_three_forward_passes(name, data):
    row = measured(backbone=f"tiny/{name}", data=data, augment="none" if data == "synthetic" else "light")
    check(row)
    assert (row["mode"], row["boundary"], row["prefix_images_per_second"]) == ("whole", None, None)
    # Three passes, but for the layer that reads the images: nobody asks for a gradient of those.
    assert row["train_flops_over_forward"] == pytest.approx(
        3 - first_layer(name) / (2e9 * row["forward_gmacs"]), abs=0.01
    )
    assert row["trainable_parameters"] == row["parameters"]
    assert row["ten_epochs_images_per_second"] == row["images_per_second"]


def test_with_the_head_alone_the_backbone_is_a_prefix():
    row = measured(freeze="head")
    check(row)
    assert (row["mode"], row["boundary"], row["batchnorm"]) == ("cached", "features", "frozen")
    assert row["prefix_images_per_second"] > 0
    assert row["boundary_kib_per_image"] > 0
    assert row["train_flops_over_forward"] < 0.1
    assert row["ten_epochs_images_per_second"] < 10 * row["prefix_images_per_second"]


def test_with_the_last_stage_less_is_computed_than_with_everything():
    row = measured(freeze="last(1)", batchnorm="train")
    check(row)
    assert 0 < row["trainable_parameters"] < row["parameters"]
    assert row["train_flops_over_forward"] < 2.5
    assert row["batchnorm"] == "train"


def test_real_files_go_through_the_ingest_and_the_users_cache_is_left_alone(shape_folder):
    before = os.environ["ZOO_CACHE"]
    folder = shape_folder(80, 40)
    row = measured(data=f"files:{folder}", augment="light")
    check(row)
    assert row["decoded_images_per_second"] > 0
    frozen = measured(data=f"files:{folder}", freeze="head")
    assert frozen["prefix_images_per_second"] > 0
    assert os.environ["ZOO_CACHE"] == before


def test_running_out_of_memory_is_told_as_such(monkeypatch):
    def full(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB\nand so on")

    monkeypatch.setattr(cell, "make_plan", full)
    with pytest.raises(MemoryError, match=r"^CUDA out of memory. Tried to allocate 1 GiB$"):
        measured()


def test_a_row_of_the_grid_names_machine_and_versions_and_is_not_measured_again(tmp_path):
    options = {"size": 64, "batch_size": 8, "classes": 2, "warmup": 1, "steps": 3, "device": "cpu", "quiet": True}
    options |= {"precision": "fp32", "rows": tmp_path / "rows.jsonl", "threads": 1}
    found = zoo.bench("timm/test_vit", freeze=("head", "last(99)"), out=tmp_path / "page", **options)
    good, bad = found.rows
    assert (good.status, bad.status) == ("ok", "error")
    assert "99" in bad.message
    assert found.failed == (bad,)
    assert {"device", "python", "torch", "timm", "backbone-zoo", "code"} <= set(good.context)
    assert good.finished
    assert {path.name for path in found.drawn} >= {"bench.html", "memory.png", "roofline.png"}
    assert zoo.bench("timm/test_vit", freeze=("head", "last(99)"), **options).rows == found.rows


def test_a_whole_name_is_that_backbone_alone():
    cells = bench_cells(BenchConfig(pattern=("torchvision/vgg16",), device="cpu", freeze=("head",)))
    assert [each.parameters["backbone"] for each in cells] == ["torchvision/vgg16"]
    several = bench_cells(BenchConfig(pattern=("torchvision/vgg1?",), device="cpu"))
    assert len(several) == 3 * len({each.parameters["backbone"] for each in several}) > 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pattern": ()}, "say which backbones"),
        ({"batch_size": 1}, "--batch-size must be at least 2"),
        ({"classes": 1}, "--classes must be at least 2"),
        ({"steps": 0}, "--steps must be at least 1"),
        ({"warmup": -1}, "--warmup must be at least 0"),
        ({"seconds": 0.0}, "--seconds must be positive"),
        ({"data": "video"}, "--data is synthetic, resident or files:FOLDER"),
        ({"augment": "light"}, "nothing to augment"),
        ({"freeze": ("lp-ft(2)",)}, "is a schedule"),
    ],
)
def test_what_cannot_be_measured_is_refused(options, said):
    with pytest.raises(OptionError, match=said):
        bench_cells(BenchConfig(**{"pattern": ("timm/test_vit",), "device": "cpu", **options}))


def test_names_and_options_that_there_are_not_are_refused():
    with pytest.raises(UnknownNameError, match="no backbone matches"):
        bench_cells(BenchConfig(pattern=("nosuchthing",), device="cpu"))
    with pytest.raises(OptionError, match="bench has no option 'batchsize'; did you mean batch_size"):
        zoo.bench("timm/test_vit", batchsize=3)


def test_a_report_needs_rows_and_a_folder_and_no_backbones(tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    for words, said in (
        (["--report", str(rows)], "say where the page goes"),
        (["timm/test_vit", "--report", str(rows)], "measures nothing"),
        (["--report", str(rows), "--out", str(tmp_path)], "holds no rows of zoo bench"),
    ):
        assert main(["bench", *words]) == 2
        assert said in capsys.readouterr().err


def test_a_report_is_drawn_from_rows_that_are_there(tmp_path, capsys):
    parameters = {"backbone": "timm/<b>", "freeze": "none", "data": "synthetic"}
    context = {"device": "a machine", "torch": "9"}
    row = Row(key="1", task=TASK, parameters=parameters, seed=0, context=context, status="ok", result=measured())
    bad = Row(key="2", task=TASK, parameters=parameters, seed=0, context=context, status="memory", message="too <i>")
    with RowFile(tmp_path / "rows.jsonl") as file:
        file.append(row)
        file.append(bad)
    assert main(["bench", "--report", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "page")]) == 1
    assert "memory: too <i>" in capsys.readouterr().out
    page = (tmp_path / "page" / "bench.html").read_text(encoding="utf-8")
    assert "a machine" in page
    assert "timm/&lt;b&gt;" in page
    assert "too &lt;i&gt;" in page
    assert "<b>" not in page
