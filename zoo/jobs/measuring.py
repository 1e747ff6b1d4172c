"""What each part of a run costs an image on this machine, and how the part that trains computes best."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from zoo.features.boundary import Boundary
from zoo.features.choose import Chosen, has_convolutions
from zoo.features.plan import Seconds
from zoo.features.prefix import normalise
from zoo.jobs.job import Job
from zoo.probe import computes_bf16, device_name, remembered
from zoo.training.measure import Compute, Forward, Step, time_steps

TIMED_IMAGES = {"cpu": 8, "cuda": 64}
WORTH_MEASURING = 1024
"""Passes of an image through what trains, below which a race costs more than it can save."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """How the part that trains computes, what each image costs, and why.

    Attributes:
        compute: the way.
        seconds: of one image through each part.
        why: a sentence.
        ruled: whether rules decide, because measuring does not pay.
        whole_alone: why it does not run on what crosses the boundary, or an empty string.
    """

    compute: Compute
    seconds: Seconds
    why: str
    ruled: bool = False
    whole_alone: str = ""


def measure(job: Job, boundary: Boundary, chosen: Chosen | None, *, always: bool = False) -> Measured:
    """Measure, or read what an earlier run measured for the same work on this machine; by rule where it does not pay.

    Args:
        job: the model's layout is set to what is chosen.
        boundary: where the backbone is cut.
        chosen: the prefix, where there is one.
        always: whether what the rule takes is measured too.
    """
    ways = _ways(job, boundary, chosen)
    passes = job.epochs * len(job.data.splits.train)
    ruled = job.config.deterministic or passes < WORTH_MEASURING
    if job.config.shard is not None and not boundary.whole:
        rule = _divided_way(job, ways)
        job.model.to(memory_format=rule.layout)
        why = "by rule; a step of all of it may not fit into one process (--shard fsdp)"
        seconds = Seconds(prefix=chosen.seconds if chosen else None)
        return Measured(compute=rule, seconds=seconds, why=why, ruled=True)
    if ruled and always:
        ways = ways[-1:]
    if job.config.deterministic or (ruled and not always):
        why = f"by rule: {passes} steps of an image are too few to measure"
        why = "by rule; nothing was measured (--deterministic)" if job.config.deterministic else why
        rule = ways[-1]
        job.model.to(memory_format=rule.layout)
        return Measured(compute=rule, seconds=Seconds(prefix=chosen.seconds if chosen else None), why=why, ruled=True)
    images = job.batch_size if boundary.whole else TIMED_IMAGES[job.device.type]
    where = job.cache / "speeds" / f"{_key(job, boundary, chosen, ways, images)}.json"
    found, read = remembered(where, lambda: _timed(job, boundary, chosen, ways, images))
    each = {name: [held / images for held in times] for name, times in found.items() if isinstance(times, list)}
    part = "suffix" if boundary.there else "whole"
    order = sorted((way for way in ways if f"{part} {way}" in each), key=lambda way: each[f"{part} {way}"][0])
    if not order:
        part = "whole"  # the rest of the network runs in no way on what is kept, and the whole does
        order = sorted((way for way in ways if f"whole {way}" in each), key=lambda way: each[f"whole {way}"][0])
    best = order[0]
    job.model.to(memory_format=best.layout)
    said = "images a second in training: " + ", ".join(f"{way} {1 / each[f'{part} {way}'][0]:.0f}" for way in order)
    failed = {name: why for name, why in found.items() if isinstance(why, str)}
    said += " (measured by an earlier run)" if read else ""
    said += "".join(f"; {name} does not run: {why}" for name, why in failed.items())
    suffix, whole = (each.get(f"{name} {best}", [None, None]) for name in ("suffix", "whole"))
    seconds = Seconds(
        # Of a cut timed beside the rest; of the whole backbone, whose alternatives all need it, in its own race.
        prefix=each["prefix"][0] if "prefix" in each else chosen.seconds if chosen else None,
        suffix=suffix[0],
        suffix_eval=suffix[1],
        whole=whole[0],
        whole_eval=whole[1],
    )
    alone = "the rest of the network does not run on what is kept" if part == "whole" and boundary.there else ""
    return Measured(compute=best, seconds=seconds, why=said, ruled=ruled, whole_alone=alone)


def _ways(job: Job, boundary: Boundary, chosen: Chosen | None) -> list[Compute]:
    """The candidates; the last of them is taken where nothing is measured."""
    if boundary.whole:
        return [Compute()]
    both = has_convolutions(job.model.backbone) and job.config.shard is None
    layouts = (False, True) if both else (False,)
    if chosen is not None and boundary.cut is not None:
        layouts = (chosen.prefix.recipe.channels_last,)  # in which the rows are kept
    casts: tuple[str, ...] = (job.config.precision.replace("fp32", ""),)
    if job.config.precision == "auto":
        casts = ("bf16", "") if computes_bf16(job.device.type) else ("",)
    return [Compute(autocast=cast, channels_last=last) for cast in casts for last in layouts]


def _divided_way(job: Job, ways: list[Compute]) -> Compute:
    """The way of a part that is divided, whose weights cannot lie in another layout than row by row."""
    half = job.config.precision == "auto" and job.device.type == "cuda" and computes_bf16("cuda")
    return replace(ways[-1], autocast="bf16") if half else ways[-1]


def _timed(
    job: Job, boundary: Boundary, chosen: Chosen | None, ways: list[Compute], images: int
) -> dict[str, list[float] | str]:
    model, data, device = job.model, job.data, job.device
    rows = np.resize(data.splits.train, images)
    covariates = None if data.encoded is None else data.encoded[torch.from_numpy(rows)].to(device)
    pixels = data.images.pixels(rows)
    if boundary.whole and chosen is not None:
        features = torch.randn((images, *chosen.prefix.shape), device=device)
        heads = Step(compute=ways[0], forward=lambda: lambda: model.heads(features, covariates))
        return time_steps(model.heads, {f"suffix {ways[0]}": heads}, {}, device)

    def whole(way: Compute) -> Forward:
        ready = normalise(pixels.to(device), model.view.input).to(memory_format=way.layout)
        return lambda: model.logits(ready, covariates)

    steps = {f"whole {way}": Step(compute=way, forward=partial(whole, way)) for way in ways}
    if boundary.cut is None or chosen is None:
        return time_steps(model, steps, {}, device)
    prefix = chosen.prefix
    kept, packing = chosen.prefix(pixels).clone(), chosen.prefix.packing

    def rest(way: Compute) -> Forward:
        given = packing.unpack(kept.to(way.dtype))

        def forward() -> dict[str, torch.Tensor]:
            with boundary.suffix() as suffix:
                features = suffix(given)
            logits: dict[str, torch.Tensor] = model.heads(features, covariates)
            return logits

        return forward

    steps |= {f"suffix {way}": Step(compute=way, forward=partial(rest, way)) for way in ways}
    return time_steps(model, steps, {"prefix": lambda: prefix(pixels)}, device)


def _key(job: Job, boundary: Boundary, chosen: Chosen | None, ways: list[Compute], images: int) -> str:
    parts = [
        boundary.view.name,
        boundary.kind,
        boundary.cut.names if boundary.cut else (),
        job.policy.text,
        job.batchnorm,
        [str(chosen.prefix.recipe), chosen.prefix.shape] if chosen else None,
        str(job.model.heads.call),
        job.model.heads.covariates,
        [task.outputs for task in job.data.tasks],
        boundary.view.input.size,
        [str(way) for way in ways],
        images,
        device_name(job.device),
        torch.__version__,
    ]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()
