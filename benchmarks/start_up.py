"""What starting costs: a cold and a warm `zoo list`, `zoo --help`, `import zoo`; all but the first import no torch.

    python benchmarks/start_up.py [--rounds 5] [--out benchmarks/results/start_up-cpu-DATE.json]

Each figure is the wall time of a fresh process, from its start to its end, in rounds of all of them one after the
other; the medians count. `python -c pass` is what Python itself takes. A cold list has an empty cache folder of its
own: every library is imported once to ask what it offers. The limits are those of the design (DESIGN: "Numbers to
hold") on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

CASES = {
    "python_seconds": (["-c", "pass"], None),
    "import_zoo_seconds": (["-c", "import zoo"], 0.1),
    "help_seconds": (["-m", "zoo", "--help"], 0.3),
    "help_of_train_seconds": (["-m", "zoo", "train", "--help"], None),
    "warm_list_seconds": (["-m", "zoo", "list"], 0.3),
    "warm_list_with_options_seconds": (["-m", "zoo", "list", "--limit", "5"], 0.3),
    "warm_list_as_json_seconds": (["-m", "zoo", "list", "--json"], None),
    "cold_list_seconds": (["-m", "zoo", "list", "--limit", "5"], 8.0),
}
LIGHT = tuple(name for name in CASES if name not in ("python_seconds", "cold_list_seconds"))
HEAVY = ("torch", "torchvision", "timm", "polars", "numpy", "sklearn", "matplotlib", "PIL")


def run(words, cache):
    """Seconds of one process; what it prints is thrown away."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, *words], check=True, stdout=subprocess.DEVNULL, env={**os.environ, "ZOO_CACHE": str(cache)}
    )
    return time.perf_counter() - started


def imported(words, cache):
    """The heavy libraries that one process imports, by Python's own account of its imports."""
    found = subprocess.run(
        [sys.executable, "-X", "importtime", *words],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "ZOO_CACHE": str(cache)},
    )
    modules = {line.rpartition("|")[2].strip().partition(".")[0] for line in found.stderr.splitlines()}
    return sorted(modules & set(HEAVY))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    seconds = {name: [] for name in CASES}
    with tempfile.TemporaryDirectory() as folder:
        warm = Path(folder, "warm")
        run(["-m", "zoo", "list", "--limit", "1"], warm)
        for round_ in range(options.rounds):
            for name, (words, _) in CASES.items():
                cache = Path(folder, f"cold{round_}") if name.startswith("cold") else warm
                seconds[name].append(run(words, cache))
        heavy = {name: imported(CASES[name][0], warm) for name in LIGHT}
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("backbone-zoo", "torch", "torchvision", "timm")},
        },
        "rounds": options.rounds,
        "median": {name: round(statistics.median(values), 3) for name, values in seconds.items()},
        "worst": {name: round(max(values), 3) for name, values in seconds.items()},
        "limit": {name: limit for name, (_, limit) in CASES.items() if limit is not None},
        "heavy_imports": heavy,
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    broken = [name for name, limit in result["limit"].items() if result["median"][name] > limit]
    if broken or any(heavy.values()):
        raise SystemExit(f"over the limit: {', '.join(broken) or 'none'}; heavy imports: {heavy}")


if __name__ == "__main__":
    main()
