"""How well each imputer of covariates fills holes in a complete table: scikit-learn's breast cancer, 569 rows of 30.

    python benchmarks/imputation.py --out benchmarks/results/imputation-DATE.json

Each seed draws a random split (three quarters train) and punches holes into all rows; imputers are fitted on the
training rows alone and fill both. The figure is GAIN's: root mean squared error over the holes, every column scaled to
[0, 1] by the least and largest value of the whole table before holes. Three ways to punch, each 20 % of the cells:

- mcar: each cell by itself, completely at random;
- mar: a random third of the columns keeps every value; a cell of the others is missing with a probability that is a
  logistic function of those columns, standardised, with normal weights of unit variance;
- mnar: likewise, but the columns that decide are then punched at random themselves.

Rows that --out holds already are kept, so that a benchmark which was stopped goes on.
Intercepts are found by bisection for each column, so that as many cells are missing as are to be.
The masks follow R-miss-tastic's generators, as hyperimpute's `simulate.py` has them.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path

import numpy as np
from kept import kept, surroundings
from sklearn.datasets import load_breast_cancer

from zoo.registry.lookup import IMPUTERS
from zoo.specs import TrainView, bind, parse_options
from zoo.specs.training import SPLITTERS_SEAL
from zoo.testing.tables import columns_of

IMPUTERS_TRIED = ("mean", "median", "knn(k=5)", "iterative", "missforest", "gain", "miwae")
MECHANISMS = ("mcar", "mar", "mnar")
PUBLISHED = {
    "fit and filled on the same matrix, scikit-learn, 20 % MCAR": {
        "mean": 0.1434,
        "knn-5": 0.0747,
        "iterative BayesianRidge": 0.0512,
        "iterative ExtraTrees": 0.0552,
    },
}


def logistic(values):
    return 1.0 / (1.0 + np.exp(-values))


def logistic_mask(scores, share, random):
    """Bool (N, C): cells missing with probability logistic(score + intercept), whose mean over a column is `share`."""
    low, high = np.full(scores.shape[1], -50.0), np.full(scores.shape[1], 50.0)
    for _ in range(60):
        middle = (low + high) / 2
        above = logistic(scores + middle).mean(axis=0) > share
        high, low = np.where(above, middle, high), np.where(above, low, middle)
    return random.random(scores.shape) < logistic(scores + (low + high) / 2)


def punch(values, mechanism, share, random):
    """Bool (N, D), True where a value goes missing."""
    if mechanism == "mcar":
        return random.random(values.shape) < share
    rows, size = values.shape
    deciding = random.permutation(size)[: size // 3]
    others = np.setdiff1d(np.arange(size), deciding)
    scores = ((values - values.mean(axis=0)) / values.std(axis=0))[:, deciding]
    scores = scores @ random.normal(size=(len(deciding), len(others)))
    scores /= scores.std(axis=0)
    holes = np.zeros(values.shape, dtype=bool)
    # Under mar the other columns bear the holes of all: as many cells of the table are missing as elsewhere.
    holes[:, others] = logistic_mask(scores, share * size / len(others) if mechanism == "mar" else share, random)
    if mechanism == "mnar":
        holes[:, deciding] = random.random((rows, len(deciding))) < share
    return holes


def rmse(found, whole, holes):
    return float(np.sqrt(np.square((found - whole) / np.ptp(whole, axis=0))[holes].mean()))


def tried(option, whole, holes, train, seed):
    """RMSE on training rows and on held-out rows, and seconds of fitting and of filling."""
    [call] = parse_options(option)
    record = IMPUTERS["covariates"].of_call(call)
    holed = np.where(holes, np.nan, whole)
    view = TrainView(SPLITTERS_SEAL, rows=train, statistics={}, covariates=columns_of(holed[train]))
    started = time.perf_counter()
    fitted = record.fit(view, bind(call, record.parameters), np.random.default_rng(seed))
    fit_seconds = time.perf_counter() - started
    started = time.perf_counter()
    found = fitted.transform(columns_of(holed)).numeric
    held = np.setdiff1d(np.arange(len(whole)), train)
    return {
        "rmse_train": rmse_of(found, whole, holes, train),
        "rmse_held_out": rmse_of(found, whole, holes, held),
        "fit_seconds": fit_seconds,
        "fill_seconds": time.perf_counter() - started,
        "saved_bytes": int(sum(array.nbytes for array in fitted.save()[0].values())),
    }


def rmse_of(found, whole, holes, rows):
    chosen = np.zeros(len(whole), dtype=bool)
    chosen[rows] = True
    return rmse(found, whole, holes & chosen[:, None])


def measure(seeds, share, results, save):
    """Add what `results` lack; `save` is called after each row."""
    whole = load_breast_cancer().data.astype(np.float64)
    done = {(row["mechanism"], row["seed"], row["imputer"]) for row in results}
    for mechanism in MECHANISMS:
        for seed in range(seeds):
            random = np.random.default_rng([seed, MECHANISMS.index(mechanism)])
            train = np.sort(random.permutation(len(whole))[: round(0.75 * len(whole))])
            holes = punch(whole, mechanism, share, random)
            for option in IMPUTERS_TRIED:
                if (mechanism, seed, option) in done:
                    continue
                row = {"mechanism": mechanism, "seed": seed, "imputer": option, "missing_share": float(holes.mean())}
                results.append(row | tried(option, whole, holes, train, seed))
                print(json.dumps(results[-1]), flush=True)
                save()


def table(results):
    lines = ["| imputer | " + " | ".join(f"{each}, held-out rows" for each in MECHANISMS) + " | fit, s |"]
    lines.append("|---" * (len(MECHANISMS) + 2) + "|")
    for option in IMPUTERS_TRIED:
        own = [row for row in results if row["imputer"] == option]
        cells = []
        for mechanism in MECHANISMS:
            values = [row["rmse_held_out"] for row in own if row["mechanism"] == mechanism]
            spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.4f}{spread} ({len(values)} seeds)" if values else "not run")
        cells.append(f"{np.median([row['fit_seconds'] for row in own]):.2f}")
        lines.append(f"| {option} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    kept(options.out, partial(measure, options.seeds, options.share), partial(record, share=options.share), table)


def record(results, share):
    return {
        "benchmark": "imputation",
        "data": "scikit-learn breast cancer, 569 rows of 30",
        "share": share,
        **surroundings("numpy", "sklearn", "torch"),
        "compared_with": PUBLISHED,
        "table": table(results).splitlines(),
        "results": results,
    }


if __name__ == "__main__":
    main()
