"""What missing labels cost on ELPV, and what each answer gives back: frozen EfficientNet-Lite0, two targets.

    python benchmarks/missing_labels.py [--shares 0.1 0.3 0.5] [--answers mask pseudo …] [--seeds 3] [--folder RUNS]
    python benchmarks/missing_labels.py --report [--out benchmarks/results]

The targets are the four classes of `defect` and, beside it, the module's `type`. For each seed the rows are divided as
`zoo train` does it; then labels of `defect` are removed from a share of the training rows, completely at random, and
never from held-out rows. Every answer gets the same file:

- `none`: no label is missing;
- `drop`: rows with a hole are left out, `--missing-labels "drop(max=1, max_class=1)"`;
- `mask`: such rows still teach `type`;
- `pseudo`: `--missing-labels pseudo`, with its defaults;
- `two-stage`: half of the epochs as `mask`, then `--from` that run on the complete rows, at a tenth of the rates.

Each run is a run folder: what is finished is not run again, and what was interrupted goes on where it was. The figures
are those of test rows; the epoch is chosen on validation rows. `--freeze "last(1)"` and other options of a run may be
given; they go into the names of the runs. `--report` runs nothing: it prints the table and, with `--out`, writes it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import torch

import zoo
from zoo.data.splits import make_splits
from zoo.data.table import read_table
from zoo.disk import cache_folder
from zoo.probe import device_name

COMMON = {
    "backbone": "lite/efficientnet_lite0",
    "image": "image",
    "target": ("type",),
    "task": ("defect=classification",),  # 0.33 is the name of a class
    "split": "part",
    "crop": "squash",
    "quiet": True,
}
DROP = "drop(max=1, max_class=1)"
ANSWERS = {"none": {}, "drop": {"missing_labels": DROP}, "mask": {}, "pseudo": {"missing_labels": "pseudo"}}
METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss")


def table_of(folder, share, seed):
    """A CSV file of the images, divided by the seed, with a share of the training rows' labels of defect removed."""
    path = folder / f"elpv-{share:g}-{seed}.csv"
    if path.exists():
        return path
    table = read_table("elpv", targets=("defect",))
    splits = make_splits(table, np.ones(len(table), dtype=bool), seed=seed)
    part = np.full(len(table), "train", dtype=object)
    part[splits.val], part[splits.test] = "val", "test"
    order = np.random.default_rng(seed).permutation(splits.train)  # more holes hold the fewer ones
    labels = np.array(table.frame["defect"].to_list(), dtype=object)
    labels[order[: round(share * len(order))]] = None
    columns = {"image": list(map(str, table.paths)), "type": table.frame["type"].to_list()}
    frame = pl.DataFrame({**columns, "defect": labels.tolist(), "part": part.tolist()})
    frame.write_csv(path)
    return path


def run(options, answer, share, seed):
    """One run, from where it is."""
    out = place(options, answer, share, seed)
    if (out / "run.json").exists():
        return
    started = time.perf_counter()
    data = table_of(options.folder, share, seed)
    fields = {**COMMON, "seed": seed, "freeze": options.freeze}
    if (out / "resume.json").exists():
        zoo.resume(out, quiet=True)
    elif answer == "two-stage":
        first, half = out.with_name(f"{out.name}-first"), options.epochs // 2
        if not (first / "run.json").exists():
            zoo.train(data, out=first, epochs=half, overwrite=first.exists(), **fields)
        again = {name: fields[name] for name in ("image", "split", "seed", "freeze", "quiet")}
        rates = rates_of(first)
        zoo.train(
            data, start=first, out=out, epochs=half, missing_labels=DROP, overwrite=out.exists(), **again, **rates
        )
    else:
        zoo.train(data, out=out, epochs=options.epochs, overwrite=out.exists(), **fields, **ANSWERS[answer])
    found = figures(options, answer, share, seed)
    seconds = time.perf_counter() - started
    print(
        f"{answer}, {share:.0%} missing, seed {seed}: macro F1 {found['macro_f1']:.4f} in {seconds:.0f} s", flush=True
    )


def rates_of(first):
    """A tenth of the rates of a finished run."""
    training = json.loads((first / "run.json").read_text())["training"]
    backbone = training["backbone_learning_rate"]
    return {"lr": training["learning_rate"] / 10, **({"backbone_lr": backbone / 10} if backbone else {})}


def place(options, answer, share, seed):
    return options.folder / f"{options.freeze}-{options.epochs}-{answer}-{share:g}-{seed}"


def figures(options, answer, share, seed):
    """Of a finished run, or None."""
    out = place(options, answer, share, seed)
    if not (out / "run.json").exists():
        return None
    metrics, record = (json.loads((out / name).read_text()) for name in ("metrics.json", "run.json"))
    given = record["pseudo_labels"].get("defect", {}).get("taken", {})
    return {
        "seed": seed,
        **{name: metrics["defect"]["test"][name] for name in METRICS},
        "type_accuracy": metrics["type"]["test"]["accuracy"],
        "train_rows": record["data"]["splits"]["train"],
        "pseudo_labels": sum(given.values()),
        "pseudo_labels_right": right(out, table_of(options.folder, 0.0, seed)) if given else None,
    }


def right(out, whole):
    """The share of a run's pseudo-labels of defect that are right."""
    said = pl.read_csv(out / "splits.csv", schema_overrides={"pseudo": pl.String})["pseudo"]
    truth = pl.read_csv(whole, schema_overrides={"defect": pl.String})["defect"].to_list()
    pairs = [(text.partition("=")[2], own) for text, own in zip(said, truth, strict=True) if text]
    return sum(float(label) == float(own) for label, own in pairs) / len(pairs) if pairs else None


def report(options):
    """Every answer with a finished run."""
    rows = []
    for share in (0.0, *options.shares):
        for answer in ("none",) if share == 0 else [name for name in options.answers if name != "none"]:
            runs = [found for seed in range(options.seeds) if (found := figures(options, answer, share, seed))]
            if runs:
                rows.append({"missing": share, "answer": answer, "runs": runs})
    return rows


def markdown(rows):
    """The table; differences are to `drop` at the same share, seed by seed."""
    lines = [
        "| missing | answer | seeds | balanced accuracy | macro F1 | macro F1 over drop | accuracy | log loss | type |",
        "|---:|---|---:|---|---|---|---|---|---|",
    ]
    for row in rows:
        dropped = next((own["runs"] for own in rows if (own["missing"], own["answer"]) == (row["missing"], "drop")), [])
        base = {own["seed"]: own["macro_f1"] for own in dropped}
        more = [own["macro_f1"] - base[own["seed"]] for own in row["runs"] if own["seed"] in base]
        cells = [spread([own[name] for own in row["runs"]]) for name in ("balanced_accuracy", "macro_f1")]
        cells.append(spread(more, sign="+") if more and row["answer"] != "drop" else "")
        cells += [spread([own[name] for own in row["runs"]]) for name in ("accuracy", "log_loss", "type_accuracy")]
        lines.append(f"| {row['missing']:.0%} | {row['answer']} | {len(row['runs'])} | {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values, sign=""):
    """Mean and standard deviation; of one value itself."""
    mean = statistics.mean(values)
    return f"{mean:{sign}.3f} ± {statistics.stdev(values):.3f}" if len(values) > 1 else f"{mean:{sign}.3f}"


def main():
    names = [*ANSWERS, "two-stage"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shares", nargs="+", type=float, default=[0.1, 0.3, 0.5])
    parser.add_argument("--answers", nargs="+", choices=names, default=names)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--freeze", default="head")
    parser.add_argument("--folder", type=Path, default=cache_folder() / "benchmarks" / "missing_labels")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if not options.report:
        options.folder.mkdir(parents=True, exist_ok=True)
        for seed in range(options.seeds):
            for share in (0.0, *options.shares):
                for answer in ("none",) if share == 0 else [name for name in options.answers if name != "none"]:
                    run(options, answer, share, seed)
    rows = report(options)
    print(markdown(rows))
    if options.out:
        today = datetime.now(UTC).date().isoformat()
        machine = {"device": device_name(torch.device("cpu")), "torch": torch.__version__}
        content = {"date": today, "machine": machine, "backbone": COMMON["backbone"], "freeze": options.freeze}
        path = options.out / f"missing_labels-{options.freeze.replace('(', '').replace(')', '')}-{today}.json"
        table = markdown(rows).splitlines()
        path.write_text(
            json.dumps({**content, "epochs": options.epochs, "table": table, "rows": rows}, indent=1) + "\n"
        )
        print(f"written to {path}")


if __name__ == "__main__":
    main()
