"""The largest batch that fits into the memory of the GPU."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from zoo.errors import ZooError
from zoo.features.choose import Decision
from zoo.features.prefix import normalise
from zoo.jobs.job import Job
from zoo.model.freeze import freeze_parts
from zoo.training.recompute import recomputing

LARGEST = 512
"""Larger batches make few steps of an epoch, and are not what fine-tuning of a few thousand images lacks."""

ON_A_CPU = 32
"""Where a batch that does not fit is not refused but moved to the disk, nobody wants to find out."""


def batch_rows(job: Job) -> tuple[int, tuple[Decision, ...]]:
    """Rows of a batch: what was asked for, or with `auto` the largest power of two that fits.

    The interval is tried that trains most, through the whole network, so that what is computed once leaves room to
    spare. A sixteenth of the GPU is left free, for what varies from step to step.
    """
    asked = job.config.batch_size
    if asked != "auto":
        return asked, ()
    if job.device.type == "cpu":
        return ON_A_CPU, (Decision(what="batch size", choice=str(ON_A_CPU), why="by rule on a CPU"),)
    found, why = job.group.once(lambda: _found(job))
    return found, (Decision(what="batch size", choice=str(found), why=why),)


def _found(job: Job) -> tuple[int, str]:
    deepest = max(job.intervals, key=lambda each: len(each.policy.select(job.model.view).parameters))
    freeze_parts(job.model, job.model.view, deepest.policy, "backbone.", digest=False, batchnorm=job.batchnorm)
    job.model.to(job.device)
    total = torch.cuda.get_device_properties(job.device).total_memory
    held = torch.empty(total // 16, dtype=torch.uint8, device=job.device)
    try:
        return halved(lambda rows: _try(job, rows), min(LARGEST, _power(len(job.data.splits.train))))
    finally:
        del held
        job.model.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()


def halved(attempt: Callable[[int], None], rows: int) -> tuple[int, str]:
    """The first of `rows`, half of them, … of which `attempt` does not run out of memory, and a sentence.

    Raises:
        ZooError: not even two rows fit.
    """
    refused: list[int] = []
    while rows >= 2:
        try:
            attempt(rows)
        except torch.OutOfMemoryError:
            refused.append(rows)
            rows //= 2
            continue
        said = f"{refused[-1]} ran out of memory" if refused else "as large as it gets by itself"
        return rows, f"{said}; a step of {rows} rows through the whole network fits"
    raise ZooError("not even two rows fit into the GPU's memory; use a smaller backbone or --size, or --recompute")


def _power(rows: int) -> int:
    return 1 << (max(2, rows).bit_length() - 1)


def _try(job: Job, rows: int) -> None:
    """One step of so many rows, with room for the optimiser's two moments; nothing moves."""
    chosen = np.resize(job.data.splits.train, rows)
    model, data = job.model, job.data
    covariates = None if data.encoded is None else data.encoded[torch.from_numpy(chosen)].to(job.device)
    moving = [parameter for parameter in model.parameters() if parameter.requires_grad]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    names = {name.removeprefix("backbone.") for name, each in model.named_parameters() if each.requires_grad}
    moments = [torch.empty_like(parameter) for parameter in [*moving, *moving]]
    cast = torch.float16 if job.config.precision == "fp16" else torch.bfloat16
    pixels = normalise(data.images.pixels(chosen).to(job.device), model.view.input)
    model.train()
    try:
        with (
            recomputing(model.view, names if job.config.recompute else ()),
            torch.random.fork_rng(devices=[job.device]),
            torch.autocast(job.device.type, dtype=cast, enabled=job.config.precision != "fp32"),
        ):
            logits = model.logits(pixels, covariates)
        torch.stack([own.float().square().mean() for own in logits.values()]).sum().backward()  # type: ignore[no-untyped-call]
    finally:
        del moments
        model.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
