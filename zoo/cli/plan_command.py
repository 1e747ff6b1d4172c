"""`zoo plan`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.cli.output import parse, write, write_json
from zoo.config import PlanConfig
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.jobs.costs import Prediction


def run(words: Sequence[str]) -> None:
    """Say what a run would cost."""
    config = parse(PlanConfig, "plan", words)
    if config.find_lr:
        raise ZooError("zoo plan is about a run, and --find-lr is none; leave it out")
    from zoo.cli.train_command import show_plans
    from zoo.jobs.costs import predict_costs
    from zoo.jobs.progress import Reporter

    found = predict_costs(config, Reporter(quiet=config.quiet))
    if config.json:
        write_json(_json(found))
        return
    show_plans([(interval, plan) for interval, plan, _ in found.intervals], as_json=False)
    write("\n".join(_lines(found)))


def _lines(found: Prediction) -> list[str]:
    from zoo.data.cache import format_size

    seconds: dict[str, float | None] = {"start and images": found.started}
    named = {"features": "features", "epochs": "epochs", "predict": "held-out rows"}
    for attribute, name in named.items():
        parts = [getattr(costs, attribute) for _, _, costs in found.intervals]
        seconds[name] = None if None in parts else sum(parts)
    said = ", ".join(f"{name} {_text(value)}" for name, value in seconds.items())
    return [
        f"predicted time    {_text(found.total)} ({said})",
        f"predicted memory  {format_size(found.memory)} at the peak",
        f"predicted disk    {format_size(found.disk)} of features, beside the images, which are there now",
    ]


def _text(seconds: float | None) -> str:
    return "not measured" if seconds is None else f"{seconds:.1f} s"


def _json(found: Prediction) -> dict[str, Any]:
    from dataclasses import asdict

    from zoo.cli.train_command import plan_json

    return {
        "start_seconds": found.started,
        "total_seconds": found.total,
        "memory_bytes": found.memory,
        "disk_bytes": found.disk,
        "intervals": [
            {**plan_json(interval, plan), "costs": {**asdict(costs), "total": costs.total}}
            for interval, plan, costs in found.intervals
        ],
    }
