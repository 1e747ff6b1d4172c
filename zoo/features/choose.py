"""Which layout and precision a prefix takes: measured on this machine, and accepted only if the features still serve.

Reduced precision is accepted when, on a probe of training rows, its features have a mean cosine of at least 0.98
to the float32 ones and a cross-validated linear classifier on them is within float32's own spread.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import warnings
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
from zoo.features.boundary import Boundary
from zoo.features.prefix import Prefix, Recipe
from zoo.probe import device_name, race, remembered

COSINE = 0.98
PROBE_ROWS = 128
TIMED_ROWS = {"cpu": 8, "cuda": 64}
FOLDS, REPEATS = 4, 3


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


Compute = Callable[[Prefix, NDArray[np.int64]], Tensor]
"""Features (N, width) or (N, tokens, width) of the whole backbone for rows, up to the boundary by a prefix."""


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
    recipes = [
        Recipe(precision=name, channels_last=channels_last, fold=can_fold)
        for name in (("fp32", "bf16") if precision == "auto" else (precision,))
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
    if precision != "auto":
        why = f"{precision} was asked for; fastest layout of: {speeds}"
    elif best.precision == "fp32":
        why = f"fastest of: {speeds}"
    else:
        reference = next((recipe for recipe in order if recipe.precision == "fp32"), best)
        accepted, evidence = accept(prefix(best), prefix(reference), rows, labels, compute)
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
    if not chosen.norms:
        return Decision(what="folding", choice="nothing to fold", why="no BatchNorm in this backbone")
    why = f"{chosen.folded} of {chosen.norms} BatchNorms directly follow a layer that nothing else reads"
    return Decision(what="folding", choice=f"{chosen.folded} of {chosen.norms}", why=why)


def has_convolutions(module: torch.nn.Module) -> bool:
    """Whether a layout can matter: there are convolutions other than the patches of a vision transformer."""
    return any(isinstance(part, torch.nn.Conv2d) and part.kernel_size != part.stride for part in module.modules())


def accept(
    fast: Prefix, reference: Prefix, rows: NDArray[np.int64], labels: NDArray[np.int64], compute: Compute
) -> tuple[bool, str]:
    """Whether the features of `fast` serve as well as those of `reference`, with the evidence in a sentence."""
    probe = _probe_rows(labels)
    low, full = compute(fast, rows[probe]).double(), compute(reference, rows[probe]).double()
    cosines = torch.nn.functional.cosine_similarity(low.flatten(1), full.flatten(1), dim=1)
    # The mean row decides: the worst of a hundred is a lottery, and what it does to the result is cross-validated.
    cosine = float(cosines.mean())
    lowest = float(cosines.min())
    said = f"cosine of bf16 to fp32 features {cosine:.4f} (lowest {lowest:.4f}) over {len(probe)} training rows"
    if not cosine >= COSINE:  # NaN too
        return False, f"{said}, below {COSINE}: not accepted"
    # A linear classifier takes one vector a row: of tokens their mean.
    vectors = [features.flatten(1, -2).mean(1) if features.ndim > 2 else features for features in (full, low)]
    scores = [cross_validate(features.numpy(), labels[probe]) for features in vectors]
    if not scores[0]:
        return False, f"{said}; too few labelled rows to cross-validate: not accepted"
    means, spread = [statistics.mean(score) for score in scores], statistics.stdev(scores[0])
    said += f", cross-validated balanced accuracy {means[1]:.3f} against {means[0]:.3f} (spread {spread:.3f})"
    if means[1] < means[0] - spread:
        return False, f"{said}: not accepted"
    return True, f"{said}: accepted"


def _probe_rows(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Up to PROBE_ROWS positions: as many of each class as can be had, of the most frequent ones if they are many."""
    names, counts = np.unique(labels[labels >= 0], return_counts=True)
    kept = names[np.argsort(-counts, kind="stable")][: PROBE_ROWS // (2 * FOLDS)]
    if not len(kept):
        return np.arange(min(PROBE_ROWS, len(labels)))
    share = PROBE_ROWS // len(kept)
    classes = [np.flatnonzero(labels == index) for index in np.sort(kept)]
    picked = [rows[np.linspace(0, len(rows) - 1, min(share, len(rows))).astype(np.int64)] for rows in classes]
    return np.sort(np.concatenate(picked))


def cross_validate(features: NDArray[np.float64], labels: NDArray[np.int64]) -> list[float]:
    """Balanced accuracy of a linear classifier on standardised features, by fold; empty with too few rows.

    Repeated over several divisions, because the spread of one division's four folds is itself mostly chance.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import RepeatedStratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    names, counts = np.unique(labels, return_counts=True)
    enough = np.isin(labels, names[counts >= FOLDS])  # a class of fewer rows than folds cannot stand in each
    features, labels = features[enough], labels[enough]
    if (counts >= FOLDS).sum() < 2:
        return []
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200))
    folds = RepeatedStratifiedKFold(n_splits=FOLDS, n_repeats=REPEATS, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a probe that stops early still compares like with like
        return [float(s) for s in cross_val_score(model, features, labels, cv=folds, scoring="balanced_accuracy")]
