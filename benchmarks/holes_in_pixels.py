"""What filling missing pixels is worth: accuracy on ELPV with holes punched into half of the images.

    python benchmarks/holes_in_pixels.py --out benchmarks/results/holes-in-pixels-DATE.json

Defective or functional, from features of a frozen EfficientNet-Lite0 in bf16, the default head, 10 epochs, on a sample
of the images (--rows). Each seed splits them anew and draws, whatever the class, the half of them that has holes, in
training, validation and test rows alike: boxes of 20 to 75 of 300 pixels a side, as many as cover 10, 30 or 50 % of the
image. A hole is black under alpha 0. The answers:

- no holes: the images as they were, the most that there is to have;
- drop: training and validation rows with holes are left out; those of the test rows stay black, because somebody wants
  an answer for them;
- black: nothing is done;
- every imputer of pixels, fitted on the training rows.

All are scored on the same test rows: all of them, and those among them that have holes. The data name no module, so
that cells of one module stand on both sides of every split, for each answer alike. Rows that --out holds already are
kept, so that a benchmark which was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from kept import kept, surroundings
from PIL import Image
from sklearn.metrics import balanced_accuracy_score

import zoo
from zoo.data.table import read_table

SHARES = (0.1, 0.3, 0.5)
IMPUTERS = ("mean", "telea", "mae", "linear", "ns", "biharmonic")
ANSWERS = ("drop", "black", *IMPUTERS)
TARGET = "defective"
COMMON = {"backbone": "lite/efficientnet_lite0", "epochs": 10, "quiet": True, "overwrite": True}
COMMON |= {"precision": "bf16", "deterministic": True}  # nothing is measured, so that a row is one pass


def boxes(share, size, random):
    """Bool (H, W): boxes until they cover `share` of the image."""
    mask = np.zeros(size, dtype=bool)
    while mask.mean() < share:
        height, width = random.integers(20, 76, 2)
        top, left = random.integers(0, size[0] - height + 1), random.integers(0, size[1] - width + 1)
        mask[top : top + height, left : left + width] = True
    return mask


def punch(paths, holed, share, seed, folder):
    """Copies of the images, those in `holed` with holes, as PNG files of grey and alpha."""
    for row, path in enumerate(paths):
        grey = np.asarray(Image.open(path).convert("L")).copy()
        alpha = np.full_like(grey, 255)
        if holed[row]:
            mask = boxes(share, grey.shape, np.random.default_rng([seed, row, round(100 * share)]))
            grey[mask], alpha[mask] = 0, 0
        Image.fromarray(np.dstack([grey, alpha]), "LA").save(folder / f"{row}.png")


def scores(run, holed):
    """Accuracy and balanced accuracy over the test rows, and over those with holes."""
    predictions = pl.read_csv(run / "predictions.csv", schema_overrides={TARGET: pl.String}).filter(split="test")
    rows = np.array([int(Path(name).stem) for name in predictions["image"]])
    truth, found = (predictions[name].cast(pl.String).to_numpy() for name in (TARGET, f"{TARGET}.predicted"))
    right, own = truth == found, holed[rows]
    return {
        "test_rows": len(rows),
        "test_rows_with_holes": int(own.sum()),
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(balanced_accuracy_score(truth, found)),
        "accuracy_of_rows_with_holes": float(right[own].mean()),
        "accuracy_of_whole_rows": float(right[~own].mean()),
        "balanced_accuracy_of_rows_with_holes": float(balanced_accuracy_score(truth[own], found[own])),
    }


def trained(table, seed, work, answer):
    started = time.perf_counter()
    impute = (f"pixels={answer}",) if answer in IMPUTERS else ()
    split = None if answer == "no holes" else "split"
    roles = {"image": "image", "target": (TARGET,), "split": split}
    result = zoo.train(table, out=work / "run", impute=impute, seed=seed, **roles, **COMMON)
    seconds = result.run["seconds"]
    return {"seconds": time.perf_counter() - started, "read_and_fill_seconds": seconds["read"]}


def measure(options, results, save):
    """Add what `results` lack; `save` is called after each row."""
    data = read_table("elpv", targets=[TARGET])
    data = data.take(np.sort(np.random.default_rng(0).permutation(len(data))[: options.rows]))
    for seed in range(options.seeds):
        holed = np.random.default_rng(seed).random(len(data)) < 0.5
        splits = None
        for share in (0.0, *SHARES):
            answers = ["no holes"] if share == 0 else [each for each in ANSWERS if each in options.answers]
            splits = measure_share(data, holed, share, seed, answers, splits, results, save)


def measure_share(data, holed, share, seed, answers, splits, results, save):
    """Train with each answer; the splits of the images without holes are those of all."""
    done = {(row["seed"], row["share"], row["answer"]): row for row in results}
    if share == 0 and (seed, share, "no holes") in done:
        return done[seed, share, "no holes"]["splits"]
    todo = [each for each in answers if (seed, share, each) not in done]
    if not todo:
        return splits
    frame = {"image": [f"{row}.png" for row in range(len(data))]}
    frame |= {TARGET: data.frame[TARGET].cast(pl.String).to_list()} | ({"split": splits} if splits else {})
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        os.environ["ZOO_CACHE"] = str(work / "cache")
        punch(data.paths, holed & (share > 0), share, seed, work)
        for answer in todo:
            kept = pl.DataFrame(frame)
            if answer == "drop":
                kept = kept.filter(~(pl.Series(holed) & kept["split"].is_in(["train", "val"])))
            kept.write_csv(work / "table.csv")
            row = {"seed": seed, "share": share, "answer": answer, **trained(work / "table.csv", seed, work, answer)}
            row |= scores(work / "run", holed)
            if answer == "no holes":
                row["splits"] = splits = pl.read_csv(work / "run" / "splits.csv")["split"].to_list()
            results.append(row)
            print(json.dumps({key: value for key, value in row.items() if key != "splits"}), flush=True)
            save()
    return splits


def table(results):
    """Accuracy over test rows: all, those with holes, those without."""
    lines = ["| answer | " + " | ".join(f"{share:.0%}: all, with holes, without" for share in SHARES) + " |"]
    lines.append("|---" * (len(SHARES) + 1) + "|")
    for answer in ("no holes", *ANSWERS):
        cells = []
        for share in SHARES:
            own = [row for row in results if row["answer"] == answer and row["share"] in (share, 0.0)]
            keys = ("accuracy", "accuracy_of_rows_with_holes", "accuracy_of_whole_rows")
            cells.append(", ".join(spread(own, key) for key in keys))
        lines.append(f"| {answer} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def spread(rows, key):
    values = [row[key] for row in rows]
    if not values:
        return "not run"
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else " (one seed)")


def record(results, rows):
    return {
        "benchmark": "holes_in_pixels",
        "data": f"ELPV, {rows} of 2,624 images of 300 x 300, half of them with holes",
        **surroundings("numpy", "torch", "cv2", "skimage", "scipy"),
        "table": table(results).splitlines(),
        "results": results,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--answers", nargs="+", default=list(ANSWERS), choices=ANSWERS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    kept(options.out, partial(measure, options), partial(record, rows=options.rows), table)


if __name__ == "__main__":
    main()
