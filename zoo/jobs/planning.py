"""How a run computes, planned from a few seconds of measurement: boundary, cache, views, precision and layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.features.boundary import Boundary, find_boundary
from zoo.features.choose import PROBE_BATCH, Chosen, Decision, choose_prefix
from zoo.features.compiled import said, try_compiling
from zoo.features.digests import weights_digest
from zoo.features.extract import extract, prefix_features
from zoo.features.plan import MEMORY_SHARE, MODES, Alternative, Basis, Mode, Seconds, Size, alternatives
from zoo.features.prefix import Prefix, Recipe
from zoo.jobs.amounts import room_of, size_of
from zoo.jobs.job import Job
from zoo.jobs.measuring import measure
from zoo.training.measure import Compute

DEFAULT_VIEWS = 4


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a run computes.

    Attributes:
        boundary: where the backbone is cut.
        mode: `cached`, `live` or `whole`.
        compute: of the part that trains.
        chosen: the prefix, where there is one.
        digest: of the prefix's weights.
        views: augmented views that are kept; None where each epoch draws anew.
        resident: whether cached rows are held in memory.
        ahead: the later interval whose rows are computed first, because these go through the same layers and on.
        found: every way and what it would cost, the one that is taken first.
        decisions: what was decided and why.
        basis: what those costs rest on; None where the plan is that of an earlier run.
    """

    boundary: Boundary
    mode: Mode
    compute: Compute
    chosen: Chosen | None
    digest: str
    views: int | None
    resident: bool
    found: tuple[Alternative, ...]
    decisions: tuple[Decision, ...]
    basis: Basis | None = None
    ahead: int | None = None

    @property
    def prefix(self) -> Prefix:
        """The prefix.

        Raises:
            ValueError: there is none.
        """
        if self.chosen is None:
            raise ValueError("this plan has no prefix")
        return self.chosen.prefix


def plan_json(plan: Plan) -> dict[str, Any]:
    """What `plan_again` needs to compute as this plan does, JSON values."""
    return {
        "mode": plan.mode,
        "compute": asdict(plan.compute),
        "recipe": asdict(plan.chosen.prefix.recipe) if plan.chosen else None,
        "views": plan.views,
        "resident": plan.resident,
        "ahead": plan.ahead,
    }


def plan_again(job: Job, kept: Mapping[str, Any], why: str) -> Plan:
    """A plan from what `plan_json` gave; nothing is measured. `why` says where it comes from."""
    model = job.model
    model.to(job.device)
    compute = Compute(**kept["compute"])
    model.to(memory_format=compute.layout)
    boundary = find_boundary(
        model.view, model.kind, job.policy, job.data.images.pixels(np.resize(job.data.splits.train, 3))
    )
    decision = Decision(what="plan", choice=kept["mode"], why=why)
    chosen = None
    if kept["recipe"] is not None:
        prefix = Prefix(boundary.view, boundary.kind, Recipe(**kept["recipe"]), job.device, boundary.cut)
        chosen = Chosen(prefix=prefix, decisions=())
    return Plan(
        boundary=boundary,
        mode=kept["mode"],
        compute=compute,
        chosen=chosen,
        digest=weights_digest(model.backbone, boundary.behind),
        views=kept["views"],
        resident=kept["resident"],
        ahead=kept["ahead"],
        found=(Alternative(mode=kept["mode"]),),
        decisions=(decision,),
    )


def recipe_before(job: Job, recipe: Recipe | None) -> Recipe | None:
    """How the frozen part computed in the interval before, where it held all that is frozen now."""
    if job.interval == 0 or recipe is None:
        return None
    before, now = (
        job.intervals[at].policy.select(job.model.view).parameters for at in (job.interval - 1, job.interval)
    )
    return recipe if before <= now else None


def make_plan(job: Job, *, always: bool = False, recipe: Recipe | None = None) -> Plan:
    """Plan an interval; measures for a few seconds unless `--deterministic` forbids it.

    Args:
        job: the run.
        recipe: of the frozen part in the interval before, whose frozen part held this one.
        always: whether steps too few to be worth it are measured too, so that costs are known; rules decide as before.
    """
    data, model, config = job.data, job.model, job.config
    model.to(job.device)
    pixels = data.images.pixels(np.resize(data.splits.train, 3))
    boundary = find_boundary(model.view, model.kind, job.policy, pixels)
    digest = weights_digest(model.backbone, boundary.behind)
    chosen = None
    if boundary.there:
        chosen = _same(job, boundary, recipe) if recipe else choose(job, boundary, digest)
    views = config.views if job.shows else None
    if job.shows and boundary.there and config.views is None:
        views = min(DEFAULT_VIEWS, job.epochs)
    measured = measure(job, boundary, chosen, always=always)
    seconds = measured.seconds
    size, room = size_of(job, boundary, chosen, digest, views), room_of(job)
    refused = _refused(job, boundary)
    if measured.whole_alone:
        refused["cached"] = refused["live"] = measured.whole_alone
    if chosen is not None and "live" not in refused:
        again = size.epochs * (size.train + size.val)
        passes = again if "cached" in refused else size.todo
        chosen, seconds = _compiled(job, chosen, seconds, passes)
        if chosen.prefix.recipe.compiled:
            size = size_of(job, boundary, chosen, digest, views)
    found = alternatives(seconds, size, room, refused)
    if measured.ruled:
        order: tuple[Mode, ...] = ("cached", "live", "whole")
        found = tuple(sorted(found, key=lambda each: (bool(each.refused), order.index(each.mode))))
    mode = found[0].mode
    # Views are twice in memory while they are joined to one block.
    held = size.nbytes * (2 if views else 1)
    resident = room.memory is None or held <= MEMORY_SHARE * room.memory
    decisions = [
        *(chosen.decisions if chosen and mode != "whole" else ()),
        Decision(what="boundary", choice=_place(boundary), why=boundary.why),
        Decision(what="trainable part", choice=str(measured.compute), why=measured.why),
        _way(found, size, resident),
    ]
    if job.shows:
        decisions.append(_views(views if mode == "cached" else config.views, kept=mode == "cached"))
    return Plan(
        boundary=boundary,
        mode=mode,
        compute=measured.compute,
        chosen=chosen if mode != "whole" else None,
        digest=digest,
        views=views if mode == "cached" else None,
        resident=resident,
        found=found,
        decisions=tuple(decisions),
        basis=Basis(seconds=seconds, size=size, room=room),
    )


def _same(job: Job, boundary: Boundary, recipe: Recipe) -> Chosen:
    """The prefix as it computed before."""
    prefix = Prefix(boundary.view, boundary.kind, replace(recipe, compiled=False), job.device, boundary.cut)
    why = "as in the interval before, whose frozen part held this one"
    return Chosen(prefix=prefix, decisions=(Decision(what="prefix", choice=str(prefix.recipe), why=why),))


def choose(job: Job, boundary: Boundary, digest: str, *, trained: bool = False) -> Chosen:
    """How the frozen part computes; its features are judged behind the suffix as it is now.

    Args:
        job: the run.
        boundary: where the frozen part ends.
        digest: of its weights.
        trained: whether this run has made them, so that nobody would find what is kept of them.
    """
    data = job.data

    def compute(prefix: Prefix, rows: NDArray[np.int64]) -> Tensor:
        # Few rows in a pass: larger ones have more memory to touch first than they save on so few.
        batch = PROBE_BATCH[prefix.device.type]
        found = (
            extract(prefix, data.images, rows, digest=digest, cache=job.cache, batch=batch)
            if job.config.cache and not trained
            else prefix_features(prefix, data.images, rows, batch=batch)
        )
        return behind(job, boundary, prefix, found)

    return choose_prefix(
        boundary,
        data.images,
        data.splits.train,
        job.labels,
        device=job.device,
        compute=compute,
        memory=job.cache / "speeds",
        precision=job.config.precision,
        measure=not job.config.deterministic,
        # Behind a cut features are judged by a suffix that trains and is in no digest.
        digest=digest if boundary.whole and not trained else None,
    )


@torch.no_grad()
def behind(job: Job, boundary: Boundary, prefix: Prefix, rows: Tensor, batch: int = 64) -> Tensor:
    """Features (N, …) float32 on the CPU of the rows that cross a boundary, by the suffix as it is, in eval mode."""
    if boundary.cut is None:
        return rows
    model = job.model
    modes = {part: part.training for part in model.modules()}
    model.eval()
    with boundary.suffix() as suffix:
        given = (prefix.packing.unpack(own.to(job.device).float()) for own in torch.split(rows, batch))
        found = torch.cat([suffix(own).float().cpu() for own in given])
    for part, mode in modes.items():
        part.training = mode
    return found


def _compiled(job: Job, chosen: Chosen, seconds: Seconds, passes: int) -> tuple[Chosen, Seconds]:
    """The prefix compiled where that pays, and what an image costs then."""
    prefix, each = chosen.prefix, seconds.prefix
    if job.config.deterministic or each is None:
        return chosen, seconds
    memory = job.cache / "speeds"
    found = try_compiling(prefix, job.data.images, passes=passes, seconds=each, memory=memory)
    if found is None:
        return chosen, seconds
    trial, read = found
    # What has just been compiled is there; what an earlier run compiled has to be compiled anew.
    pays = trial.saves(passes) + (0.0 if read else trial.compile) > 0
    decision = said(trial, passes, used=pays, read=read)
    chosen = replace(chosen, decisions=(*chosen.decisions, decision))
    if not pays:
        return chosen, seconds
    seconds = replace(seconds, prefix=trial.compiled, compiling=trial.compile if read else 0.0)
    return replace(chosen, prefix=prefix.compiled(), seconds=trial.compiled), seconds


def _place(boundary: Boundary) -> str:
    if boundary.whole:
        return f"{boundary.kind} features"
    if boundary.cut is None:
        return "none"
    return f"{', '.join(boundary.cut.names)}: {boundary.cut.numbers} numbers an image"


def _refused(job: Job, boundary: Boundary) -> dict[Mode, str]:
    refused: dict[Mode, str] = {}
    if not boundary.there:
        refused["cached"] = refused["live"] = f"there is no prefix: {boundary.why}"
    elif (job.config.mixup or job.config.cutmix) and not boundary.whole:
        refused["cached"] = refused["live"] = "--mixup and --cutmix mix images anew in every step"
    elif mixing := [answer.name for answer in job.answers.values() if answer.mixes_pixels]:
        refused["cached"] = refused["live"] = f"{mixing[0]} mixes images anew in every step"
    elif not job.config.cache:
        refused["cached"] = "--no-cache"
    if boundary.whole:
        refused["whole"] = "the head alone trains, so that nothing needs the backbone's gradients"
    return refused


def _way(found: tuple[Alternative, ...], size: Size, resident: bool) -> Decision:
    first, said = found[0], []
    for each in found:
        cost = f"{each.total:.1f} s" if each.total < float("inf") else "not measured"
        said.append(f"{each.mode}: {each.refused or cost}")
    choice = MODES[first.mode]
    if first.mode == "cached":
        choice += f", {size.nbytes / 1e6:.0f} MB {'in memory' if resident else 'read from the memory-mapped files'}"
    return Decision(what="feature cache", choice=choice, why="; ".join(said))


def _views(views: int | None, *, kept: bool) -> Decision:
    if views is None:
        return Decision(what="views", choice="a new one in every epoch", why="nothing is kept that would fix them")
    why = f"{'each is computed once, and ' if kept else ''}each epoch shows another"
    return Decision(what="views", choice=f"{views} of each training image", why=why)
