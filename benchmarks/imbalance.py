"""What each strategy against class imbalance does, on ELPV's four classes and on long-tailed digits.

    python benchmarks/imbalance.py [--seeds 5] [--folder FOLDER] [--out benchmarks/results/imbalance-DATE.json]

ELPV: 2,624 solar cells, five splits of 75/25 stratified by class and module type, frozen EfficientNet-Lite0 at 224
pixels, every strategy by `zoo compare` with its defaults. Beside some of them stand figures that were measured with
scikit-learn and imbalanced-learn on the same kind of features, standardised, with a logistic regression, on five other
such splits; a row holds where ours lies within two standard deviations, the larger of both sides. Two rows are mistakes
that the ledger refuses; they are made outside of it: weights in proportion to the counts, as weights of rows, and class
weights whose probabilities are divided by the class prior once more.

Digits: scikit-learn's 1,797 digits of 8 by 8 pixels, drawn larger, their training and validation rows cut to an
exponential profile, n_c = int(n_max mu^(c / 9)); 30 test rows of each class. Five draws.

The data of ELPV name no module: cells of one stand on both sides of every split. What is done is kept in --folder, so
that a benchmark which was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import torch
from PIL import Image
from sklearn.datasets import load_digits

import zoo
from zoo.data.table import read_table
from zoo.disk import cache_folder, write_whole
from zoo.jobs.outcome import score
from zoo.jobs.record import versions
from zoo.metrics.paired import paired
from zoo.probe import device_name, pick_device
from zoo.specs import Target, Task

BACKBONE = "lite/efficientnet_lite0"
METRICS = ("accuracy", "balanced_accuracy", "macro_f1")
SHOWN = (*METRICS, "g_mean")

REFERENCE = {
    "none": ("CE", (0.748, 0.007), (0.464, 0.009), (0.480, 0.015)),
    "logit-adjust": ("posthoc LA tau=1", (0.642, 0.011), (0.592, 0.019), (0.529, 0.003)),
    "logit-adjust(tau=0.5)": ("posthoc LA tau=.5", (0.750, 0.012), (0.554, 0.015), (0.566, 0.018)),
    "class-weights": ("CE + class_weight=balanced", (0.689, 0.011), (0.576, 0.005), (0.542, 0.003)),
    "weights in proportion to counts": ("CE + class_weight=counts", (0.737, 0.014), (0.416, 0.014), (0.413, 0.018)),
    "balanced-sampler": ("random oversample", (0.703, 0.012), (0.569, 0.010), (0.544, 0.010)),
    "smote": ("SMOTE on features", (0.695, 0.008), (0.559, 0.007), (0.536, 0.004)),
    "undersample(redraw=false)": ("random undersample", (0.538, 0.025), (0.518, 0.037), (0.449, 0.021)),
    "class-weights and the prior once more": (
        "balanced weights AND posthoc LA", (0.329, 0.019), (0.499, 0.011), (0.350, 0.014)
    ),
    "balanced-bagging": ("balanced bagging x10", (0.593, 0.011), (0.564, 0.019), (0.496, 0.008)),
}  # fmt: skip
"""By our row: theirs, and mean and standard deviation of accuracy, balanced accuracy and macro F1."""

EXTRA = (
    "logit-adjust(tau=0.25)",
    "logit-adjust(tau=0.5)",
    "logit-adjust(tau=0.75)",
    "bagging+logit-adjust(tau=0.75)",
    "class-weights(method=sqrt)",
    "undersample(redraw=false)",
    "ldam+drw",
    "focal+class-weights",
    "minority-augment(others=light)",
    "minority-augment(others=light)+balanced-sampler",
)
"""Beside every strategy by its defaults."""

BARS = {"macro_f1": 0.06, "balanced_accuracy": 0.09}
"""What at least one strategy has to gain over plain training on ELPV."""

PROFILE = {"train": (100, 0.1), "val": (25, 0.1)}
"""n_max and mu of the digits; test rows are equal in number."""
TEST_ROWS = 30


def elpv(folder, seeds):
    """Values of every metric by strategy and seed, refusals, and what is said about the data."""
    found = zoo.compare(
        "elpv", backbone=BACKBONE, target="defect", crop="squash", imbalance=("all", *EXTRA), seeds=seeds,
        out=folder / "elpv", quiet=False,
    ).found  # fmt: skip
    values = {row["strategy"]: _values(row) for row in found["strategies"] if len(row["seeds"]) == seeds}
    values |= mistakes(folder, seeds)
    return values, found


def _values(row):
    return {name: each["values"] for name, each in row["test"].items() if name in SHOWN or name.startswith("recall(")}


def mistakes(folder, seeds):
    """What the ledger refuses, made outside of it, on the same splits."""
    kept = folder / "mistakes.json"
    if kept.exists():
        return json.loads(kept.read_text())
    table = read_table("elpv")
    frame = table.frame.select("defect", "type").with_columns(image=pl.Series([str(path) for path in table.paths]))
    counts = frame["defect"].value_counts()
    counts = dict(zip(counts["defect"], counts["count"], strict=True))
    largest = max(counts.values())
    weighed = frame.with_columns(weight=pl.Series([counts[name] / largest for name in frame["defect"]]))
    found = {name: {metric: [] for metric in SHOWN} for name in REFERENCE if " " in name}
    with tempfile.TemporaryDirectory() as made:
        weighed.write_csv(Path(made) / "table.csv")
        options = {"backbone": BACKBONE, "crop": "squash", "quiet": True}
        for seed in range(seeds):
            run = zoo.train(
                Path(made) / "table.csv", image="image", target="defect", stratify="type", weight="weight",
                out=Path(made) / f"counts-{seed}", seed=seed, **options,
            )  # fmt: skip
            _add(found["weights in proportion to counts"], run.metrics["defect"]["test"])
            out = Path(made) / f"twice-{seed}"
            zoo.train("elpv", target="defect", imbalance="class-weights", out=out, seed=seed, **options)
            _add(found["class-weights and the prior once more"], divided(out, counts))
    write_whole(kept, json.dumps(found))
    return found


def divided(run, counts):
    """Scores of the test rows with each probability divided by its class's share, and scaled to sum to 1."""
    frame = pl.read_csv(run / "predictions.csv", infer_schema=False).filter(pl.col("split") == "test")
    classes = tuple(sorted(counts))
    columns = [frame[f"defect.p({name})"].cast(pl.Float64).to_numpy() / counts[name] for name in classes]
    probabilities = torch.from_numpy(np.stack(columns, 1))
    probabilities /= probabilities.sum(1, keepdim=True)
    task = Task(name="defect", classes=classes)
    value = torch.tensor([classes.index(name) for name in frame["defect"].to_list()])
    known = Target(value=value, mask=torch.ones(len(value), dtype=torch.bool))
    return score({"defect": probabilities}, {"defect": known}, ["test"] * len(frame), [task])["defect"]["test"]


def _add(held, scores):
    for metric in SHOWN:
        held[metric].append(scores[metric])


def digits(folder, seeds):
    """As `elpv`, from a comparison of one seed for each draw of the rows."""
    images, held = folder / "images", load_digits()
    images.mkdir(parents=True, exist_ok=True)
    for row, pixels in enumerate(held.images):
        if not (images / f"{row}.png").exists():
            small = Image.fromarray((pixels * 255 / 16).round().astype(np.uint8))
            small.resize((64, 64), Image.Resampling.BICUBIC).save(images / f"{row}.png")
    values = {}
    for seed in range(seeds):
        path = folder / f"digits-{seed}.csv"
        _tailed(held.target, seed, images).write_csv(path)
        found = zoo.compare(
            path, backbone=BACKBONE, image="image", target="label", split="split", imbalance=("all", *EXTRA), seeds=1,
            seed=seed, out=folder / f"digits-{seed}", quiet=False,
        ).found  # fmt: skip
        for row in found["strategies"]:
            for metric, own in _values(row).items():
                values.setdefault(row["strategy"], {}).setdefault(metric, []).extend(own)
    return {text: own for text, own in values.items() if len(own["accuracy"]) == seeds}, found


def profile(most, mu, classes=10):
    """Rows of each class: the exponential profile of long-tailed CIFAR."""
    return [int(most * mu ** (index / (classes - 1))) for index in range(classes)]


def _tailed(labels, seed, images):
    random = np.random.default_rng(seed)
    rows = []
    for label in range(10):
        order = random.permutation(np.flatnonzero(labels == label))
        sizes = {"test": TEST_ROWS} | {split: profile(*own)[label] for split, own in PROFILE.items()}
        at = 0
        for split, count in sizes.items():
            rows += [(str(images / f"{row}.png"), str(label), split) for row in order[at : at + count]]
            at += count
    return pl.DataFrame(rows, schema=["image", "label", "split"], orient="row")


def table(values, overlap, rarest):
    """By strategy: mean and spread of each metric, and the paired difference to plain training."""
    found = {}
    for text, own in values.items():
        named = {name: held for name, held in own.items() if name in (*SHOWN, f"recall({rarest})")}
        found[text] = {name: {"values": held, **_over(held)} for name, held in named.items()}
        if text != "none":
            pairs = {m: [a - b for a, b in zip(own[m], values["none"][m], strict=True)] for m in SHOWN}
            gains = {m: paired(differences, overlap) for m, differences in pairs.items()}
            found[text]["gain"] = {
                m: {"mean": each.mean, "spread": each.spread, "reach": each.reach, "clear": each.clear}
                for m, each in gains.items()
            }
    return found


def _over(values):
    return {"mean": statistics.fmean(values), "spread": statistics.stdev(values) if len(values) > 1 else None}


def against_reference(rows):
    """Ours beside theirs, metric by metric, and whether it holds."""
    found = []
    for text, (theirs, *figures) in REFERENCE.items():
        for metric, (mean, spread) in zip(METRICS, figures, strict=True):
            own = rows[text][metric]
            unit = max(spread, own["spread"] or 0.0)
            off = (own["mean"] - mean) / unit
            found.append(
                {"strategy": text, "reference_row": theirs, "metric": metric, "ours": own["mean"],
                 "ours_spread": own["spread"], "reference": mean, "reference_spread": spread,
                 "deviations": round(off, 2), "holds": abs(off) <= 2}
            )  # fmt: skip
    return found


HEAD = ("strategy", "accuracy", "balanced accuracy", "macro F1", "G-mean", "recall of the rarest",
        "gain, balanced accuracy", "gain, macro F1")  # fmt: skip


def shown(rows, rarest):
    """A table for the README, the best balanced accuracy first; a tilde where a gain may be noise."""
    lines = [HEAD, ("---",) * len(HEAD)]
    for text in sorted(rows, key=lambda each: -rows[each]["balanced_accuracy"]["mean"]):
        own = rows[text]
        cells = [_text(own[name]) if name in own else "" for name in (*SHOWN, rarest)]
        gains = [own["gain"][m] for m in ("balanced_accuracy", "macro_f1")] if "gain" in own else []
        cells += [_text(gain, "+") + ("" if gain["clear"] else " ~") for gain in gains] or ["", ""]
        lines.append((f"*{text}*" if " " in text else f"`{text}`", *cells))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(value, sign=""):
    return f"{value['mean']:{sign}.3f} ± {value['spread'] or 0:.3f}"


def judged(rows):
    """ELPV against the reference and what is asked: the part of the report, and lines about it."""
    report = {"reference": against_reference(rows), "bars": {}}
    lines = []
    for own in report["reference"]:
        said = "holds" if own["holds"] else "does not hold"
        lines.append(
            f"{own['strategy']}, {own['metric']}: {own['ours']:.3f} ± {own['ours_spread']:.3f}, reference "
            f"{own['reference']:.3f} ± {own['reference_spread']:.3f}: {own['deviations']:+.1f} deviations, {said}"
        )
    for metric, bar in BARS.items():
        gains = {text: own["gain"][metric] for text, own in rows.items() if "gain" in own}
        best = max(gains, key=lambda text: gains[text]["mean"])
        report["bars"][metric] = {"bar": bar, "strategy": best, **gains[best], "holds": gains[best]["mean"] >= bar}
        lines.append(f"best gain of {metric}: {best} {_text(gains[best], '+')}, bar {bar}")
    twice, once = (
        rows[text]["macro_f1"]["mean"] for text in ("class-weights and the prior once more", "class-weights")
    )
    report["double_correction_macro_f1"] = {"twice": twice, "once": once}
    lines.append(f"the same correction twice: macro F1 {twice:.3f} against {once:.3f}")
    return report, lines


def rounded(value):
    """Figures to four places: more would be noise."""
    if isinstance(value, dict):
        return {key: rounded(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(own) for own in value]
    return round(value, 4) if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=cache_folder() / "benchmarks" / "imbalance")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    report = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"device": device_name(pick_device(None)), "threads": torch.get_num_threads()},
        "versions": versions(),
        "backbone": BACKBONE,
        "seeds": list(range(arguments.seeds)),
    }
    for name, measure in {"elpv": elpv, "digits": digits}.items():
        values, found = measure(arguments.folder, arguments.seeds)
        # Digits are drawn anew from all rows for each seed, as splits of ELPV are.
        overlap = found["rows"]["test"] / found["rows"]["train"]
        rows = table(values, overlap, found["rarest"])
        report[name] = {
            "rows": found["rows"], "counts": found["counts"], "rarest": found["rarest"], "split": found["split"],
            "notes": found["notes"], "strategies": rows, "without": found["without"],
        }  # fmt: skip
        print(f"{name}: {found['rows']['test']} test rows, {arguments.seeds} seeds\n")
        print(shown(rows, f"recall({found['rarest']})") + "\n", flush=True)
        if name == "elpv":
            more, lines = judged(rows)
            report |= more
            print("\n".join(lines) + "\n", flush=True)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(arguments.out, json.dumps(rounded(report), indent=1) + "\n")
        print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
