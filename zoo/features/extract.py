"""What crosses a boundary, row by row: read from the cache where it is, computed once where it is not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.data.augment import Augmenter
from zoo.data.cache import make_room
from zoo.data.images import Images
from zoo.data.store import RowStore
from zoo.features.memory import check_memory
from zoo.features.onward import Earlier
from zoo.features.prefix import Prefix
from zoo.features.reading import read_ahead, split_rows
from zoo.group import ALONE, Group

SHARD_ROWS = 4096
SHARD_BYTES = 2**28
"""Rows that are held before they are written: all tokens of a few hundred images."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class View:
    """One augmented view of every image."""

    augmenter: Augmenter
    number: int


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Rows on disk, mapped into memory and read where they are asked for.

    Attributes:
        store: holds them.
        ids: of the rows in the store, int64 (N,), in the order asked for.
        computed: rows that went through the prefix now; the others were there.
        seconds: of all of it.
        problems: sentences about the cache: what was removed to make room, shards that were damaged.
    """

    store: RowStore
    ids: NDArray[np.int64]
    computed: int
    seconds: float
    problems: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of the rows."""
        return len(self.ids) * self.store.row_nbytes

    def gather(self, rows: NDArray[np.int64]) -> Tensor:
        """Copies of the rows at these positions, (len(rows), *shape)."""
        return self.store.gather(self.ids[rows])

    def load(self) -> Tensor:
        """All rows in memory.

        Raises:
            ZooError: they do not fit into the memory that is left.
        """
        check_memory(len(self.ids), self.store.shape, self.store.dtype)
        return self.store.gather(self.ids)


def keep(
    prefix: Prefix,
    images: Images,
    rows: NDArray[np.int64],
    *,
    digest: str,
    cache: Path,
    view: View | None = None,
    batch: int | None = None,
    progress: Progress | None = None,
    group: Group = ALONE,
    earlier: Earlier | None = None,
) -> Kept:
    """Compute what the cache does not have of `rows`, positions in `images` none of which is a bad file.

    Args:
        prefix: the frozen part of the backbone.
        images: decoded images and the digests of their files.
        rows: int64 (N,).
        digest: of the weights that the prefix has, see `weights_digest`.
        cache: folder in which rows are kept, content-addressed.
        view: augmented so; None for images as they are.
        batch: rows of one forward pass; by default the prefix's own number.
        progress: called with rows done and rows to do.
        group: processes that share the work, each of which calls this; what they keep they find in the cache.
        earlier: a prefix from whose rows, where they are kept, the computation goes on.
    """
    started = time.perf_counter()
    batch = batch or prefix.batch
    store = _store(prefix, digest, cache, view)
    addresses = _addresses(images, rows, view)
    same = _unchanged(prefix, images, rows, store, view, digest=digest, cache=cache, progress=progress, group=group)
    todo = _missing(store, addresses)
    group.wait()  # nobody writes before all have seen the same
    room = make_room(cache, needed=len(todo) * store.row_nbytes) if len(todo) and group.first else ()
    source = _Source(prefix=prefix, images=images, view=view, batch=batch, earlier=earlier, cache=cache)
    _compute(source, rows[group.part(torch.from_numpy(todo)).numpy()], store, progress)
    group.wait()
    if group.size > 1:  # what the others kept is not here where each machine has a cache of its own
        _compute(source, rows[_missing(store, addresses)], store, progress)
    return Kept(
        store=store,
        ids=store.find(addresses),
        computed=len(todo) + (same.computed if same else 0),
        seconds=time.perf_counter() - started,
        problems=(*(same.problems if same else ()), *room, *store.problems),
    )


def missing_rows(
    prefix: Prefix, images: Images, rows: NDArray[np.int64], *, digest: str, cache: Path, view: View | None = None
) -> int:
    """How many of `rows` the cache lacks and `keep` would compute; those that a view leaves as they are count once."""
    if view is not None:
        changed = view.augmenter.changes(rows)
        lacking = _missing(_store(prefix, digest, cache, view), _addresses(images, rows, view))
        same = 0 if view.number else missing_rows(prefix, images, rows[~changed], digest=digest, cache=cache)
        return int(changed[lacking].sum()) + same
    return len(_missing(_store(prefix, digest, cache, view), _addresses(images, rows, view)))


def _store(prefix: Prefix, digest: str, cache: Path, view: View | None) -> RowStore:
    description = prefix.description(digest)
    if view is not None:
        description["augment"] = view.augmenter.describe(view.number)
    return RowStore(cache / "features", description, prefix.shape, prefix.dtype)


def _addresses(images: Images, rows: NDArray[np.int64], view: View | None) -> NDArray[np.uint8]:
    """Under which rows stand in the store, uint8 (N, 16)."""
    return images.keys[rows] if view is None else view.augmenter.addresses(images.keys[rows], rows)


def _unchanged(
    prefix: Prefix, images: Images, rows: NDArray[np.int64], store: RowStore, view: View | None, **options: Any
) -> Kept | None:
    """Give a view's store the rows that the view leaves as they are, from those of images as they are."""
    if view is None:
        return None
    same = rows[~view.augmenter.changes(rows)]
    if not len(same):
        return None
    group: Group = options["group"]
    plain = keep(prefix, images, same, **options)
    if group.local_rank == 0:  # for all of its machine
        lacking = _missing(store, _addresses(images, same, view))
        for part in np.split(lacking, range(SHARD_ROWS, len(lacking), SHARD_ROWS)):
            store.append(_addresses(images, same[part], view), plain.gather(part))
    group.wait()
    return plain


def _missing(store: RowStore, digests: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Positions of the rows that the store lacks; a file that stands twice is computed once."""
    missing = np.flatnonzero(store.find(digests) < 0)
    _, first = np.unique(digests[missing], axis=0, return_index=True)
    return missing[np.sort(first)]


def extract(
    prefix: Prefix,
    images: Images,
    rows: NDArray[np.int64],
    *,
    digest: str,
    cache: Path,
    batch: int | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Rows (N, *shape) in the prefix's dtype, in memory, in the order asked for; see `keep`.

    Raises:
        ZooError: they do not fit into the memory that is left.
    """
    check_memory(len(rows), prefix.shape, prefix.dtype)
    return keep(prefix, images, rows, digest=digest, cache=cache, batch=batch, progress=progress).load()


@dataclass(frozen=True, kw_only=True)
class _Source:
    """Where rows come from that are not there."""

    prefix: Prefix
    images: Images
    view: View | None
    batch: int
    earlier: Earlier | None
    cache: Path

    def parts(self, rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """What the prefix gives for rows, in parts, first those that earlier rows lead to."""
        store, ids = self._there(rows)
        for own in split_rows(np.flatnonzero(ids >= 0), self.batch):
            assert self.earlier is not None  # noqa: S101  else nothing is there
            assert store is not None  # noqa: S101
            yield rows[own], self.prefix.beyond(self.earlier.prefix, store.gather(ids[own]))
        for own, pixels in read_ahead(self.images, split_rows(rows[ids < 0], self.batch), self.prefix.device):
            yield own, self.prefix(_shown(self.images, own, pixels, self.view))

    def _there(self, rows: NDArray[np.int64]) -> tuple[RowStore | None, NDArray[np.int64]]:
        """The earlier prefix's store, and ids of rows in it, -1 where there are none."""
        if self.earlier is None:
            return None, np.full(len(rows), -1, dtype=np.int64)
        store = _store(self.earlier.prefix, self.earlier.digest, self.cache, self.view)
        return store, store.find(_addresses(self.images, rows, self.view))


def _compute(source: _Source, rows: NDArray[np.int64], store: RowStore, progress: Progress | None) -> None:
    """Compute `rows` and keep them, a shard at a time."""
    shard = min(SHARD_ROWS, max(source.batch, SHARD_BYTES // store.row_nbytes))
    for start in range(0, len(rows), shard):
        part = rows[start : start + shard]
        order = np.empty_like(part)
        held = torch.empty((len(part), *store.shape), dtype=store.dtype)
        done = 0
        try:
            for own, found in source.parts(part):
                held[done : done + len(own)], order[done : done + len(own)] = found, own
                done += len(own)
                if progress:
                    progress(start + done, len(rows))
        finally:  # stopped or not, what was computed is kept
            if done:
                store.append(_addresses(source.images, order[:done], source.view), held[:done])


def _shown(images: Images, rows: NDArray[np.int64], pixels: Tensor, view: View | None) -> Tensor:
    """Pixels as a view shows them."""
    return pixels if view is None else view.augmenter(pixels, images.digests[rows], view.number, rows)


def prefix_parts(
    prefix: Prefix,
    images: Images,
    rows: NDArray[np.int64],
    progress: Progress | None = None,
    batch: int | None = None,
) -> Iterator[Tensor]:
    """What a prefix gives for rows, computed now and not kept: parts (B, *shape) float32 on the CPU."""
    batch = batch or prefix.batch
    done = 0
    for own, pixels in read_ahead(images, split_rows(rows, batch), prefix.device):
        # Cloned, because what inference mode makes cannot be saved for a backward pass.
        yield prefix(pixels).float().cpu().clone()
        done += len(own)
        if progress:
            progress(done, len(rows))


def prefix_features(
    prefix: Prefix,
    images: Images,
    rows: NDArray[np.int64],
    progress: Progress | None = None,
    batch: int | None = None,
) -> Tensor:
    """The same in one tensor (N, *shape).

    Raises:
        ZooError: it does not fit into the memory that is left.
    """
    check_memory(len(rows), prefix.shape, torch.float32)
    return torch.cat(list(prefix_parts(prefix, images, rows, progress, batch)))
