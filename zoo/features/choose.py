"""Which layout and precision a prefix takes: measured on this machine, and accepted only if the features still serve.

Reduced precision is accepted when, on a probe of training rows, its features have a cosine of at least 0.98 to the
float32 ones and a cross-validated linear classifier on them is within float32's own spread.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.data.ingest import Images
from zoo.errors import IntegrityError
from zoo.features.prefix import Prefix, Recipe
from zoo.probe import race
from zoo.specs import BackboneView

COSINE = 0.98
PROBE_ROWS = 128
TIMED_ROWS = {"cpu": 8, "cuda": 64}
FOLDS = 4


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Something the engine decided, and why; it stands in the run."""

    what: str
    choice: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The prefix that was chosen and the decisions that led to it."""

    prefix: Prefix
    decisions: tuple[Decision, ...]


Compute = Callable[[Prefix, NDArray[np.int64]], Tensor]
"""Features (N, width) of rows by a prefix, through the cache where there is one."""


def choose_prefix(
    view: BackboneView,
    kind: str,
    images: Images,
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    *,
    device: torch.device,
    compute: Compute,
    precision: str = "auto",
) -> Chosen:
    """Choose how the frozen backbone computes.

    Args:
        view: the backbone without its classifier.
        kind: the feature kind.
        images: decoded images.
        rows: training rows, int64 (N,).
        labels: their classes, int64 (N,), -1 where unknown.
        device: where it computes.
        compute: gives features of rows; what it computes for the probe is not lost where it caches.
        precision: `fp32`, `bf16`, or `auto` for bf16 where it is faster and accepted.
    """
    can_fold, decisions = _fold_decision(view, kind, device)
    example = images.pixels(rows[: TIMED_ROWS[device.type]])
    prefixes = [
        Prefix(view, kind, Recipe(precision=name, channels_last=channels_last, fold=can_fold), device)
        for name in (("fp32", "bf16") if precision == "auto" else (precision,))
        for channels_last in ((True, False) if _has_convolutions(view) else (False,))
    ]
    seconds = race([lambda prefix=prefix: prefix(example) for prefix in prefixes], device)  # type: ignore[misc]
    order = sorted(range(len(prefixes)), key=lambda index: seconds[index])
    speeds = ", ".join(f"{prefixes[i].recipe} {len(example) / seconds[i]:.0f}/s" for i in order)
    best = prefixes[order[0]]
    if precision != "auto":
        why = f"{precision} was asked for; fastest layout of: {speeds}"
    elif best.recipe.precision == "fp32":
        why = f"fastest of: {speeds}"
    else:
        reference = next(prefixes[i] for i in order if prefixes[i].recipe.precision == "fp32")
        accepted, evidence = accept(best, reference, rows, labels, compute)
        why = f"{evidence}; images a second: {speeds}"
        best = best if accepted else reference
    return Chosen(prefix=best, decisions=(*decisions, Decision(what="prefix", choice=str(best.recipe), why=why)))


def _has_convolutions(view: BackboneView) -> bool:
    return any(isinstance(part, torch.nn.Conv2d) and part.kernel_size != part.stride for part in view.module.modules())


def _fold_decision(view: BackboneView, kind: str, device: torch.device) -> tuple[bool, tuple[Decision, ...]]:
    try:
        trial = Prefix(view, kind, Recipe(fold=True), device)
    except IntegrityError as error:
        return False, (Decision(what="folding", choice="off", why=str(error)),)
    if not trial.norms:
        return False, (Decision(what="folding", choice="nothing to fold", why="no BatchNorm in this backbone"),)
    why = f"{trial.folded} of {trial.norms} BatchNorms directly follow a layer that nothing else reads"
    return True, (Decision(what="folding", choice=f"{trial.folded} of {trial.norms}", why=why),)


def accept(
    fast: Prefix, reference: Prefix, rows: NDArray[np.int64], labels: NDArray[np.int64], compute: Compute
) -> tuple[bool, str]:
    """Whether the features of `fast` serve as well as those of `reference`, with the evidence in a sentence."""
    probe = _probe_rows(labels)
    low, full = compute(fast, rows[probe]).double(), compute(reference, rows[probe]).double()
    cosine = float(torch.nn.functional.cosine_similarity(low, full, dim=1).min())
    said = f"lowest cosine of bf16 to fp32 features {cosine:.4f} over {len(probe)} training rows"
    if cosine < COSINE:
        return False, f"{said}, below {COSINE}: not accepted"
    scores = [cross_validate(features.numpy(), labels[probe]) for features in (full, low)]
    if not scores[0]:
        return True, f"{said}; too few labelled rows to cross-validate"
    means, spread = [statistics.mean(score) for score in scores], statistics.stdev(scores[0])
    said += f", cross-validated balanced accuracy {means[1]:.3f} against {means[0]:.3f} (spread {spread:.3f})"
    if means[1] < means[0] - spread:
        return False, f"{said}: not accepted"
    return True, f"{said}: accepted"


def _probe_rows(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Up to PROBE_ROWS positions, as many of each class as can be had, spread over the rows."""
    classes = [np.flatnonzero(labels == index) for index in np.unique(labels[labels >= 0])]
    if not classes:
        return np.arange(min(PROBE_ROWS, len(labels)))
    share = max(1, PROBE_ROWS // len(classes))
    picked = [rows[np.linspace(0, len(rows) - 1, min(share, len(rows))).astype(np.int64)] for rows in classes]
    return np.sort(np.concatenate(picked))


def cross_validate(features: NDArray[np.float64], labels: NDArray[np.int64]) -> list[float]:
    """Balanced accuracy of a linear classifier on standardised features, by fold; empty with too few rows."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    counts = np.unique(labels, return_counts=True)[1]
    if len(counts) < 2 or counts.min() < FOLDS:
        return []
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=200))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a probe that stops early still compares like with like
        return [float(s) for s in cross_val_score(model, features, labels, cv=folds, scoring="balanced_accuracy")]
