"""Whether what `benchmarks/imbalance.py` found holds on splits that nobody had looked at, and what `auto` takes there.

    python benchmarks/imbalance_fresh.py [--folder FOLDER] [--out benchmarks/results/imbalance-fresh-DATE.json]

The same data, backbone and options, with seeds 5 to 9 instead of 0 to 4: other test rows, drawn from the same cells.
The strategies were named on 2026-11-27 by what they gained with seeds 0 to 4, before any of these was run: the best by
balanced accuracy, the three best by macro F1, and the one that had been put together after a look at test rows.
`--imbalance auto` chooses by itself, from cross-validation of the training rows. Each of its runs takes some minutes;
what is done is kept in --folder.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import torch

import zoo
from zoo.disk import cache_folder, write_whole
from zoo.jobs.record import versions
from zoo.probe import device_name, pick_device

OPTIONS = {"backbone": "lite/efficientnet_lite0", "target": "defect", "crop": "squash", "quiet": True}
FIRST, SEEDS = 5, 5
STRATEGIES = (
    "balanced-softmax",
    "class-weights(method=sqrt)",
    "logit-adjust(tau=0.5)",
    "drs",
    "bagging+logit-adjust(tau=0.75)",
)
METRICS = ("accuracy", "balanced_accuracy", "macro_f1")
BY = ("balanced_accuracy", "macro_f1")
"""Metrics by which `auto` chooses."""


def named(folder):
    """By strategy the values of each metric on test rows, and gains over plain training with their 95 % intervals."""
    found = zoo.compare(
        "elpv", imbalance=STRATEGIES, metric="macro_f1", seed=FIRST, seeds=SEEDS, out=folder / "compare", **OPTIONS
    ).found
    return {
        row["strategy"]: {
            "values": {metric: row["test"][metric]["values"] for metric in METRICS},
            "gain": {metric: row["test_gain"][metric] for metric in METRICS if row["test_gain"]},
        }
        for row in found["strategies"]
    }


def chosen(folder, metric, seed):
    """What `auto` takes by this metric, and the test rows' scores."""
    kept = folder / f"auto-{metric}-{seed}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    with tempfile.TemporaryDirectory() as made:
        run = zoo.train("elpv", imbalance="auto", metric=metric, seed=seed, out=Path(made) / "run", **OPTIONS)
    (choice,) = run.run["chosen_strategies"]
    scores = run.metrics["defect"]["test"]
    found = {
        "seed": seed,
        "strategy": choice["strategy"],
        "why": choice["why"],
        "test": {name: scores[name] for name in METRICS},
    }
    write_whole(kept, json.dumps(found))
    return found


def spread(values):
    """Mean and standard deviation in words."""
    return f"{statistics.fmean(values):+.3f} ± {statistics.stdev(values):.3f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=cache_folder() / "benchmarks" / "imbalance_fresh")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = named(options.folder)
    for strategy, own in rows.items():
        for metric in BY if own["gain"] else ():
            gain = own["gain"][metric]
            print(f"{strategy}: {metric} {gain['mean']:+.3f} ± {gain['spread']:.3f}{'' if gain['clear'] else ' ~'}")
    auto = {}
    for metric in BY:
        plain = rows["none"]["values"][metric]
        auto[metric] = [chosen(options.folder, metric, seed) for seed in range(FIRST, FIRST + SEEDS)]
        gains = [own["test"][metric] - before for own, before in zip(auto[metric], plain, strict=True)]
        print(f"auto by {metric}: {', '.join(own['strategy'] for own in auto[metric])}; {spread(gains)} on test rows")
    if options.out:
        found = {
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": {"device": device_name(pick_device(None)), "threads": torch.get_num_threads()},
            "versions": versions(),
            "seeds": list(range(FIRST, FIRST + SEEDS)),
            "options": {name: own for name, own in OPTIONS.items() if name != "quiet"},
            "strategies": rows,
            "auto": auto,
        }
        write_whole(options.out, json.dumps(found, indent=1) + "\n")
        print(f"written to {options.out}")


if __name__ == "__main__":
    main()
