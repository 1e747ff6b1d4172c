"""Images that are all but the same: an equal file, or features that point the same way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK = 1024
"""Rows that are compared with all others at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two rows, the first before the second; `exact` where their files are equal byte for byte."""

    first: int
    second: int
    cosine: float
    exact: bool


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Pairs, the most alike first, and how many there were before the rest was cut off."""

    pairs: tuple[Pair, ...]
    total: int


def near_duplicates(features: Tensor, digests: NDArray[np.uint8], threshold: float, limit: int = 10_000) -> Duplicates:
    """Pairs of rows whose features, their mean taken off, have a cosine of at least `threshold`.

    Without the mean, because features after a ReLU all point about the same way.

    Args:
        features: (N, D).
        digests: of the files, uint8 (N, 16).
        threshold: of the cosine.
        limit: pairs that are kept, those of equal files first.
    """
    centred = features.float() - features.float().mean(dim=0)
    unit = centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-12)
    same = torch.from_numpy(np.unique(digests, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64))
    found = torch.empty((0, 3), dtype=torch.float64)  # first, second, cosine; 2 for an equal file
    total = 0
    for start in range(0, len(unit), BLOCK):
        cosines = unit[start : start + BLOCK] @ unit[start:].T
        cosines[same[start : start + BLOCK, None] == same[None, start:]] = 2.0
        near = torch.triu(cosines, diagonal=1) >= threshold
        at = near.nonzero()
        total += len(at)
        rows = torch.column_stack([at + start, cosines[near]]).double()
        found = torch.cat([found, rows])
        found = found[torch.argsort(found[:, 2], descending=True, stable=True)[:limit]]
    return Duplicates(
        pairs=tuple(
            Pair(first=int(first), second=int(second), cosine=min(cosine, 1.0), exact=cosine > 1.5)
            for first, second, cosine in found.tolist()
        ),
        total=total,
    )
