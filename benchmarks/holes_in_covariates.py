"""What holes in covariates cost on ELPV, and what each answer gives back: EfficientNet-Lite0, twelve numbers.

    python benchmarks/holes_in_covariates.py [--seeds 5] [--answers mean iterative …] [--out FILE]

The covariates are the mean, the deviation and the fifth percentile of the four quarters of each cell's full-size image:
correlated numbers, of which some are told by others. A share of their cells is removed completely at random, from
training and held-out rows alike, before `zoo train` sees the table. Beside the answers stand the same run without
holes, and without covariates. `drop` leaves out every training row with a hole: of twelve cells nearly every row has
one where 30 % are missing. The figures are those of test rows, over splits of their own for each seed; the epoch is
chosen on validation rows. Rows that --out holds already are kept, so that a benchmark which was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from kept import kept, surroundings
from PIL import Image

import zoo
from zoo.data.table import read_table
from zoo.errors import ZooError

SHARES = (0.1, 0.3, 0.5)
ANSWERS = {
    "drop": ("covariates=mean", "rows=drop(max=1, max_class=1)"),
    "mean": ("covariates=mean",),
    "mean+indicator": ("covariates=mean+indicator",),
    "mean+dropout": ("covariates=mean+dropout",),
    "knn": ("covariates=knn",),
    "iterative": ("covariates=iterative",),
    "iterative+multiple": ("covariates=iterative+multiple",),
    "missforest": ("covariates=missforest",),
    "gain": ("covariates=gain",),
    "miwae": ("covariates=miwae",),
    "miwae+multiple": ("covariates=miwae+multiple",),
}
METRICS = ("accuracy", "balanced_accuracy", "log_loss")
COMMON = {
    "backbone": "lite/efficientnet_lite0",
    "image": "image",
    "target": ("defective",),
    "crop": "squash",
    "epochs": 20,
    "quiet": True,
}


def statistics_of(path):
    """Mean, deviation and fifth percentile of the four quarters, from the image's own pixels."""
    pixels = np.asarray(Image.open(path).convert("L"), dtype=np.float64)
    high, wide = (side // 2 for side in pixels.shape)
    quarters = (pixels[:high, :wide], pixels[:high, wide:], pixels[high:, :wide], pixels[high:, wide:])
    return [value for own in quarters for value in (own.mean(), own.std(), np.percentile(own, 5))]


def table():
    """Images, labels and covariates without holes."""
    data = read_table("elpv", targets=["defective"])
    numbers = np.array([statistics_of(path) for path in data.paths])
    names = [f"{kind}{quarter}" for quarter in range(4) for kind in ("mean", "std", "low")]
    frame = pl.DataFrame(
        {"image": list(map(str, data.paths)), "defective": data.frame["defective"].cast(pl.String).to_list()}
    )
    return frame, names, numbers


def measure(options, results, save):
    """Add what `results` lack; `save` is called after each row."""
    frame, names, numbers = table()
    done = {(row["seed"], row["share"], row["answer"]) for row in results}
    cases = [(0.0, "no holes"), (0.0, "no covariates")]
    cases += [(share, answer) for share in SHARES for answer in options.answers]
    for seed in range(options.seeds):
        order = np.random.default_rng(seed).random(numbers.shape)  # what is missing at 10 % is missing at 30 %
        for share, answer in cases:
            if (seed, share, answer) in done:
                continue
            holed = np.where(order < share, np.nan, numbers)
            columns = [pl.Series(name, own).fill_nan(None) for name, own in zip(names, holed.T, strict=True)]
            with tempfile.TemporaryDirectory() as work:
                frame.with_columns(columns).write_csv(Path(work) / "table.csv")
                covariates = () if answer == "no covariates" else tuple(names)
                row = run(Path(work), covariates, ANSWERS.get(answer, ()), seed)
            results.append({"seed": seed, "share": share, "answer": answer, **row})
            print(json.dumps(results[-1]), flush=True)
            save()


def run(work, covariates, impute, seed):
    started = time.perf_counter()
    try:
        found = zoo.train(
            work / "table.csv", out=work / "run", covariate=covariates, impute=impute, seed=seed, **COMMON
        )
    except ZooError as error:
        return {"refused": str(error)}
    metrics, splits = found.metrics["defective"]["test"], found.run["data"]["splits"]
    own = {name: metrics[name] for name in METRICS}
    return {**own, "train_rows": splits["train"], "seconds": time.perf_counter() - started}


def markdown(results):
    """Accuracy and balanced accuracy over test rows, and the difference to no holes, seed by seed."""
    whole = {row["seed"]: row for row in results if row["answer"] == "no holes"}
    lines = ["| answer | " + " | ".join(f"{share:.0%} missing" for share in SHARES) + " |"]
    lines.append("|---" * (len(SHARES) + 1) + "|")
    for answer in dict.fromkeys(row["answer"] for row in results):
        shares = (0.0,) if answer.startswith("no ") else SHARES
        cells = [
            cell([row for row in results if (row["answer"], row["share"]) == (answer, own)], whole) for own in shares
        ]
        lines.append(f"| {answer} | " + " | ".join(cells + [""] * (len(SHARES) - len(cells))) + " |")
    return "\n".join(lines)


def cell(rows, whole):
    found = [row for row in rows if "refused" not in row]
    if not found:
        return "refused" if rows else "not run"
    parts = [spread([row[name] for row in found]) for name in ("accuracy", "balanced_accuracy")]
    lost = [row["log_loss"] - whole[row["seed"]]["log_loss"] for row in found if row["seed"] in whole]
    return f"{parts[0]}, {parts[1]}; log loss {spread(lost, '+')}"


def spread(values, sign=""):
    mean = f"{np.mean(values):{sign}.3f}"
    return f"{mean} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else mean


def record(results):
    return {
        "benchmark": "holes_in_covariates",
        "data": "ELPV, 2,624 images, twelve statistics of their quarters; defective or functional",
        **surroundings("numpy", "sklearn", "torch"),
        "table": markdown(results).splitlines(),
        "results": results,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--answers", nargs="+", default=list(ANSWERS), choices=list(ANSWERS))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    kept(options.out, partial(measure, options), record, markdown)


if __name__ == "__main__":
    main()
