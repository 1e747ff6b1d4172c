"""BatchNorm statistics before a run: kept, left to move, or learned anew from the training images."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from zoo.config import TrainConfig
from zoo.errors import ZooError
from zoo.features.extract import Progress
from zoo.features.prefix import normalise
from zoo.jobs.data import Prepared
from zoo.jobs.progress import Reporter
from zoo.model.batchnorm import BatchNormMode, batch_norms, default_mode, recalibrate
from zoo.model.network import FineTuneModel
from zoo.specs import BackboneView

BATCH = 64
"""Images whose variance is one observation."""


def batchnorm_mode(config: TrainConfig, view: BackboneView) -> BatchNormMode:
    """The mode that a run takes.

    Raises:
        ZooError: `recalibrate`, and there is no BatchNorm.
    """
    mode = config.batchnorm or default_mode(view.weights)
    if mode == "recalibrate" and not batch_norms(view.module):
        raise ZooError(f"{view.name} has no BatchNorm to recalibrate; leave out --batchnorm")
    return mode


def settle(
    config: TrainConfig, data: Prepared, model: FineTuneModel, device: torch.device, reporter: Reporter
) -> BatchNormMode:
    """Which way the run takes; where statistics are learned anew, they are when this returns.

    Raises:
        ZooError: as `batchnorm_mode`.
    """
    mode = batchnorm_mode(config, model.view)
    if mode != "recalibrate":
        return mode
    layers = batch_norms(model.backbone)
    model.to(device)
    with reporter.bar("recalibrating BatchNorm", "images") as progress:
        recalibrate(model.backbone, model.features, layers.values(), _batches(config, data, model, device, progress))
    return mode


def _batches(
    config: TrainConfig, data: Prepared, model: FineTuneModel, device: torch.device, progress: Progress | None
) -> Iterator[Tensor]:
    """Training images (B, C, H, W), normalised, in an order that mixes the classes; a smaller rest is left out."""
    order = torch.randperm(len(data.splits.train), generator=torch.Generator().manual_seed(config.seed))
    rows = torch.from_numpy(data.splits.train)[order]
    parts = torch.split(rows, BATCH)
    for done, part in enumerate(parts[:-1] if len(parts) > 1 and len(parts[-1]) < BATCH else parts):
        pixels = data.images.pixels(part.numpy()).to(device)
        yield normalise(pixels, model.view.input)
        if progress:
            progress((done + 1) * BATCH, len(rows))
