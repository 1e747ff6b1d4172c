"""Figures of a measured fine-tuning: speed, work and its roofline, memory, and what was decided."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import psutil
import torch

from zoo.jobs.job import Job
from zoo.jobs.planning import Plan
from zoo.model.view import find_entry
from zoo.probe import race
from zoo.training.timed import PARTS, StepTime
from zoo.training.work import Peaks, Watch, Work

MIB = 2**20
EPOCHS = 10
"""Of the run that is planned, and of the figure that joins prefix and training."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the steps gave; `first` is how long the first one took, with compiling where that was asked for."""

    times: list[StepTime]
    work: Work
    rows: int
    first: float
    compiled: bool


def training_figures(found: Found, forward: Work, peaks: Peaks) -> dict[str, Any]:
    """Speed of a step, its parts, and its share of the roofline."""
    totals = [each.total for each in found.times]
    median, speeds = statistics.median(totals), sorted(each.rows / each.total for each in found.times)
    # The step that was counted may have had fewer rows than those that were timed.
    scale = found.times[0].rows / found.rows
    low, high = np.percentile(speeds, [10, 90])
    work = found.work
    return {
        "images_per_second": round(statistics.median(speeds), 3),
        "images_per_second_p10": round(float(low), 3),
        "images_per_second_p90": round(float(high), 3),
        "timed_steps": len(totals),
        "step_ms": {
            part: round(1e3 * statistics.median(each.seconds[part] for each in found.times), 4) for part in PARTS
        },
        "train_gflops_per_image": round(work.flops / found.rows / 1e9, 4),
        "train_flops_over_forward": round(work.flops / found.rows / forward.flops, 4),
        "train_mbytes_per_image": round(work.nbytes / found.rows / 1e6, 3),
        "roofline_images_per_second": round(found.rows / work.seconds(peaks), 2),
        "roofline_fraction": float(f"{scale * work.seconds(peaks) / median:.4g}"),
        "flop_fraction": float(f"{scale * work.flop_seconds(peaks) / median:.4g}"),
        "compile_seconds": round(found.first - median, 2) if found.compiled else None,
    }


def prefix_figures(job: Job, plan: Plan, peaks: Peaks, stored: tuple[int, float] | None) -> dict[str, Any]:
    """Extraction: of files as the run did it, through its store; else of a batch that is on the device already."""
    nothing = dict.fromkeys(("prefix_images_per_second", "prefix_roofline_fraction", "boundary_kib_per_image"))
    if plan.chosen is None:
        return nothing
    prefix = plan.prefix
    pixels = job.data.images.pixels(job.data.splits.train[: job.batch_size]).to(job.device)
    watch = Watch()
    with watch:
        prefix(pixels)
    seconds = race([partial(prefix, pixels)], job.device, rounds=3)[0]
    speed = len(pixels) / seconds if stored is None else stored[0] / stored[1]
    numbers = int(np.prod(prefix.shape)) * prefix.dtype.itemsize
    fraction = float(f"{watch.work.seconds(peaks) / seconds:.4g}") if watch.work.whole else None
    found = (round(speed, 3), fraction, round(numbers / 1024, 2))
    return dict(zip(nothing, found, strict=True))


def facts(job: Job, plan: Plan, trainable: tuple[str, ...]) -> dict[str, Any]:
    """What was measured, and how the planner had it computed."""
    view, sizes = job.model.view, {name: own.numel() for name, own in job.model.named_parameters()}
    weights = find_entry(view.name).entry.weights
    return {
        "parameters": sum(sizes.values()),
        "trainable_parameters": sum(sizes[name] for name in trainable),
        "top1_percent": weights[0].top1 if weights else None,
        "input_px": list(view.input.size),
        "mode": plan.mode,
        "boundary": "features" if plan.boundary.whole else list(plan.boundary.cut.names) if plan.boundary.cut else None,
        "precision": plan.compute.autocast or "fp32",
        "layout": "channels_last" if plan.compute.channels_last else "contiguous",
        "prefix_recipe": str(plan.chosen.prefix.recipe) if plan.chosen else None,
        "batchnorm": "frozen" if job.policy.head_alone else job.batchnorm,
        "compile": job.config.compile,
        "decisions": [f"{each.what}: {each.choice} ({each.why})" for each in plan.decisions],
    }


def memory_figures(device: torch.device) -> dict[str, Any]:
    """Peaks: of the timed steps on a GPU, of the whole process on a CPU."""
    if device.type == "cuda":
        allocated, reserved = torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
        return {"peak_allocated_mib": round(allocated / MIB, 1), "peak_reserved_mib": round(reserved / MIB, 1)}
    memory = psutil.Process().memory_info()
    try:
        import resource
    except ImportError:
        return {"peak_rss_mib": round(memory.rss / MIB, 1)}  # not on Windows
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if os.uname().sysname == "Darwin" else 1024)
    return {"peak_rss_mib": round(max(peak, memory.rss) / MIB, 1)}


def joined_speed(row: Mapping[str, Any]) -> float:
    """Images a second over ten epochs: each once through the prefix, where its rows are kept, and ten times trained."""
    seconds = EPOCHS / row["images_per_second"]
    if row["mode"] == "cached":
        seconds += 1 / row["prefix_images_per_second"]
    return round(float(EPOCHS / seconds), 3)
