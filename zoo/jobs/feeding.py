"""What the loop of a run feeds on: kept, computed as it goes, or images; and what heads know of it beforehand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.features.extract import Kept, Progress, keep, prefix_parts
from zoo.features.prefix import normalise
from zoo.jobs.job import Job
from zoo.jobs.planning import Plan, behind, kept_views, plain_rows
from zoo.model.network import STATISTICS_ROWS
from zoo.training.inputs import CachedFeatures, Inputs, StoredFeatures
from zoo.training.live import LiveFeatures, Pixels
from zoo.training.mixing import hard_labels
from zoo.training.per_class import ClassViews
from zoo.training.prefetch import Prefetched

STANDARDISE_ROWS = 128
"""At most so many training rows feature statistics are learned from where the backbone goes on training."""


def inputs_of(job: Job, plan: Plan) -> tuple[Inputs, list[Kept]]:
    """What the loop feeds on, and what was kept for it."""
    images, device = job.data.images, job.device
    views = job.config.views if job.augmenter else None
    shown_by: dict[str, Any] = {"augment": job.augmenter, "views": views, "by_class": _by_class(job)}
    if plan.mode == "whole":
        last = plan.compute.channels_last
        return Prefetched(Pixels(images, device, channels_last=last, **shown_by)), []
    if plan.mode == "live":
        return Prefetched(LiveFeatures(plan.prefix, images, **shown_by)), []
    train, plain = job.data.splits.train, plain_rows(job, plan.boundary, plan.views)
    shown_views = kept_views(job, plan.views)
    total, done = len(plain) + len(shown_views) * len(train), 0
    kept = []
    with job.reporter.bar("computing features", "images") as progress:
        for view, rows in [(None, plain), *((view, train) for view in shown_views)]:
            shown = _shifted(progress, done, total)
            digest, cache = plan.digest, job.cache
            options: dict[str, Any] = {"digest": digest, "cache": cache, "view": view, "progress": shown}
            kept.append(keep(plan.prefix, images, rows, **options, group=job.group))
            done += len(rows)
    positions = [_positions(len(job.data.table), rows) for rows in (plain, train)]
    options = {"view_positions": positions[1], "dtype": plan.compute.dtype, "seed": job.config.seed}
    if not plan.resident:
        return Prefetched(StoredFeatures(kept[0], positions[0], device, views=kept[1:], **options)), kept
    return CachedFeatures(kept[0].load(), positions[0], device, views=[k.load() for k in kept[1:]], **options), kept


def _by_class(job: Job) -> ClassViews | None:
    """What shows some classes in a way of their own, where a strategy asks for it."""
    for name, answer in job.answers.items():
        if answer.class_transforms:
            labels, spec = hard_labels(job.data.targets[name]), job.data.images.spec
            return ClassViews(answer.class_transforms, labels, job.config.seed, spec)
    return None


def _shifted(progress: Progress | None, start: int, total: int) -> Progress | None:
    return None if progress is None else lambda done, _: progress(start + done, total)


def _positions(rows_of_table: int, rows: NDArray[np.int64]) -> Tensor:
    positions = torch.full((rows_of_table,), -1, dtype=torch.int64)
    positions[torch.from_numpy(rows)] = torch.arange(len(rows))
    return positions


def standardise(job: Job, plan: Plan, kept: list[Kept]) -> None:
    """Learn the features' statistics from training rows: of all where they are there, else of a sample."""
    train, statistics = job.data.splits.train, job.model.heads.standardise
    sample = train if plan.boundary.whole else train[:: math.ceil(len(train) / STANDARDISE_ROWS)]
    statistics.cpu()
    statistics.fit_parts(_features(job, plan, kept, sample))
    statistics.to(job.device)
    job.group.copy(statistics.buffers())


@torch.no_grad()
def _features(job: Job, plan: Plan, kept: list[Kept], rows: NDArray[np.int64]) -> Iterator[Tensor]:
    """Features (B, …) of training rows, in parts, by the network as it is."""
    boundary, images, model = plan.boundary, job.data.images, job.model
    if plan.mode == "cached":
        held = kept[1] if plan.views else kept[0]
        at = _positions(len(job.data.table), job.data.splits.train if plan.views else plain_rows(job, boundary, None))
        for part in torch.split(at[torch.from_numpy(rows)], STATISTICS_ROWS):
            yield behind(job, boundary, plan.prefix, held.gather(part.numpy())).float()
    elif plan.mode == "live":
        for own in prefix_parts(plan.prefix, images, rows):
            yield behind(job, boundary, plan.prefix, own)
    else:
        model.eval()
        for at_ in range(0, len(rows), STATISTICS_ROWS):
            pixels = images.pixels(rows[at_ : at_ + STATISTICS_ROWS]).to(job.device)
            ready = normalise(pixels, model.view.input).to(memory_format=plan.compute.layout)
            yield model.features(ready).float().cpu()
