"""How fast `zoo train` fine-tunes: against the tutorial's loop, against fastai, and against the physical limit.

    python benchmarks/fine_tuning.py [--rounds 3] [--rows N] [--epochs 10 | head=10 …] [--scenarios head last …]
        [--sides zoo limit tutorial …] [--device cuda] [--budget SECONDS]
    python benchmarks/fine_tuning.py --report [the same options]

Scenarios: the classifier alone trains (head), the last stage too (last), everything of a depthwise network
(everything-lite0) and of a residual one with random weights (everything-resnet18). In each round every side does the
same task in turn: fresh process, empty cache, same files, rows, network, trainable layers and batch size; the round's
seed divides the rows. The time is from the table of files to predictions for held-out rows.

Every outcome, a failure too, is a row of a file of JSON lines: what was stopped goes on when it is run again, and
failures are tried again. `--report` runs nothing; it writes the rows' summary to benchmarks/results and prints the
Markdown table. benchmarks/README.md says what each column means.
"""

from __future__ import annotations

import argparse
import os
import time
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from fine_tuning_report import Planned, markdown, summary, write
from sides.entry import MODULES, SCENARIOS

from zoo.disk import cache_folder
from zoo.grid.rows import Cell, RowFile
from zoo.grid.run import failed, run_grid
from zoo.grid.worker import Limits
from zoo.registry.digest import package_digest

OURS = ("zoo", "limit")


def context(side):
    """What a row depends on beside its parameters; the expensive rows of the others outlive changes of our code."""
    found = {name: _version(name) for name in ("torch", "torchvision")}
    codes = ["sides.entry", "sides.common", MODULES[side]]
    if side in OURS:
        codes += ["zoo", "zoo_lite", "zoo_torchvision"]
    elif side.startswith("fastai"):
        found["fastai"] = _version("fastai")
    return {**found, "code": "-".join(package_digest(code)[:8] for code in codes)}


def _version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


def plan(options):
    """(scenario, side, seed) in the order of the runs: round by round, so that the sides take turns."""
    for seed in range(options.seed, options.seed + options.rounds):
        for name in options.scenarios:
            own = SCENARIOS[name].sides
            for side in options.sides or own:
                # The limit is one of head-only training, and fine_tune is another way to train everything.
                if side in own or side.endswith("-amp") or (side == "fastai-fine_tune" and name == "everything-lite0"):
                    yield name, side, seed


def not_installed(side):
    """Whether a side is a library that is not there; its cells are passed over, and the report says so."""
    return side.startswith("fastai") and find_spec("fastai") is None


def parameters(options, scenario, side):
    """What a cell is made of, and what a report finds it by."""
    return {
        "scenario": scenario,
        "side": side,
        "rows": options.rows,
        "epochs": options.epochs.get(scenario, SCENARIOS[scenario].epochs),
        "batch_size": options.batch_size,
        "device": options.device,
    }


def cell(options, scenario, side, seed, zoo):
    """The cell of one side; that of `limit` takes the recipe that `zoo` chose in this round."""
    extra = {"recipe": zoo.result["recipe"]} if side == "limit" else {}
    return Cell(
        task="sides.entry:run",
        parameters=parameters(options, scenario, side) | extra,
        seed=seed,
        context=context(side),
    )


def compute(options):
    """Run what has no row yet, within the budget; returns how many are left."""
    started, left, latest = time.monotonic(), 0, {}
    limits = Limits(seconds=options.limit, mib=float("inf"), threads=os.cpu_count() or 1)
    for name, side, seed in plan(options):
        if not_installed(side):
            continue
        zoo = latest.get((name, seed))
        if side == "limit" and (zoo is None or failed(zoo)):
            say(f"round {seed}: {name}, limit: skipped, because it follows the recipe of a zoo row, and there is none")
            left += 1
            continue
        wanted = cell(options, name, side, seed, zoo)
        known = RowFile(options.file).read().get(wanted.key)
        done = known is not None and not failed(known)
        if not done and options.budget and time.monotonic() - started > options.budget:
            left += 1
            continue
        [row] = run_grid([wanted], options.file, limits=limits, retry=failed)
        if side == "zoo":
            latest[name, seed] = row
        say(f"round {seed}: {name}, {side}: {told(row)}{' (kept from before)' if done else ''}")
    return left


def told(row):
    """One row in a line, and the end of its output where it failed."""
    if failed(row):
        return f"FAILED, {row.status}: {row.message}\n{row.output}"
    found = row.result
    rates = f", accuracy {found['accuracy']:.3f}" if "accuracy" in found else ""
    return f"{found['seconds']:.1f} s (imports {found['import_seconds']:.1f} s more){rates}"


def epochs(texts):
    """`10` for every scenario, or `head=10 last=5`."""
    found = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        if name and name not in SCENARIOS:
            raise SystemExit(f"--epochs {text}: the scenarios are {', '.join(SCENARIOS)}")
        found |= dict.fromkeys([name] if name else SCENARIOS, int(number))
    return found


def say(text):
    print(text, flush=True)


def read(words=None):
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--sides", nargs="+", choices=MODULES, help="by default those of each scenario")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=0, help="a fixed stratified part of the 2,624 rows; 0 for all")
    parser.add_argument("--epochs", nargs="+", default=[], metavar="[SCENARIO=]N")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0, help="of the first round; each round adds one")
    parser.add_argument("--budget", type=float, default=0, metavar="SECONDS", help="start nothing after so long")
    parser.add_argument("--limit", type=float, default=4 * 3600, metavar="SECONDS", help="stop a side after so long")
    parser.add_argument("--file", type=Path, default=cache_folder() / "benchmarks" / "fine_tuning.jsonl")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder for --report")
    parser.add_argument("--report", action="store_true", help="run nothing, write and print what the rows say")
    options = parser.parse_args(words)
    options.epochs = epochs(options.epochs)
    return options


def main():
    options = read()
    if not_installed("fastai"):
        say('fastai is not installed, so it is left out: pip install "backbone-zoo[bench]"')
    left = 0 if options.report else compute(options)
    planned = [Planned(*key, parameters(options, *key[:2]), not_installed(key[1])) for key in plan(options)]
    found = summary(options, planned, RowFile(options.file).read().values())
    say(markdown(found))
    if options.report:
        say(f"written to {write(found, options)}")
    if left:
        raise SystemExit(f"{left} runs are left; the same command goes on with them")
    wrong = [bar["what"] for bar in found["bars"] if not bar["holds"]]
    if found["failures"] or wrong:
        raise SystemExit(f"{len(found['failures'])} failed rows; bars not held: {', '.join(wrong) or 'none'}")


if __name__ == "__main__":
    main()
