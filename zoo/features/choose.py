"""Which layout and precision a prefix takes: measured on this machine, and accepted only where the features serve."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.data.images import Images
from zoo.errors import IntegrityError, ZooError
from zoo.features.acceptance import Compute, accept, accept_once
from zoo.features.boundary import Boundary
from zoo.features.prefix import Prefix, Recipe
from zoo.probe import computes_bf16, device_name, race, remembered

PROBE_BATCH = {"cpu": 8, "cuda": 64}
TIMED_ROWS = {"cpu": 4, "cuda": 64}


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Something the engine decided, and why; it stands in the run."""

    what: str
    choice: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The prefix that was chosen and the decisions that led to it.

    Attributes:
        prefix: as it computes.
        decisions: what was decided and why.
        seconds: of one image through it on this machine; None where nothing was measured.
    """

    prefix: Prefix
    decisions: tuple[Decision, ...]
    seconds: float | None = None


def choose_prefix(
    boundary: Boundary,
    images: Images,
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    *,
    device: torch.device,
    compute: Compute,
    memory: Path,
    precision: str = "auto",
    measure: bool = True,
    digest: str | None = None,
) -> Chosen:
    """Choose how the frozen part of a backbone computes.

    Args:
        boundary: where that part ends.
        images: decoded images.
        rows: training rows, int64 (N,).
        labels: their classes, int64 (N,), -1 where unknown.
        device: where it computes.
        compute: gives features of rows; what it computes for the probe is not lost where it caches.
        memory: folder in which speeds measured on this machine are kept.
        precision: `fp32`, `bf16`, or `auto` for bf16 where it is faster and accepted.
        measure: whether to; otherwise a rule decides: fp32 unless told, channels last where there are convolutions.
        digest: of all weights behind the features, so that what was accepted is remembered in `memory`; else None.
    """
    view = boundary.view
    made: dict[Recipe, Prefix] = {}

    def prefix(recipe: Recipe) -> Prefix:
        if recipe not in made:
            plain = (each for own, each in made.items() if own.precision == "fp32" and own.fold == recipe.fold)
            base = next(plain, None)
            made[recipe] = base.like(recipe) if base else Prefix(view, boundary.kind, recipe, device, boundary.cut)
        return made[recipe]

    layouts = (True, False) if has_convolutions(view.module) else (False,)
    can_fold, why_not = _may_fold(prefix, layouts[0])
    if not measure:
        name = "fp32" if precision == "auto" else precision
        chosen = prefix(Recipe(precision=name, channels_last=layouts[0], fold=can_fold))
        rule = Decision(what="prefix", choice=str(chosen.recipe), why="by rule; nothing was measured (--deterministic)")
        return Chosen(prefix=chosen, decisions=(_folding(chosen, why_not), rule))
    half = computes_bf16(device.type)
    recipes = [
        Recipe(precision=name, channels_last=channels_last, fold=can_fold)
        for name in ((("fp32", "bf16") if half else ("fp32",)) if precision == "auto" else (precision,))
        for channels_last in layouts
    ]
    raced, read = _race(boundary, recipes, prefix, images.pixels(rows[: TIMED_ROWS[device.type]]), memory)
    seconds = {recipe: held for recipe in recipes if not isinstance(held := raced[str(recipe)], str)}
    if not seconds:
        raise ZooError(f"the frozen backbone runs under none of: {', '.join(f'{r} ({w})' for r, w in raced.items())}")
    order = sorted(seconds, key=lambda recipe: seconds[recipe])
    speeds = ", ".join(f"{recipe} {1 / seconds[recipe]:.0f}/s" for recipe in order)
    speeds += " (measured by an earlier run)" if read else ""
    speeds += "".join(f"; {name} does not run: {why}" for name, why in raced.items() if isinstance(why, str))
    best = order[0]
    speeds += "" if half or precision != "auto" else "; bf16 is not tried: this processor has no instructions for it"
    if precision != "auto":
        why = f"{precision} was asked for; fastest layout of: {speeds}"
    elif best.precision == "fp32":
        why = f"fastest of: {speeds}"
    else:
        reference = next((recipe for recipe in order if recipe.precision == "fp32"), best)
        asked = (prefix(best), prefix(reference), rows, labels, compute)
        accepted, evidence = (
            accept(*asked) if digest is None else accept_once(*asked, images=images, digest=digest, memory=memory)
        )
        why = f"{evidence}; images a second: {speeds}"
        best = best if accepted else reference
    chosen = prefix(best)
    decisions = (_folding(chosen, why_not), Decision(what="prefix", choice=str(best), why=why))
    return Chosen(prefix=chosen, decisions=decisions, seconds=seconds[best])


def _race(
    boundary: Boundary,
    recipes: Sequence[Recipe],
    prefix: Callable[[Recipe], Prefix],
    example: Tensor,
    memory: Path,
) -> tuple[dict[str, float | str], bool]:
    """Seconds of one image by recipe, or why it does not run: not every layer knows bf16; and whether it was read."""
    device = prefix(recipes[0]).device

    def measure() -> dict[str, float | str]:
        found: dict[str, float | str] = {}
        good = []
        for recipe in recipes:
            try:
                prefix(recipe)(example)
                good.append(recipe)
            except (RuntimeError, NotImplementedError) as error:
                found[str(recipe)] = str(error).splitlines()[0]
        times = race([partial(prefix(recipe), example) for recipe in good], device, warm=True)
        return found | {str(recipe): held / len(example) for recipe, held in zip(good, times, strict=True)}

    names = [str(recipe) for recipe in recipes]
    cut = boundary.cut.names if boundary.cut else ()
    parts = [boundary.view.name, boundary.kind, cut, boundary.view.input.size, names, device_name(device)]
    key = hashlib.blake2b(json.dumps([*parts, torch.__version__, len(example)]).encode(), digest_size=16).hexdigest()
    return remembered(memory / f"{key}.json", measure)


def _may_fold(prefix: Callable[[Recipe], Prefix], channels_last: bool) -> tuple[bool, str]:
    """Whether folding leaves the features as they were; if not, why."""
    try:
        prefix(Recipe(fold=True, channels_last=channels_last))
    except IntegrityError as error:
        return False, str(error)
    return True, ""


def _folding(chosen: Prefix, why_not: str) -> Decision:
    if why_not:
        return Decision(what="folding", choice="off", why=why_not)
    choice, why = "nothing to fold", "no BatchNorm in this backbone"
    if chosen.norms:
        choice = f"{chosen.folded} of {chosen.norms}"
        why = f"{choice} BatchNorms directly follow a layer that nothing else reads"
    if chosen.fused:
        choice += f", {chosen.fused} activations fused"
        why += f"; convolutions compute {chosen.fused} activations in one operation (oneDNN)"
    return Decision(what="folding", choice=choice, why=why)


def has_convolutions(module: torch.nn.Module) -> bool:
    """Whether a layout can matter: there are convolutions other than the patches of a vision transformer."""
    return any(isinstance(part, torch.nn.Conv2d) and part.kernel_size != part.stride for part in module.modules())
