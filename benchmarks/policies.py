"""Which freeze policy serves ELPV: accuracy and minutes of each, over several splits, with EfficientNet-Lite0.

    python benchmarks/policies.py [--only last3 lp-ft …] [--seeds 3] [--folder RUNS]
    python benchmarks/policies.py --report [--out benchmarks/results]
    python benchmarks/policies.py --report --on val      # to compare settings before any is looked at on test rows

Defective or functional, the demo's splits and its squeezed images. Each run is a run folder of `zoo train`: what is
finished is not run again, and what was interrupted goes on where it was. The epoch is chosen on validation rows, and
settings are to be compared by `--on val`. Those of the deeper two were; but test figures of `last2-300`
and of other trials had been read when they were put into the list, on 2026-11-27, so that their test figures may
flatter. `--report` runs nothing: it prints the table and, with `--out`, writes it, figures of validation rows too.
Minutes are by the clock and mean something on a machine that does nothing else; CPU minutes add up the cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path

import torch

import zoo
from zoo.disk import cache_folder
from zoo.probe import device_name

COMMON = {
    "backbone": "lite/efficientnet_lite0",
    "target": ("defective",),
    "crop": "squash",
    "quiet": True,
}
POLICIES = {
    "head": {"freeze": "head", "epochs": 10},
    "head-300": {"freeze": "head", "epochs": 10, "size": 300},
    "last2-300": {"freeze": "last(2)", "epochs": 8, "backbone_lr": 1e-4, "size": 300},
    "last3-300-views": {
        "freeze": "last(3)",
        "epochs": 12,
        "backbone_lr": 1e-4,
        "size": 300,
        "augment": "light(vertical=true, crop=1.0, rotate=0.0, brightness=0.1, contrast=0.1, noise=0.0)",
        "views": 4,
        "ema": 0.98,
    },
    "last1": {"freeze": "last(1)", "epochs": 10},
    "last2": {"freeze": "last(2)", "epochs": 10},
    "last3": {"freeze": "last(3)", "epochs": 10},
    "last3-rate": {"freeze": "last(3)", "epochs": 10, "backbone_lr": 3e-4},
    "norm": {"freeze": "norm@last(3)", "epochs": 10, "backbone_lr": 1e-3},
    "lora": {"freeze": "lora(r=8)@last(3)", "epochs": 10},
    "lp-ft": {"freeze": "last(3)@lp-ft(2)", "epochs": 10, "backbone_lr": 3e-4},
    "gradual": {"freeze": "last(3)@gradual(every=2)", "epochs": 10, "backbone_lr": 3e-4},
    "everything": {"freeze": "none@lp-ft(1)", "epochs": 6, "backbone_lr": 3e-4},
    "everything-light": {
        "freeze": "none@lp-ft(1)",
        "epochs": 12,
        "backbone_lr": 3e-4,
        "augment": "light(vertical=true)",
        "ema": 0.99,
        "label_smoothing": 0.1,
    },
}


SCORES = ("accuracy", "balanced_accuracy", "roc_auc", "log_loss")
COST = "cost.json"
"""In each run folder: what the run cost, however often it was interrupted."""


def run(folder, name, seed):
    """One run, from where it is."""
    out = folder / f"{name}-{seed}"
    if (out / "run.json").exists():
        return
    began = time.process_time()
    try:
        if (out / "resume.json").exists():
            zoo.resume(out, quiet=True)
        else:
            zoo.train("elpv", out=out, seed=seed, overwrite=out.exists(), **COMMON, **POLICIES[name])
    finally:
        cost = spent(out) + time.process_time() - began
        if out.exists():
            (out / COST).write_text(json.dumps({"cpu_seconds": cost}))
    own = figures(folder, name, seed)["val"]
    print(f"{name}, seed {seed}: {own['accuracy']:.4f} of val rows right; {cost / 60:.1f} CPU minutes", flush=True)


def spent(out):
    """Seconds of CPU that went into a run so far."""
    return json.loads((out / COST).read_text())["cpu_seconds"] if (out / COST).exists() else 0.0


def figures(folder, name, seed):
    """Of a finished run, or None."""
    out = folder / f"{name}-{seed}"
    if not (out / "run.json").exists():
        return None
    scores = json.loads((out / "metrics.json").read_text())["defective"]
    run = json.loads((out / "run.json").read_text())
    return {
        "seed": seed,
        **{part: {name: scores[part][name] for name in SCORES} for part in ("test", "val")},
        "best_epoch": run["training"]["best_epoch"],
        "minutes": run["seconds"]["total"] / 60,
        "cpu_minutes": spent(out) / 60,
    }


def report(folder, seeds):
    """Every policy with a finished run."""
    rows = []
    for name, options in POLICIES.items():
        runs = [found for seed in range(seeds) if (found := figures(folder, name, seed))]
        if runs:
            rows.append({"policy": name, "options": options, "runs": runs})
    return rows


def markdown(rows, part):
    """The table, of the scores of one part of the rows."""
    names = SCORES[:2] if part == "test" else SCORES
    titles = ["policy", "options", "splits", *(name.replace("_", " ") for name in names), "minutes", "CPU minutes"]
    lines = [f"| {' | '.join(titles)} |", "|---|---|---:|" + "---|" * len(names) + "---:|---:|"]
    for row in rows:
        scores = [spread([own[part][name] for own in row["runs"]]) for name in names]
        costs = [f"{statistics.median(own[name] for own in row['runs']):.1f}" for name in ("minutes", "cpu_minutes")]
        options = ", ".join(f"{name.replace('_', '-')} {value}" for name, value in row["options"].items())
        lines.append(f"| {' | '.join([row['policy'], options, str(len(row['runs'])), *scores, *costs])} |")
    return "\n".join(lines)


def spread(values):
    """Mean and standard deviation; of one value itself."""
    mean = statistics.mean(values)
    return f"{mean:.3f} ± {statistics.stdev(values):.3f}" if len(values) > 1 else f"{mean:.3f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=cache_folder() / "benchmarks" / "policies")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--on", choices=("test", "val"), default="test")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if not options.report:
        options.folder.mkdir(parents=True, exist_ok=True)
        for seed in range(options.seeds):
            for name in options.only:
                run(options.folder, name, seed)
    rows = report(options.folder, options.seeds)
    print(markdown(rows, options.on))
    if options.out:
        today = datetime.now(UTC).date().isoformat()
        machine = {"device": device_name(torch.device("cpu")), "torch": torch.__version__}
        content = {"date": today, "machine": machine, "backbone": COMMON["backbone"], "rows": rows}
        path = options.out / f"policies-{today}.json"
        path.write_text(json.dumps(content, indent=1) + "\n")
        print(f"written to {path}")


if __name__ == "__main__":
    main()
