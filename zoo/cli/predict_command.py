"""`zoo predict`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from zoo.cli.output import parse, write, write_json
from zoo.config import PredictConfig


def run(words: Sequence[str]) -> None:
    """Predict, and print or write the predictions."""
    config = parse(PredictConfig, "predict", words)
    from zoo.jobs.predict import run_prediction
    from zoo.jobs.progress import Reporter

    found = run_prediction(config, Reporter(quiet=config.quiet))
    for warning in found.warnings:
        sys.stderr.write(f"zoo predict: {warning}\n")
    for image, reason in found.dropped.items():
        sys.stderr.write(f"zoo predict: left out {image}: {reason}\n")
    if config.json:
        write_json(found.frame.to_dicts())
    elif config.out is not None:
        write(f"{len(found.frame)} predictions in {config.out}")
    else:
        write(found.frame.write_csv().rstrip("\n"))
