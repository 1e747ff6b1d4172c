"""How fast backbones of every family fine-tune on one machine, and timm's way to measure beside ours.

    python benchmarks/throughput.py [--device cuda] [--batch-size 256] [--backbones timm/resnet50 …]
        [--rows FILE] [--out benchmarks/results/throughput-DEVICE-DATE.json] [--page FOLDER]

For each backbone: `zoo bench` under --freeze none, last(1) and head; once more everything trainable with SGD and moving
BatchNorm statistics, which is what timm's method trains; and timm's method itself (sides/timm_method.py). Each is a
process of its own and a row of a file of JSON lines; what was stopped goes on with the same command. Weights are
random, so nothing is downloaded. benchmarks/README.md says what each column means.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from zoo.config import BenchConfig
from zoo.disk import cache_folder
from zoo.grid.rows import Cell
from zoo.grid.run import failed, run_grid
from zoo.grid.worker import Limits
from zoo.jobs.bench import PRELOAD, bench_cells
from zoo.probe import pick_device
from zoo.registry.digest import package_digest
from zoo.report.bench_page import row_line, table_lines, write_bench_page

TORCHVISION = (
    "alexnet vgg16 vgg16_bn googlenet inception_v3 densenet121 squeezenet1_1 mnasnet1_0 shufflenet_v2_x1_0 "
    "mobilenet_v2 mobilenet_v3_small mobilenet_v3_large efficientnet_b0 efficientnet_v2_s resnet18 resnet50 resnet101 "
    "resnext50_32x4d wide_resnet50_2 regnet_y_1_6gf convnext_tiny vit_b_16 swin_t swin_v2_t maxvit_t"
)
TIMM = (
    "resnet18 resnet50 resnet50d resnetv2_50 seresnet50 resnest50d ecaresnet50t res2net50_26w_4s dpn68 "
    "efficientnet_b0 efficientnet_b3 tf_efficientnet_lite0 tf_efficientnetv2_s mobilenetv3_large_100 "
    "mobilenetv4_conv_medium mixnet_s rexnet_100 ghostnet_100 hrnet_w18 nfnet_l0 regnety_016 regnetx_032 "
    "convnext_tiny convnext_base convnextv2_tiny mobileone_s1 repvgg_a2 fastvit_t8 edgenext_small "
    "efficientformer_l1 vit_tiny_patch16_224 vit_small_patch16_224 vit_base_patch16_224 vit_small_patch14_dinov2 "
    "deit3_small_patch16_224 cait_xxs24_224 swin_tiny_patch4_window7_224 mixer_b16_224 xcit_tiny_12_p16_224 "
    "poolformer_s12"
)
BACKBONES = (
    *(f"torchvision/{name}" for name in TORCHVISION.split()),
    *(f"timm/{name}" for name in TIMM.split()),
    "lite/efficientnet_lite0",
)


def cells(options):
    """For each backbone three policies, everything as timm trains it, and timm's own method."""
    found = []
    device = pick_device(options.device)
    batch = options.batch_size or (256 if device.type == "cuda" else 32)
    config = BenchConfig(
        batch_size=batch,
        device=str(device),
        warmup=options.warmup,
        steps=options.steps,
        seconds=options.seconds,
    )
    warmup, steps = (10, 40) if device.type == "cuda" else (2, 10)
    digest = package_digest("sides.timm_method")
    for name in options.backbones:
        own = bench_cells(replace(config, pattern=(name,), freeze=("none", "last(1)", "head")))
        alike = replace(config, pattern=(name,), freeze=("none",), batchnorm="train", optimiser="sgd", precision="bf16")
        own += bench_cells(alike)
        method = {
            "backbone": name,
            "freeze": "none",
            "device": str(device),
            "batch_size": batch,
            "warmup": options.warmup if options.warmup is not None else warmup,
            "steps": options.steps or steps,
            "seconds": options.seconds,
        }
        context = {**own[0].context, "code": digest}
        found += [*own, Cell(task="sides.timm_method:measure", parameters=method, context=context)]
    return found


def summary(rows):
    """What is committed: the machine, each row, and for each backbone the ratio of ours to timm's method."""
    contexts = [row.context for row in rows if row.task.startswith("zoo.")]
    ratios = {}
    for row in rows:
        name = row.parameters["backbone"]
        if row.status == "ok" and (side := _side(row)):
            ratios.setdefault(name, {})[side] = row.result["images_per_second"]
    pairs = {name: own for name, own in ratios.items() if len(own) == 2}
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": contexts[0],
        "same_machine_and_versions": all(own == contexts[0] for own in contexts),
        "ours_over_timm_method": {name: round(own["ours"] / own["timm"], 3) for name, own in pairs.items()},
        "failed": [f"{row_line(row)}: {row.message}" for row in rows if failed(row)],
        "rows": [{name: own for name, own in asdict(row).items() if name != "context"} for row in rows],
    }


def _side(row):
    if row.task.startswith("sides."):
        return "timm"
    return "ours" if row.parameters["batchnorm"] == "train" else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=BACKBONES)
    parser.add_argument("--device")
    parser.add_argument("--batch-size", type=int, help="by default 256 on a GPU and 32 on a CPU")
    parser.add_argument("--warmup", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rows", type=Path, help="file that keeps the rows; by default in the cache folder")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--page", type=Path, help="folder for the page and its pictures")
    options = parser.parse_args()
    rows = run_grid(
        cells(options),
        options.rows or cache_folder() / "throughput.jsonl",
        limits=Limits(seconds=1800, mib=64 * 1024, threads=os.cpu_count() or 1),
        preload=PRELOAD,
        each=lambda row: sys.stderr.write(f"{row.task.partition(':')[0]} {row_line(row)}\n"),
    )
    ours = [row for row in rows if row.task.startswith("zoo.")]
    found = summary(rows)
    sys.stdout.write("\n".join(table_lines(ours)) + "\n")
    for name, ratio in found["ours_over_timm_method"].items():
        sys.stdout.write(f"{name}: {ratio} times timm's method\n")
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if options.page:
        write_bench_page(ours, options.page)
    if found["failed"]:
        raise SystemExit("\n".join(found["failed"]))


if __name__ == "__main__":
    main()
