"""What a later interval of a schedule keeps, computed first: it is part of the way to what this interval needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from zoo.features.boundary import find_boundary
from zoo.features.digests import weights_digest
from zoo.features.extract import Kept, keep
from zoo.features.onward import Earlier, leads_on
from zoo.features.prefix import Prefix
from zoo.jobs.amounts import kept_views, plain_rows
from zoo.jobs.job import Job
from zoo.jobs.planning import Plan, make_plan
from zoo.model.freeze import freeze_parts


@contextmanager
def interval_of(job: Job, number: int) -> Iterator[Job]:
    """Inside, the model is frozen as in another interval of the run."""
    own = replace(job, interval=number)
    _freeze(own)
    try:
        yield own
    finally:
        _freeze(job)


def _freeze(job: Job) -> None:
    freeze_parts(job.model, job.model.view, job.policy, "backbone.", digest=False, batchnorm=job.batchnorm)


def plan_ahead(job: Job, plan: Plan) -> Plan:
    """The plan of an interval, with the later one whose rows are to be computed first, where there is one.

    It is the last that keeps rows inside the network, which are on the way to those of this interval.
    """
    if plan.mode != "cached" or plan.prefix.recipe.compiled:
        return plan
    pixels = job.data.images.pixels(np.resize(job.data.splits.train, 3))
    for number in range(len(job.intervals) - 1, job.interval, -1):
        with interval_of(job, number) as own:
            later = make_plan(own, recipe=plan.prefix.recipe)
        job.model.to(memory_format=plan.compute.layout)  # a plan leaves the model in the layout that it chose
        if later.mode == "cached" and leads_on(later.prefix, plan.prefix, pixels):
            return replace(plan, ahead=number)
    return plan


def keep_ahead(job: Job, plan: Plan) -> tuple[Earlier | None, list[Kept]]:
    """Compute what the plan says is computed first; returns where the computation goes on from."""
    if plan.ahead is None:
        return None, []
    with interval_of(job, plan.ahead) as own:
        pixels = job.data.images.pixels(np.resize(job.data.splits.train, 3))
        boundary = find_boundary(own.model.view, own.model.kind, own.policy, pixels)
        prefix = Prefix(boundary.view, boundary.kind, plan.prefix.recipe, own.device, boundary.cut)
        digest = weights_digest(own.model.backbone, boundary.behind)
        # The views that the interval under way shows; further ones are computed when the later one shows them.
        shown = [(view, own.data.splits.train) for view in kept_views(own, plan.views)]
        kept: list[Kept] = []
        options: dict[str, Any] = {"digest": digest, "cache": job.cache, "group": job.group}
        for view, rows in [(None, plain_rows(own, boundary, plan.views)), *shown]:
            with job.reporter.bar("computing features ahead", "images") as progress:
                kept.append(keep(prefix, own.data.images, rows, view=view, progress=progress, **options))
    return Earlier(prefix=prefix, digest=digest), kept
