"""What the rows of `fine_tuning.py` say: medians, ratios round by round, the bars, a result file, a Markdown table."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from sides.entry import SCENARIOS

FASTER = {"head": 30.0, "last": 5.0, "everything-lite0": 1.5, "everything-resnet18": 3.0}
"""`zoo` is at least so many times as fast as the tutorial's loop and as fastai, on a CPU."""

OF_THE_LIMIT = 1.2
"""Head-only training takes at most so many times as long as the limit."""

TRAINED_OUT = ("head", "last")
"""Scenarios with epochs enough that accuracies may be compared."""


@dataclass(frozen=True)
class Planned:
    """A row that the options ask for; `parameters` are those that it is found by."""

    scenario: str
    side: str
    seed: int
    parameters: dict
    missing: bool


def summary(options, planned, rows):
    """Everything that the result file holds."""
    chosen = {(one.scenario, one.side, one.seed): _latest(one, rows) for one in planned}
    scenarios = {}
    for name in dict.fromkeys(one.scenario for one in planned):
        own = [one for one in planned if one.scenario == name]
        sides = {}
        for side in dict.fromkeys(one.side for one in own):
            held = [chosen[name, side, one.seed] for one in own if one.side == side]
            sides[side] = _side([row for row in held if row], any(one.missing for one in own if one.side == side))
        scenario = SCENARIOS[name]
        scenarios[name] = {
            "backbone": scenario.backbone,
            "weights": scenario.weights or "pretrained",
            "freeze": scenario.freeze,
            "epochs": own[0].parameters["epochs"],
            "sides": sides,
            "against": {side: _against(side, sides["zoo"], sides[side]) for side in sides if side != "zoo"}
            if "zoo" in sides
            else {},
        }
    found = [row for row in chosen.values() if row]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": _machine(found),
        "versions": {"python": platform.python_version(), "backbone-zoo": version("backbone-zoo")}
        | {key: value for row in found for key, value in row.context.items() if key != "code"},
        "codes": {
            side: sorted({row.context["code"] for row in found if row.parameters["side"] == side})
            for side in dict.fromkeys(one.side for one in planned)
        },
        "rows": options.rows or "all",
        "batch_size": options.batch_size,
        "device": options.device,
        "scenarios": scenarios,
        "bars": _bars(scenarios) if options.device == "cpu" else [],
        "failures": [
            f"{row.parameters['scenario']}, {row.parameters['side']}, seed {row.seed}: {row.status}: {_message(row)}"
            for row in found
            if row.status != "ok"
        ],
        "without_a_row": [f"{name}, {side}, seed {seed}" for (name, side, seed), row in chosen.items() if not row],
    }


def _latest(one, rows):
    """The row that finished last of those with these parameters, whatever code it was made by."""
    fitting = [row for row in rows if row.seed == one.seed and row.parameters.items() >= one.parameters.items()]
    return max(fitting, key=lambda row: row.finished, default=None)


def _side(rows, missing):
    """Medians of one side over its rounds, and the rounds."""
    good = [row for row in rows if row.status == "ok"]
    found = {"status": "ok" if good else "failed" if rows else "not installed" if missing else "not run"}
    if good:
        seconds = [row.result["seconds"] for row in good]
        found |= {
            "seconds": {
                "median": _round(statistics.median(seconds)),
                "min": _round(min(seconds)),
                "max": _round(max(seconds)),
            },
            "import_seconds": _round(statistics.median(row.result["import_seconds"] for row in good)),
            "process_seconds": _round(statistics.median(row.seconds for row in good)),
            "peak_mib": round(max(row.peak_mib for row in good)),
        }
        for metric in ("accuracy", "balanced_accuracy"):
            if metric in good[0].result:
                found[metric] = _mean([row.result[metric] for row in good])
    rounds = [
        {
            "seed": row.seed,
            "finished": row.finished,
            "status": row.status,
            **({"message": _message(row)} if row.status != "ok" else {**row.result, "process_seconds": row.seconds}),
        }
        for row in rows
    ]
    return {**found, "rounds": rounds}


def _message(row):
    """Why a row failed, without the folders of the machine on which it did."""
    return re.sub(r"/[\w./@+-]+/", "…/", row.message)


def _against(side, zoo, other):
    """Ratio of the times and difference of the accuracies, of the rounds that both sides finished."""
    pairs = [(ours, theirs) for ours in _good(zoo) for theirs in _good(other) if ours["seed"] == theirs["seed"]]
    if not pairs:
        return {"rounds": 0}
    if side == "limit":
        whole = [b["seconds"] + b["parts_seconds"]["build"] + b["parts_seconds"]["hash"] for _, b in pairs]
        return {
            "rounds": len(pairs),
            "zoo_over_limit": _spread([a["seconds"] / b["seconds"] for a, b in pairs]),
            "zoo_over_limit_with_activations_fused": _spread([a["seconds"] / _fused(b) for a, b in pairs]),
            "zoo_over_limit_with_building_and_hashing": _spread(
                [a["seconds"] / own for (a, _), own in zip(pairs, whole, strict=True)]
            ),
        }
    return {
        "rounds": len(pairs),
        "times_faster": _spread([b["seconds"] / a["seconds"] for a, b in pairs]),
        **{
            f"{metric}_difference": _mean([a[metric] - b[metric] for a, b in pairs])
            for metric in ("accuracy", "balanced_accuracy")
        },
    }


def _fused(limit):
    """Seconds of the limit where convolutions compute their activations too."""
    parts = limit["parts_seconds"]
    return limit["seconds"] - parts["forward"] + parts["fused_forward"]


def _good(side):
    return [one for one in side["rounds"] if one["status"] == "ok"]


def _bars(scenarios):
    bars = []
    for name, scenario in scenarios.items():
        for side, found in scenario["against"].items():
            if not found["rounds"]:
                continue
            few = "" if found["rounds"] >= 3 else f" ({found['rounds']} of 3 rounds)"
            if side == "limit":
                value = found["zoo_over_limit"]["median"]
                what = f"{name}: time over that of the limit{few}"
                bars.append({"what": what, "value": value, "bar": f"<= {OF_THE_LIMIT}", "holds": value <= OF_THE_LIMIT})
                continue
            value, least = found["times_faster"]["median"], FASTER[name]
            what = f"{name}: times faster than {side}{few}"
            bars.append({"what": what, "value": value, "bar": f">= {least}", "holds": value >= least})
            bars += [_accuracy_bar(name, side, scenario)] if name in TRAINED_OUT and found["rounds"] > 1 else []
    return bars


def _accuracy_bar(name, side, scenario):
    """No worse than the other side by more than the larger spread over the seeds of the two."""
    noise = max(scenario["sides"][one]["accuracy"]["std"] or 0.0 for one in ("zoo", side))
    value = scenario["against"][side]["accuracy_difference"]["mean"]
    what = f"{name}: accuracy less that of {side}"
    return {"what": what, "value": value, "bar": f">= {-noise:.4f}, the spread over seeds", "holds": value >= -noise}


def markdown(found):
    """The table for people, then the bars."""
    lines = [
        "| scenario | side | rounds | seconds, median (range) | zoo is faster, times (range) | accuracy "
        "| balanced accuracy | frozen BatchNorm | imports, s | process, s | peak, MiB |",
        "|---|---|---:|---|---|---|---|---|---:|---:|---:|",
    ]
    for name, scenario in found["scenarios"].items():
        title = f"{name}: {scenario['backbone']}, {scenario['weights']}, {scenario['epochs']} epochs"
        for side, own in scenario["sides"].items():
            lines.append("| " + " | ".join([title, side, *_cells(own, scenario["against"].get(side))]) + " |")
            title = ""
    lines += [
        f"- {bar['what']}: {bar['value']:.4g} (bar {bar['bar']}): {'holds' if bar['holds'] else 'FAILS'}"
        for bar in found["bars"]
    ]
    lines += [
        f"- NOTE: the rows of {side} were made by {len(codes)} versions of the code; run again to have them of one"
        for side, codes in found["codes"].items()
        if len(codes) > 1
    ]
    lines += [f"- FAILED: {text}" for text in found["failures"]]
    return "\n".join(lines)


def _cells(own, against):
    good = len(_good(own))
    if own["status"] != "ok":
        messages = dict.fromkeys(one["message"] for one in own["rounds"] if "message" in one)
        return [str(good), "; ".join([own["status"], *messages]), *["–"] * 7]
    seconds = own["seconds"]
    ratio = "–"
    if against and against["rounds"]:
        ratio = _show(against["times_faster"]) if "times_faster" in against else (
            f"zoo takes {_show(against['zoo_over_limit'])} of it; "
            f"{_show(against['zoo_over_limit_with_building_and_hashing'])} with building and hashing; "
            f"{_show(against['zoo_over_limit_with_activations_fused'])} where it fuses activations too"
        )  # fmt: skip
    scores = [_plus_minus(own[metric]) if metric in own else "–" for metric in ("accuracy", "balanced_accuracy")]
    return [
        f"{good}" if good == len(own["rounds"]) else f"{good}, {len(own['rounds']) - good} failed",
        f"{seconds['median']:.1f} ({seconds['min']:.1f}–{seconds['max']:.1f})",
        ratio,
        *scores,
        _norms(_good(own)[0].get("frozen_batchnorm")),
        f"{own['import_seconds']:.1f}",
        f"{own['process_seconds']:.1f}",
        f"{own['peak_mib']}",
    ]


def _norms(found):
    if not found:
        return "–"
    if found.get("layers") == 0 or found.get("how") == "nothing was frozen":
        return "none is frozen"
    moved = [
        text for key, text in (("statistics_move", "statistics move"), ("affine_trains", "affine trains")) if found[key]
    ]
    return ", ".join(moved) or "stands still"


def _show(spread):
    return f"{spread['median']:.2f} ({spread['min']:.2f}–{spread['max']:.2f})"


def _plus_minus(mean):
    return f"{mean['mean']:.3f}" + (f" ± {mean['std']:.3f}" if mean["std"] is not None else "")


def _spread(values):
    return {"median": round(statistics.median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3)}


def _mean(values):
    std = round(statistics.stdev(values), 4) if len(values) > 1 else None
    return {"mean": round(statistics.fmean(values), 4), "std": std}


def _round(seconds):
    return round(seconds, 2)


def _machine(rows):
    """The machine that runs the report, which is the one that ran the rows; the GPU as the sides saw it."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    settings = [row.result["settings"] for row in rows if row.status == "ok"]
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "threads": sorted({one["threads"] for one in settings}),
        "gpu": next((one["gpu"] for one in settings if "gpu" in one), None),
    }


def write(found, options):
    """Write the dated result file; returns its path."""
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"fine_tuning-{options.device.partition(':')[0]}-{found['date']}.json"
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return path
