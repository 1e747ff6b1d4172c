"""Cut every backbone of torchvision and timm where its freeze policies leave a boundary; which cannot be, and why.

    python benchmarks/cuts.py [--out benchmarks/results/cuts-DATE.json] [--real-gmacs 1]

Four boundaries of each: before the last stage, the last two, the later half, and all but the first. The boundary is
planned on the meta device; of networks below --real-gmacs the two parts are also compared with the whole by numbers,
features and gradients, in eval and in training mode, as every run does before it trains. Rows are kept in --rows, so
that a sweep that was stopped goes on; on two cores it takes about an hour.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from zoo.disk import cache_folder
from zoo.grid.run import failed, run_grid
from zoo.grid.worker import Limits
from zoo.registry.catalogue import catalogue
from zoo.testing.cuts import cut_cells

SOURCES = ("torchvision", "timm", "lite")


def cells(real_gmacs):
    found = []
    for source in SOURCES:
        rows = [row for row in catalogue().rows if row.source == source]
        real = [row.entry.name for row in rows if row.entry.gmacs is not None and row.entry.gmacs <= real_gmacs]
        found += cut_cells(source, [row.entry.name for row in rows], real=real)
    return found


def summary(rows):
    """What is committed: counts, and every boundary at which a network cannot be cut, with the reason."""
    outcomes, refused, whole = Counter(), {}, Counter()
    for row in rows:
        name = f"{row.parameters['source']}/{row.parameters['model']}"
        if row.status != "ok":
            outcomes["failed"] += 1
            refused[name] = {"all": f"{row.status}: {row.message}"}
            continue
        cuts = row.result["cuts"]
        bad = {policy: found["why_not"] for policy, found in cuts.items() if "why_not" in found}
        outcomes["boundaries cut"] += len(cuts) - len(bad)
        outcomes["boundaries not cut"] += len(bad)
        whole["cut at every boundary tried" if not bad else "not at every boundary"] += 1
        whole["several tensors cross somewhere"] += any(len(found.get("crossings", ())) > 1 for found in cuts.values())
        whole["compared by numbers"] += bool(row.parameters["real"])
        if bad:
            refused[name] = bad
    boundaries = outcomes["boundaries cut"] + outcomes["boundaries not cut"]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {name: found for row in rows for name, found in row.context.items() if name != "code"},
        "backbones": len(rows),
        **whole,
        **outcomes,
        "share_of_boundaries": round(outcomes["boundaries cut"] / max(1, boundaries), 4),
        "cannot_be_cut": refused,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rows", type=Path, help="file that keeps the outcomes; by default in the cache folder")
    parser.add_argument("--real-gmacs", type=float, default=1.0, help="compare by numbers up to so many GMACs")
    options = parser.parse_args()
    shown = sys.stderr.isatty()

    def progress(done, total):
        if shown or done % 100 == 0:
            sys.stderr.write(f"{done} of {total}\n")

    rows = run_grid(
        cells(options.real_gmacs),
        options.rows or cache_folder() / "cuts.jsonl",
        jobs=options.jobs,
        limits=Limits(seconds=600, mib=12 * 1024),
        retry=failed,
        preload=("zoo.testing.cuts", "timm", "torchvision"),
        progress=progress,
    )
    found = summary(rows)
    text = json.dumps(found, indent=2) + "\n"
    sys.stdout.write(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
