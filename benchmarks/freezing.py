"""Whether each kind of freeze policy trains what it names and nothing else, on the smallest backbone of every family.

    python benchmarks/freezing.py [--out benchmarks/results/freezing-DATE.json]
    python benchmarks/freezing.py --backbones 'timm/test_*'
    python benchmarks/freezing.py --join ROWS.jsonl … --out benchmarks/results/freezing-DATE.json

Random weights, images of 96 pixels where the network takes them, two epochs of one batch in each interval, by the loop
and the optimiser of `zoo train`, without weight decay: `zoo/testing/freezing.py`. What an interval froze, buffers among
it, must be bit for bit what it was, and what it trains must have moved. A tensor that did not is listed, with whether
the head's features depend on it. Rows are kept in --rows, so that what was stopped goes on; with one job the whole
takes about three hours. `--join` runs nothing and sums up files of rows, of a backbone the row of the last file that
has it: what was mended, or ran elsewhere, need not be run with all the rest.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from zoo.disk import cache_folder
from zoo.grid.rows import RowFile
from zoo.grid.run import failed, run_grid
from zoo.grid.worker import Limits
from zoo.registry.catalogue import catalogue
from zoo.testing.families import smallest_of_families
from zoo.testing.freezing import KINDS, freezing_cells

SOURCES = ("torchvision", "timm", "lite")


def cells(patterns):
    rows = [row for row in catalogue().rows if row.source in SOURCES]
    if patterns:
        chosen = [row for row in rows if any(fnmatch.fnmatch(row.name, pattern) for pattern in patterns)]
    else:
        chosen = smallest_of_families(rows)
    chosen = sorted(chosen, key=lambda row: row.entry.parameters or 0)  # what was stopped has done the most it could
    return [cell for row in chosen for cell in freezing_cells(row.source, [row.entry.name])]


def summary(rows):
    """What is committed: counts by kind, and every tensor that trained and stood still."""
    kinds = {kind: Counter() for kind in KINDS}
    still, refused, broken = {}, {}, {}
    for row in rows:
        name = f"{row.parameters['source']}/{row.parameters['model']}"
        if row.status != "ok":
            broken[name] = {"all": f"{row.status}: {row.message}"}
            continue
        for kind, found in row.result.items():
            if "refused" in found:
                kinds[kind]["refused"] += 1
                refused.setdefault(name, {})[kind] = found["refused"]
                continue
            if "failed" in found:
                kinds[kind]["failed"] += 1
                broken.setdefault(name, {})[kind] = found["failed"]
                continue
            kinds[kind]["trained"] += 1
            for interval in found["intervals"]:
                moved = interval["trainable"] - len(interval["still"])
                kinds[kind].update(frozen_tensors_compared=interval["frozen"], tensors_moved=moved)
                for why in interval["still"].values():
                    kinds[kind][f"tensors_still_{why}"] += 1
                if interval["still"]:
                    still.setdefault(name, {}).setdefault(kind, {}).update(interval["still"])
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {name: found for row in rows for name, found in row.context.items() if name != "code"},
        "days": sorted({row.finished[:10] for row in rows}),
        "backbones": len(rows),
        "kinds": kinds,
        "failed": broken,
        "refused": refused,
        "trained_and_stood_still": still,
        "seconds": round(sum(row.seconds for row in rows)),
    }


def joined(paths):
    """The rows of several files; of one backbone the row of the last file that has it."""
    found = {}
    for path in paths:
        found |= {(row.parameters["source"], row.parameters["model"]): row for row in RowFile(path).read().values()}
    return list(found.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--rows", type=Path, help="file that keeps the outcomes; by default in the cache folder")
    parser.add_argument("--backbones", nargs="+", help="patterns of names, instead of the sample")
    parser.add_argument("--join", nargs="+", type=Path, help="sum up these files of rows instead")
    options = parser.parse_args()
    shown = sys.stderr.isatty()

    def progress(done, total):
        if shown or done % 10 == 0:
            sys.stderr.write(f"{done} of {total}\n")

    if options.join:
        rows = joined(options.join)
    else:
        rows = run_grid(
            cells(options.backbones),
            options.rows or cache_folder() / "benchmarks" / "freezing.jsonl",
            jobs=options.jobs,
            limits=Limits(seconds=3600, mib=8 * 1024),
            retry=failed,
            preload=("zoo.testing.freezing", "timm", "torchvision"),
            progress=progress,
        )
    found = summary(rows)
    text = json.dumps(found, indent=2) + "\n"
    sys.stdout.write(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    if found["failed"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
