"""Whether `zoo plan` foretells time, memory and disk of a run: predicted against what the run really took.

    python benchmarks/plan.py [--cases NAME …] [--rounds 1] [--out benchmarks/results/plan-cpu-DATE.json]

Each case begins with an empty cache. `zoo plan` reads the images and predicts; then `zoo train` with the same options
runs in a process of its own. Time is that of the run's parts (`seconds` in its `run.json`, imports apart), memory is
the largest resident size of its process and disk is what it left in the feature cache. ELPV, defective or functional.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import torch

from zoo.probe import device_name

LITE = ("--backbone", "lite/efficientnet_lite0")
RANDOM = ("--weights", "none", "--freeze", "none", "--epochs", "1")
CASES = {
    "lite0, head": (*LITE, "--freeze", "head", "--epochs", "10"),
    "lite0, last(1)": (*LITE, "--freeze", "last(1)", "--epochs", "3"),
    "lite0, last(2)@lp-ft(1)": (*LITE, "--freeze", "last(2)@lp-ft(1)", "--epochs", "3"),
    "lite0, last(1), 2 views": (*LITE, "--freeze", "last(1)", "--epochs", "3", "--augment", "light", "--views", "2"),
    "resnet18 from random weights, none": ("--backbone", "torchvision/resnet18", "--size", "128", *RANDOM),
    "vit_tiny from random weights, none": ("--backbone", "timm/vit_tiny_patch16_224", *RANDOM),
}
COMMON = ("elpv", "--target", "defective", "--crop", "squash", "--quiet")


def bytes_of(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0


def run(words, environment):
    """Run a command of zoo; what it printed, and the largest resident size of its process in bytes."""
    command = [sys.executable, "-m", "zoo", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {status}:\n{said}")
    return said, used.ru_maxrss * 1024


def measure(name):
    with tempfile.TemporaryDirectory() as work:
        environment = {**os.environ, "ZOO_CACHE": f"{work}/cache"}
        said, _ = run(["plan", *COMMON, *CASES[name], "--json"], environment)
        predicted = json.loads(said)
        features = Path(work, "cache", "features")
        before = bytes_of(features)
        _, memory = run(["train", *COMMON, *CASES[name], "--out", f"{work}/run"], environment)
        seconds = json.loads(Path(work, "run", "run.json").read_text())["seconds"]
        total = seconds["total"]
        return {
            "case": name,
            "predicted": {key: predicted[key] for key in ("total_seconds", "memory_bytes", "disk_bytes")},
            "took": {"total_seconds": total, "memory_bytes": memory, "disk_bytes": bytes_of(features) - before},
            "parts": {"predicted": [each["costs"] for each in predicted["intervals"]], "took": seconds},
        }


def markdown(rows):
    lines = ["| run | time, s | memory, GB | features on the disk, MB |", "|---|---|---|---|"]
    for row in rows:
        cells = [row["case"]]
        for key, unit in (("total_seconds", 1), ("memory_bytes", 1e9), ("disk_bytes", 1e6)):
            foretold, took = row["predicted"][key], row["took"][key]
            ratio = f" ({foretold / took:.2f})" if took else ""
            cells.append(f"{foretold / unit:.1f}, took {took / unit:.1f}{ratio}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for _ in range(options.rounds):
        for name in options.cases:
            rows.append(measure(name))
            print(markdown(rows[-1:]).splitlines()[-1], flush=True)
    print(markdown(rows))
    if options.out:
        content = {
            "benchmark": "plan",
            "date": datetime.now(UTC).date().isoformat(),
            "machine": {"device": device_name(torch.device("cpu")), "python": platform.python_version()},
            "versions": {"torch": torch.__version__},
            "table": markdown(rows).splitlines(),
            "rows": rows,
        }
        options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
