"""`zoo evaluate`."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.cli.output import parse, write, write_json
from zoo.config import EvaluateConfig


def run(words: Sequence[str]) -> None:
    """Score a run and show the figures by class."""
    config = parse(EvaluateConfig, "evaluate", words)
    from zoo.cli.train_command import figures
    from zoo.jobs.evaluate import run_evaluation
    from zoo.jobs.progress import Reporter

    found = run_evaluation(config, Reporter(quiet=config.quiet))
    if config.json:
        write_json({"rows": found.rows, "which": found.which, "warnings": found.warnings, "metrics": found.metrics})
        return
    write(found.which)
    for warning in found.warnings:
        write(f"note: {warning}")
    for task, scores in found.metrics.items():
        write(f"{task}: {figures(scores)}")
        width = max(map(len, scores["per_class"]))
        for name, own in scores["per_class"].items():
            shown = [
                f"{key} {'undefined' if own[key] is None else format(own[key], '.3f')}"
                for key in ("precision", "recall", "f1")
            ]
            write(f"  {name:<{width}}  {'  '.join(shown)}  rows {own['support']}")
        for what, reason in scores["undefined"].items():
            write(f"  {what} is undefined: {reason}")
