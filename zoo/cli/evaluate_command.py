"""`zoo evaluate`."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.cli.output import parse, write, write_json
from zoo.config import EvaluateConfig


def run(words: Sequence[str]) -> None:
    """Score a run and show every figure, of all classes and of each."""
    config = parse(EvaluateConfig, "evaluate", words)
    from zoo.cli.figures import report
    from zoo.jobs.evaluate import run_evaluation
    from zoo.jobs.progress import Reporter
    from zoo.report.scores import figures

    found = run_evaluation(config, Reporter(quiet=config.quiet))
    if config.json:
        write_json({"rows": found.rows, "which": found.which, "warnings": found.warnings, "metrics": found.metrics})
        return
    write(found.which)
    for warning in found.warnings:
        write(f"note: {warning}")
    for task, scores in found.metrics.items():
        write(f"{task}: {figures(scores)}")
        for line in report(scores):
            write(f"  {line}".rstrip())
