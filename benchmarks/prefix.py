"""How fast a frozen prefix is as it stands, folded, with activations fused, and compiled; on one batch that is there.

    python benchmarks/prefix.py [--out benchmarks/results/prefix-cpu-DATE.json] [--backbones timm/convnext_atto …]

Random weights, the whole backbone up to its pooled features, bf16 (fp32 where the processor has no instructions for
it), channels_last, batches of the size that extraction takes. The ways are timed in turn, a round of all of them after
the other; medians over --rounds. Compiling is timed apart. `fused` counts activations that convolutions compute; on a
GPU there are none.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import torch
import torchvision

import zoo.features.prefix
from zoo.features.prefix import Prefix, Recipe
from zoo.model.load import strip
from zoo.model.view import build_view
from zoo.probe import computes_bf16, device_name, pick_device, reuse_memory, synchronise

BACKBONES = (
    "lite/efficientnet_lite0",
    "torchvision/mobilenet_v2",
    "torchvision/mobilenet_v3_large",
    "torchvision/resnet18",
    "torchvision/resnet50",
    "timm/efficientnet_b0",
    "timm/regnety_002",
    "timm/convnext_atto",
    "timm/vit_tiny_patch16_224",
)


def precision_on(device):
    return "bf16" if computes_bf16(device.type) else "fp32"


def measured(name, device, rounds):
    """Images a second of each way, and what compiling took."""
    view = strip(build_view(name, "none"))
    recipe = {"precision": precision_on(device), "channels_last": True}
    with mock.patch.object(zoo.features.prefix, "fuses", return_value=False):
        ways = {
            "plain": Prefix(view, view.features[0].name, Recipe(**recipe, fold=False), device),
            "folded": Prefix(view, view.features[0].name, Recipe(**recipe), device),
        }
    ways["fused"] = Prefix(view, view.features[0].name, Recipe(**recipe), device)
    ways["compiled"] = ways["fused"].compiled()
    shape = (ways["fused"].batch, view.input.channels, *view.input.size)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).to(device)
    times = {way: [] for way in ways}
    first = {}
    for number in range(rounds + 1):
        for way, prefix in ways.items():
            synchronise(device)
            started = time.perf_counter()
            prefix(pixels)
            synchronise(device)
            seconds = time.perf_counter() - started
            if number:
                times[way].append(seconds)
            else:
                first[way] = seconds
    return {
        "backbone": name,
        "folded_normalisations": ways["folded"].folded,
        "fused_activations": ways["fused"].fused,
        "images_per_second": {way: round(len(pixels) / statistics.median(own), 1) for way, own in times.items()},
        "compile_seconds": round(first["compiled"] - statistics.median(times["compiled"]), 1),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=BACKBONES)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device = pick_device(options.device)
    reuse_memory()
    rows = []
    print("| backbone | plain | folded | fused | compiled | compiling, s |\n|---|---:|---:|---:|---:|---:|")
    for name in options.backbones:
        row = measured(name, device, options.rounds)
        rows.append(row)
        speeds = " | ".join(f"{speed:.0f}" for speed in row["images_per_second"].values())
        print(f"| {name} | {speeds} | {row['compile_seconds']} |", flush=True)
    if options.out:
        found = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": device_name(device),
            "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__},
            "precision": precision_on(device),
            "rounds": options.rounds,
            "rows": rows,
        }
        options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
