"""How much one interval of a run has to compute and to keep, and what room the machine has for it."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.features.boundary import Boundary
from zoo.features.choose import Chosen
from zoo.features.extract import View, missing_rows
from zoo.features.memory import available_memory
from zoo.features.plan import Room, Size
from zoo.jobs.job import Job
from zoo.probe import disk_speed


def size_of(job: Job, boundary: Boundary, chosen: Chosen | None, digest: str, views: int | None) -> Size:
    """How much an interval has to do; `views` are augmented ones that are kept."""
    splits, epochs = job.data.splits, job.epochs
    size = Size(train=len(splits.train), val=len(splits.val), epochs=epochs)
    if chosen is None:
        return size
    plain = plain_rows(job, boundary, views)
    numbers = int(np.prod(chosen.prefix.shape)) * chosen.prefix.dtype.itemsize
    kept = len(plain) + (views or 0) * len(splits.train)
    todo = kept
    if job.config.cache:
        todo = missing_rows(chosen.prefix, job.data.images, plain, digest=digest, cache=job.cache)
        for view in kept_views(job, views):
            todo += missing_rows(
                chosen.prefix, job.data.images, splits.train, digest=digest, cache=job.cache, view=view
            )
    return replace(size, todo=todo, row_bytes=numbers, kept_rows=kept)


def plain_rows(job: Job, boundary: Boundary, views: int | None) -> NDArray[np.int64]:
    """Rows that are kept as they are: what is validated, what trains unless views do, what is tested on features."""
    splits = job.data.splits
    parts = [splits.val]
    parts += [] if views else [splits.train]
    parts += [splits.test] if boundary.whole else []
    return np.sort(np.concatenate(parts))


def kept_views(job: Job, views: int | None) -> list[View]:
    """The augmented views that are kept."""
    if job.shows is None or views is None:
        return []
    return [View(augmenter=job.shows, number=number) for number in range(views)]


def room_of(job: Job) -> Room:
    """What this machine has for it."""
    job.cache.mkdir(parents=True, exist_ok=True)
    memory = available_memory()
    if job.device.type == "cuda":
        # Blocks that torch has let go of and keeps for itself are free too. Rows pass through the host's memory.
        idle = torch.cuda.memory_reserved(job.device) - torch.cuda.memory_allocated(job.device)
        free = int(torch.cuda.mem_get_info(job.device)[0]) + idle
        memory = free if memory is None else min(memory, free)
    write, read = (1e9, 2e9) if job.config.deterministic else disk_speed(job.cache)
    return Room(disk=shutil.disk_usage(job.cache).free, memory=memory, read=read, write=write)
