"""Check every backbone of torchvision, timm and lite against the contract, and write down what came of it.

    python benchmarks/conformance.py [--out benchmarks/results/conformance-DATE.json]

The same as `zoo check 'timm/*' 'torchvision/*' 'lite/*'`, which can be stopped and goes on where it was; on two cores
it takes about an hour. It also makes the table of timm's parameters, multiply-accumulates and kinds of features that
ships with the plugin: `zoo check 'timm/*' --table plugins/zoo_timm/table.json` writes it out of the same rows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from zoo.config import CheckConfig
from zoo.jobs.check import run_check
from zoo.jobs.progress import Reporter

PATTERNS = ("timm/*", "torchvision/*", "lite/*")


def summary(report):
    """What is committed: counts, exclusions with their reasons, failures, and what it took."""
    names = [(row.parameters["source"], row.parameters["model"]) for row in report.rows]
    seconds = [row.seconds for row in report.rows]
    ok = [row for row in report.rows if row.status == "ok"]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {name: found for row in report.rows for name, found in row.context.items() if name != "code"},
        "code": sorted({row.context["code"] for row in report.rows}),
        "backbones": dict(sorted(Counter(source for source, _ in names).items())),
        "without_memory_for_weights": sum(row.result["device"] == "meta" for row in ok),
        "checks": dict(sorted(report.counts.items())),
        "excluded": [_named(result, "reason") for result in report.results if result.outcome == "excluded"],
        "failed": [_named(result, "message") for result in report.failed],
        "seconds_of_one_backbone": {
            "median": round(statistics.median(seconds), 1),
            "largest": round(max(seconds), 1),
            "sum": round(sum(seconds)),
        },
        "peak_mib_of_one_process": round(max(row.peak_mib for row in report.rows)),
    }


def _named(result, what):
    return {"backbone": result.subject.removeprefix("backbone "), "check": result.check, what: result.message}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--rows", type=Path, help="file that keeps the outcomes; by default in the cache folder")
    options = parser.parse_args()
    config = CheckConfig(what=PATTERNS, jobs=options.jobs, out=options.rows)
    found = summary(run_check(config, Reporter()))
    text = json.dumps(found, indent=2) + "\n"
    sys.stdout.write(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    if found["failed"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
