"""`zoo train` with its defaults, choosing the epoch by the metric that the other sides choose it by."""

from __future__ import annotations

from dataclasses import asdict

# What the job imports on its way, so that it counts as imports here as it does for the other sides.
import matplotlib.pyplot  # noqa: F401
import sklearn.linear_model
import sklearn.model_selection
import sklearn.pipeline  # noqa: F401
import timm  # noqa: F401
import torchmetrics  # noqa: F401
import torchvision  # noqa: F401

import zoo.jobs.train
from sides.common import TARGET, now
from zoo.registry.catalogue import catalogue
from zoo.run.artifact import load_artifact


def run(given):
    """From the table of files to a run folder with the predictions of held-out rows."""
    catalogue()  # the index of what is installed: made once for an installation, not once for a run
    out = given.folder / "run"
    started = now(given.device)
    result = zoo.jobs.train.train(
        given.table,
        backbone=given.scenario.backbone,
        weights=given.scenario.weights,
        freeze=given.scenario.freeze,
        out=out,
        image="image",
        target=(TARGET,),
        split="split",
        epochs=given.epochs,
        batch_size=given.batch_size,
        seed=given.seed,
        device=given.device,
        metric="accuracy",
        quiet=True,
    )
    seconds = now(given.device) - started
    found = result.metrics[TARGET]["test"]
    return {
        "seconds": seconds,
        "parts_seconds": dict(result.run["seconds"]),
        "accuracy": found["accuracy"],
        "balanced_accuracy": found["balanced_accuracy"],
        "frozen_batchnorm": {"statistics_move": False, "affine_trains": False, "how": result.run["freeze"]["verified"]},
        "decisions": [f"{one['what']}: {one['choice']}" for one in result.run["decisions"]],
        "recipe": asdict(load_artifact(out).recipe),
    }
