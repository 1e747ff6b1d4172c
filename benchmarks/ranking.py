"""Do the scores of `zoo rank` order backbones as their real fine-tuning does?

    python benchmarks/ranking.py [--backbones NAME …] [--random NAME …] [--data elpv digits] [--freeze head "last(1)"]
        [--rows N] [--epochs 10] [--size PIXELS] [--budget SECONDS] [--out benchmarks/results/ranking-cpu-DATE.json]

Scores come from training rows; the truth is the balanced accuracy of `zoo train` on test rows of the same split, which
ranking never sees, with weights of the epoch that validation rows chose. Backbones of --random have random weights and
are frozen as they are, a stand-in where pretrained ones cannot be had: to tell the two kinds apart is easy, so the
correlations over the pretrained ones alone stand beside those over all. What was stopped goes on with the same command.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image
from scipy.stats import kendalltau, spearmanr
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import zoo
from zoo.data.table import read_table
from zoo.disk import cache_folder, write_whole
from zoo.grid.rows import Cell
from zoo.grid.run import failed, run_grid
from zoo.grid.worker import Limits
from zoo.jobs.record import versions
from zoo.probe import device_name, pick_device
from zoo.registry.digest import package_digest

PRETRAINED = tuple(f"lite/efficientnet_lite{number}" for number in range(3))
RANDOM = (
    "torchvision/resnet18",
    "torchvision/mobilenet_v3_small",
    "torchvision/shufflenet_v2_x0_5",
    "torchvision/squeezenet1_1",
    "torchvision/mnasnet0_5",
)
SCORES = {
    "probe": lambda row: row["probe"]["mean"],
    "neighbours": lambda row: row["neighbours"]["mean"],
    "log_me": lambda row: row["log_me"],
    "h_score": lambda row: row["h_score"],
}


def elpv(rows, folder):
    """A stratified part of ELPV, defective or functional, as a CSV file."""
    table = read_table("elpv", targets=("defective",))
    labels = table.frame["defective"].to_list()
    at = _part(labels, rows)
    paths = [str(table.paths[row]) for row in at]
    pl.DataFrame({"image": paths, "label": [labels[row] for row in at]}).write_csv(folder / "table.csv")
    return folder / "table.csv"


def digits(rows, folder):
    """A stratified part of scikit-learn's 1,797 digits of 8 by 8 pixels, as PNG files of class/image."""
    held = load_digits()
    for row in _part(held.target, rows):
        path = folder / "images" / str(held.target[row]) / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((held.images[row] * 255 / 16).round().astype(np.uint8)).save(path)
    return folder / "images"


def _part(labels, rows):
    everything = np.arange(len(labels))
    if not rows or rows >= len(labels):
        return everything
    return np.sort(train_test_split(everything, train_size=rows, stratify=labels, random_state=0)[0])


DATA = {"elpv": elpv, "digits": digits}


def prepared(name, rows):
    """The data on disk, made once."""
    folder = cache_folder() / "benchmarks" / "ranking" / f"{name}-{rows}"
    done = folder / "done.txt"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(done, str(DATA[name](rows, folder)))
    return done.read_text(encoding="utf-8")


def truth(parameters, seed):
    """Balanced accuracy of a real fine-tuning on test rows; a cell of the grid."""
    folder = cache_folder() / "benchmarks" / "ranking" / f"run-{os.getpid()}"
    found = zoo.train(**{**parameters["train"], "out": folder, "overwrite": True, "quiet": True, "seed": seed})
    [metrics] = found.metrics.values()
    test = metrics["test"]
    return {name: test[name] for name in ("balanced_accuracy", "accuracy", "rows")} | {
        "seconds": found.run["seconds"]["total"]
    }


def truths(options, name, data):
    """Cells by (freeze, backbone)."""
    context = {"code": hashlib.blake2b(package_digest("zoo").encode(), digest_size=8).hexdigest()}
    cells = {}
    for freeze in options.freeze:
        for backbone in (*options.backbones, *options.random):
            extra = {"weights": "none", "random_frozen": True} if backbone in options.random else {}
            train = {"data": data, "backbone": backbone, "freeze": freeze, "epochs": options.epochs, **extra}
            train |= {"metric": "balanced_accuracy"} | ({"size": options.size} if options.size else {})
            train |= {"target": ["label"]} if name == "elpv" else {}
            cells[freeze, backbone] = Cell(task="ranking:truth", parameters={"train": train}, context=context)
    return cells


def scores(options, name, data):
    """Rows of `zoo rank` by backbone, and failures."""
    rows, failures = {}, {}
    for names, weights in ((options.backbones, None), (options.random, "none")):
        if names:
            target = {"target": ("label",)} if name == "elpv" else {}
            out = options.work / f"rank-{name}"
            size = {"size": options.size} if options.size else {}
            found = zoo.rank(
                data, backbones=names, weights=weights, out=out, epochs=options.epochs, quiet=False, **size, **target
            )
            rows |= {row["backbone"]: row for row in found.rows}
            failures |= found.failures
    return rows, failures


def correlations(rows, values, names):
    """Kendall's tau-b and Spearman's rho of each score with the truth over some backbones."""
    kept = [name for name in names if name in rows and name in values]
    if len(kept) < 3:
        return None
    found = {"backbones": len(kept)}
    for score, of in SCORES.items():
        given, real = [of(rows[name]) for name in kept], [values[name] for name in kept]
        tau, rho = kendalltau(given, real).statistic, spearmanr(given, real).statistic
        found[score] = {"kendall": _plain(tau), "spearman": _plain(rho)}
    return found


def _plain(value):
    return None if np.isnan(value) else round(float(value), 3)


def run(options):
    """Everything within the budget; returns the result and what is left."""
    started, left, result = time.monotonic(), 0, {}
    for name in options.data:
        data = prepared(name, options.rows)
        rows, failures = scores(options, name, data)
        cells, values, seconds = truths(options, name, data), {}, {}
        for key, cell in cells.items():
            if options.budget and time.monotonic() - started > options.budget:
                left += 1
                continue
            limits = Limits(threads=os.cpu_count() or 1, seconds=options.limit)
            [row] = run_grid([cell], options.work / "truth.jsonl", limits=limits, preload=["torch", "timm"])
            if failed(row):
                failures[" ".join(key)] = row.message
                continue
            values[key], seconds[key] = row.result["balanced_accuracy"], row.result["seconds"]
            print(f"{name} {' '.join(key)}: {values[key]:.3f}, {row.seconds:.0f} s", flush=True)
        result[name] = {"failures": failures, "backbones": rows}
        for freeze in options.freeze:
            own = {backbone: value for (policy, backbone), value in values.items() if policy == freeze}
            result[name][freeze] = {
                "truth": own,
                "seconds": {backbone: seconds[freeze, backbone] for backbone in own},
                "all": correlations(rows, own, (*options.backbones, *options.random)),
                "pretrained alone": correlations(rows, own, options.backbones),
            }
    return result, left


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="*", default=list(PRETRAINED))
    parser.add_argument("--random", nargs="*", default=list(RANDOM))
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--freeze", nargs="+", default=["head", "last(1)"])
    parser.add_argument("--rows", type=int, default=0, help="a stratified part of each data set; 0 for all")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--size", type=int)
    parser.add_argument(
        "--budget", type=float, default=0, metavar="SECONDS", help="fine-tune nothing more after so long"
    )
    parser.add_argument("--limit", type=float, default=3600, metavar="SECONDS", help="stop a fine-tuning after so long")
    parser.add_argument("--work", type=Path, default=cache_folder() / "benchmarks" / "ranking", help="rows lie here")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    result, left = run(options)
    options_said = {name: getattr(options, name) for name in ("rows", "epochs", "size", "freeze")}
    found = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": device_name(pick_device("cpu")),
        "versions": versions(),
        "options": options_said,
        "random_weights": options.random,
        "left": left,
        "data": result,
    }
    print(
        json.dumps(
            {name: {f: own[f] | {"truth": own[f]["truth"]} for f in options.freeze} for name, own in result.items()},
            indent=2,
        )
    )
    if options.out:
        options.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if left:
        raise SystemExit(f"{left} fine-tunings are left; the same command goes on with them")


if __name__ == "__main__":
    main()
