"""One run of a comparison: a strategy trained with one seed, and its figures on validation and test rows."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.config import TrainConfig
from zoo.errors import OptionError, ZooError
from zoo.jobs.fitting import fit
from zoo.jobs.job import Fitted, Job
from zoo.jobs.outcome import artifact_of, held_out, score
from zoo.jobs.progress import Reporter
from zoo.jobs.start import Clock, start_job
from zoo.metrics.choice import METRICS, OF_CLASS


def try_strategy(parameters: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The figures of one run, those that `zoo train` with the same options gives; or the reason why there are none.

    Args:
        parameters: `train`, fields of `TrainConfig`; `imbalance`, a strategy expression, or `none`.
        seed: of the split and of training.
    """
    given = {name: tuple(own) if isinstance(own, list) else own for name, own in parameters["train"].items()}
    text = parameters["imbalance"]
    with tempfile.TemporaryDirectory(prefix="zoo-compare-") as folder:  # its state is of no use: it is done in a moment
        options: dict[str, Any] = {**given, "seed": seed, "out": Path(folder), "quiet": True}
        config = TrainConfig(**options, imbalance=() if text == "none" else (text,))
        try:
            job = start_job(config, Reporter(quiet=True), Clock(), claimed=False)
            fitted = fit(job)
            return _figures(job, fitted)
        except ZooError as error:
            return {"refused": error.message if isinstance(error, OptionError) else str(error)}


def _figures(job: Job, fitted: Fitted) -> dict[str, Any]:
    held, task, data = held_out(job, artifact_of(job, fitted), fitted.prefix), job.data.tasks[0], job.data
    counts = data.view.statistics(task.name).counts
    found = score(held.predicted, held.targets, held.splits, [task])[task.name]
    return {
        "scores": {split: _flat(own) for split, own in found.items()},
        "undefined": {split: own["undefined"] for split, own in found.items()},
        "rows": {split: len(getattr(data.splits, split)) for split in ("train", "val", "test")},
        "support": {
            split: {name: own["support"] for name, own in each["per_class"].items()} for split, each in found.items()
        },
        "target": task.name,
        "counts": dict(zip(task.classes, counts, strict=True)),
        "corrected": job.answered[-1][task.name].corrected,
        "best_epoch": fitted.fit.best_epoch,
        "seconds": {name: round(value, 4) for name, value in fitted.seconds.items()},
        "weights": job.model.view.weights,
        "split": data.splits.how,
        "held_out": {split: _digest(getattr(data.splits, split)) for split in ("val", "test")},
        "notes": [*data.table.notes, *data.warnings],
    }


def _digest(rows: NDArray[np.int64]) -> str:
    """Tells whether two seeds hold out the same rows."""
    return hashlib.blake2b(rows.tobytes(), digest_size=8).hexdigest()


def _flat(scores: Mapping[str, Any]) -> dict[str, float | None]:
    """Every metric that may choose, those of one class as `recall(NAME)`."""
    whole = {name: scores[name] for name in METRICS}
    return whole | {f"{name}({own})": of[name] for own, of in scores["per_class"].items() for name in OF_CLASS}
