"""One backbone under one freeze policy, measured: the task of a cell of `zoo bench`.

A run is prepared and planned as `zoo train` does it, on images that are drawn for the purpose or on the user's own,
and the steps of its own trainer are timed.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zoo.config import TrainConfig
from zoo.errors import ZooError
from zoo.features.prefix import normalise
from zoo.jobs.bench_figures import EPOCHS, Found, facts, joined_speed, memory_figures, prefix_figures, training_figures
from zoo.jobs.feeding import inputs_of, standardise
from zoo.jobs.interval import data_of
from zoo.jobs.job import Job
from zoo.jobs.planning import Plan, make_plan
from zoo.jobs.progress import Reporter
from zoo.jobs.settings import optimiser_of, rates_of, settings_of
from zoo.jobs.start import Clock, start_job
from zoo.jobs.training_part import suffix_of
from zoo.model.freeze import freeze_parts
from zoo.model.view import find_entry
from zoo.training.inputs import Inputs, Tensors
from zoo.training.live import Pixels
from zoo.training.peaks import measure_peaks
from zoo.training.shared import Suffix, shared
from zoo.training.timed import TimedTrainer
from zoo.training.work import Watch, Work

DRAWN = 20
"""Pixels of the side of a drawn file; it is enlarged when it is read."""

WARMUP, STEPS = {"cpu": 2, "cuda": 10}, {"cpu": 10, "cuda": 40}


@dataclass(frozen=True, kw_only=True)
class Steps:
    """How many steps are timed, and for how long."""

    warmup: int
    count: int
    seconds: float


class Fixed(Inputs):
    """The same batch for every step, there already; a smaller one for fewer rows."""

    def __init__(self, batch: Tensor) -> None:
        self._batch = batch

    def take(self, rows: Tensor, epoch: int | None = None) -> Tensors:
        """The first of its rows."""
        del epoch
        return (self._batch[: len(rows)],)


class ResidentPixels(Pixels):
    """Images that are on the device already, uint8; each step takes its rows, augments and normalises them there."""

    def __init__(self, pixels: Tensor, **options: Any) -> None:
        super().__init__(**options)
        self._pixels = pixels

    def gather(self, rows: Tensor, epoch: int | None) -> Tensors:
        """Rows of the images, uint8 (B, C, H, W), on the device."""
        del epoch
        return (self._pixels.index_select(0, rows.to(self._pixels.device)),)


def bench_cell(parameters: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Measure one backbone under one policy.

    Args:
        parameters: `backbone`, `freeze`, `data`, and options of `zoo.config.BenchConfig` by name.
        seed: of the random weights and images.

    Returns:
        The row; JSON values, each named with its unit. benchmarks/README.md says what each means.

    Raises:
        MemoryError: the GPU's memory does not suffice, so that the grid's row says so.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="zoo-bench-") as folder, _cache_in(Path(folder, "cache"), parameters):
            return _measured(parameters, Path(folder), seed)
    except torch.OutOfMemoryError as error:
        raise MemoryError(str(error).splitlines()[0]) from None


@contextmanager
def _cache_in(folder: Path, parameters: Mapping[str, Any]) -> Iterator[None]:
    """Nothing that an earlier run measured or computed is found, and nothing is left behind."""
    find_entry(parameters["backbone"])  # reads the catalogue from the user's cache while that can be seen
    before = os.environ.get("ZOO_CACHE")
    os.environ["ZOO_CACHE"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("ZOO_CACHE")
        if before is not None:
            os.environ["ZOO_CACHE"] = before


def _measured(given: Mapping[str, Any], folder: Path, seed: int) -> dict[str, Any]:
    job = _job(given, folder, seed)
    forward = _forward_work(job)
    frozen = freeze_parts(job.model, job.model.view, job.policy, "backbone.", digest=False, batchnorm=job.batchnorm)
    job.model.to(job.device)
    plan = make_plan(job)
    peaks = measure_peaks(job.device)
    began = time.perf_counter()
    fed, kept = inputs_of(job, plan)
    standardise(job, plan, kept)
    extracting = time.perf_counter() - began
    inputs = _inputs(job, plan, given["data"]) or fed
    found = _steps(job, plan, inputs, _counts(given, job.device))
    row = {
        **facts(job, plan, frozen.trainable),
        "forward_gmacs": round(forward.flops / 2e9, 4),
        **training_figures(found, forward, peaks),
        **prefix_figures(
            job, plan, peaks, (sum(len(each.ids) for each in kept), extracting) if _is_files(given) else None
        ),
        "peak_gflops": {name: round(own / 1e9, 1) for name, own in peaks.flops.items()},
        "copy_gb_per_second": round(peaks.bandwidth / 1e9, 2),
        **memory_figures(job.device),
        "batch_size": job.batch_size,
    }
    if _is_files(given):
        images = job.data.images
        row["decoded_images_per_second"] = round(images.decoded / images.seconds, 2) if images.decoded else None
    return {**row, "ten_epochs_images_per_second": joined_speed(row)}


def _is_files(given: Mapping[str, Any]) -> bool:
    return str(given["data"]).startswith("files:")


def _counts(given: Mapping[str, Any], device: torch.device) -> Steps:
    warmup, count = given.get("warmup"), given.get("steps")
    return Steps(
        warmup=WARMUP[device.type] if warmup is None else warmup,
        count=count or STEPS[device.type],
        seconds=given.get("seconds", 60.0),
    )


def _job(given: Mapping[str, Any], folder: Path, seed: int) -> Job:
    """The run, prepared as `zoo train` does it."""
    data = str(given["data"]).removeprefix("files:")
    if not _is_files(given):
        data = str(folder / "images")
        _draw(Path(data), _rows(given), int(given["classes"]), seed)
    alone = given["freeze"] == "head"
    config = TrainConfig(
        data=data,
        out=folder / "run",
        backbone=given["backbone"],
        freeze=given["freeze"],
        weights=given["weights"],
        size=given["size"],
        batchnorm=None if alone else given["batchnorm"],
        precision=given["precision"],
        optimiser=given["optimiser"],
        compile=bool(given["compile"]) and not alone,
        augment=given["augment"],
        batch_size=given["batch_size"],
        # So small that random weights stay finite, and full from the first step to the last.
        lr=1e-5,
        backbone_lr=1e-6,
        schedule="constant",
        warmup=0.0,
        epochs=EPOCHS,
        random_frozen=True,
        seed=seed,
        device=given["device"],
        quiet=True,
    )
    job = start_job(config, Reporter(quiet=True), Clock(), claimed=False)
    if len(job.intervals) > 1:
        raise ZooError(f"{given['freeze']} is a schedule; measure each of its policies by itself")
    return job


def _rows(given: Mapping[str, Any]) -> int:
    """Training images that are drawn: whole batches, and enough for the planner to measure."""
    batch = 512 if given["batch_size"] == "auto" else int(given["batch_size"])
    return batch * max(2, -(-128 // batch))


def _draw(folder: Path, rows: int, classes: int, seed: int) -> None:
    """Files of noise in the folders of their classes; a few of each for validation, which is not timed."""
    generator = np.random.default_rng(seed)
    for split, count in (("train", max(rows, classes)), ("val", classes)):
        for row in range(count):
            path = folder / split / f"c{row % classes}" / f"{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (DRAWN, DRAWN, 3), dtype=np.uint8)).save(path)


def _forward_work(job: Job) -> Work:
    """Of one image through the whole network.

    Before anything is frozen: without gradients torch's attention takes a path whose work cannot be counted.
    """
    spec, model = job.model.view.input, job.model
    model.eval()
    watch = Watch()
    with watch:
        model.logits(torch.zeros((1, spec.channels, *spec.size), device=next(model.parameters()).device))
    return watch.work


def _inputs(job: Job, plan: Plan, data: str) -> Inputs | None:
    """Images that need not be read; None where the run's own inputs are measured: features, or files."""
    if plan.mode != "whole" or data.startswith("files:"):
        return None
    rows = torch.from_numpy(job.data.splits.train)
    last = plan.compute.channels_last
    if data == "resident":
        pixels = job.data.images.pixels(np.arange(len(job.data.table))).to(job.device)
        options = {"channels_last": last, "augment": job.augmenter}
        return ResidentPixels(pixels, images=job.data.images, device=job.device, **options)
    pixels = job.data.images.pixels(rows[: 2 * job.batch_size]).to(job.device)
    layout = torch.channels_last if last else torch.contiguous_format
    return Fixed(normalise(pixels, job.model.view.input).to(memory_format=layout))


def _steps(job: Job, plan: Plan, inputs: Inputs, steps: Steps) -> Found:
    """Take the steps, by the trainer that a run has."""
    rates = rates_of(job, cached=plan.boundary.whole)
    settings, model = settings_of(job, plan, rates), job.model
    own = model.heads if plan.boundary.whole else model
    optimiser = None if plan.boundary.whole else optimiser_of(job)
    with suffix_of(job, plan) as suffix:
        plain: Suffix = getattr(suffix, "_torchdynamo_orig_callable", suffix)
        parts = (own, model.heads, plain, data_of(job, inputs), job.data.tasks, job.answers, settings, optimiser)
        trainer = TimedTrainer(*parts)
        try:
            work, rows = trainer.watched()
            trainer.shared = shared(own, suffix, settings.group)
            first = trainer.take(1)[0].total
            trainer.take(max(0, steps.warmup - 1), steps.seconds)
            if job.device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(job.device)
            times = trainer.take(steps.count, steps.seconds)
        finally:
            trainer.close()
    full = [each for each in times if each.rows == settings.batch_size]
    return Found(times=full or times, work=work, rows=rows, first=first, compiled=job.config.compile)
