"""Features of rows: read from the cache where they are, computed once where they are not."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.data.ingest import Images
from zoo.data.store import RowStore
from zoo.features.memory import check_memory
from zoo.features.prefix import Prefix

BATCH = 64
SHARD_ROWS = 4096
SHARD_BYTES = 2**28
"""Features that are held before they are written: all tokens of a few hundred images."""


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """Features of some rows and what they cost.

    Attributes:
        features: (N, width) or (N, tokens, width), in the prefix's dtype, in the order asked for, on the CPU.
        computed: rows that went through the prefix now; the others came from the cache.
        seconds: of all of it.
    """

    features: Tensor
    computed: int
    seconds: float


def extract(
    prefix: Prefix,
    images: Images,
    rows: NDArray[np.int64],
    *,
    digest: str,
    cache: Path,
    batch: int = BATCH,
    progress: Callable[[int, int], None] | None = None,
) -> Extraction:
    """Features of `rows`, positions in `images` none of which is a bad file.

    Args:
        prefix: the frozen backbone.
        images: decoded images and the digests of their files.
        rows: int64 (N,).
        digest: of the backbone's weights, see `weights_digest`.
        cache: folder in which features are kept, content-addressed.
        batch: rows of one forward pass.
        progress: called with rows done and rows to do.

    Raises:
        ZooError: they do not fit into the memory that is left.
    """
    started = time.perf_counter()
    store = RowStore(cache / "features", prefix.description(digest), prefix.shape, prefix.dtype)
    check_memory(len(rows), prefix.shape, prefix.dtype)
    digests = images.digests[rows]
    missing = np.flatnonzero(store.find(digests) < 0)
    _, first = np.unique(digests[missing], axis=0, return_index=True)  # a file that stands twice is computed once
    todo = missing[np.sort(first)]
    _compute(prefix, images, rows[todo], store, batch, progress)
    features = store.gather(store.find(digests))
    return Extraction(features=features, computed=len(todo), seconds=time.perf_counter() - started)


def _compute(
    prefix: Prefix,
    images: Images,
    rows: NDArray[np.int64],
    store: RowStore,
    batch: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Compute features of `rows` and keep them, a shard at a time."""
    shard = min(SHARD_ROWS, max(batch, SHARD_BYTES // store.row_nbytes))
    for start in range(0, len(rows), shard):
        part = rows[start : start + shard]
        computed: list[Tensor] = []
        try:
            for at in range(0, len(part), batch):
                computed.append(prefix(images.pixels(part[at : at + batch])).cpu())
                if progress:
                    progress(start + min(at + batch, len(part)), len(rows))
        finally:  # stopped or not, what was computed is kept
            if computed:
                found = torch.cat(computed)
                store.append(images.digests[part[: len(found)]], found)
