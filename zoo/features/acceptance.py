"""Whether reduced precision serves: features of a probe of training rows compared, and a classifier cross-validated.

It is accepted when on a probe of training rows its features have a mean cosine of at least 0.98 to the float32 ones
and a cross-validated linear classifier on them is within float32's own spread.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.data.images import Images
from zoo.features.prefix import Prefix
from zoo.probe import remembered

COSINE = 0.98
PROBE_ROWS = 128
FOLDS, REPEATS = 4, 3

Compute = Callable[[Prefix, NDArray[np.int64]], Tensor]
"""Features (N, width) or (N, tokens, width) of the whole backbone for rows, up to the boundary by a prefix."""


def accept_once(
    fast: Prefix,
    reference: Prefix,
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    compute: Compute,
    *,
    images: Images,
    digest: str,
    memory: Path,
) -> tuple[bool, str]:
    """As `accept`, which is asked once for these weights, files and labels; `memory` is a folder that keeps answers.

    Args:
        fast: the prefix that is faster.
        reference: the one in float32.
        rows: training rows, int64 (N,).
        labels: their classes, int64 (N,), -1 where unknown.
        compute: gives features of rows.
        images: that `rows` are of.
        digest: of the weights of the whole backbone.
        memory: folder of small files.
    """
    said = [COSINE, PROBE_ROWS, FOLDS, REPEATS, torch.__version__]
    said += [json.dumps(each.description(digest), sort_keys=True) for each in (fast, reference)]
    key = hashlib.blake2b(json.dumps(said).encode(), digest_size=16)
    key.update(images.digests[rows].tobytes() + labels.astype(np.int64).tobytes())
    found, _ = remembered(
        memory / f"{key.hexdigest()}.json", lambda: list(accept(fast, reference, rows, labels, compute))
    )
    return bool(found[0]), str(found[1])


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
