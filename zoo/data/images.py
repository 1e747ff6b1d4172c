"""Images after reading: their pixels in a store, what is missing in them, and what was filled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.data.hole_store import HoleStore, PixelHoles, missing_channels, partial_holes
from zoo.data.store import RowStore
from zoo.specs import ImageRows, InputSpec


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Filled:
    """Images whose holes were filled, whole, beside the store of those as they were read.

    Attributes:
        store: of the same shape; float32 where a value was filled in that 8 bits cannot hold.
        ids: int64 (N,), row of the store for each file, -1 where nothing was filled.
        keys: uint8 (N, 16), under which features of each row are kept: the digest of its file, mixed with what filled
            its holes.
        kinds: of the holes that were filled.
    """

    store: RowStore
    ids: NDArray[np.int64]
    keys: NDArray[np.uint8]
    kinds: frozenset[str]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Images:
    """N image files after reading.

    Attributes:
        digests: uint8 (N, 16), blake2b of each file's bytes; zeros for bad rows.
        bad: row -> reason, for files that gave no pixels.
        store: where the pixels are.
        ids: int64 (N,), row of the store for each file, -1 for bad rows.
        spec: how the pixels were made.
        seconds: how long the reading took.
        decoded: how many files were decoded.
        hits: how many were known from an earlier reading, or by an equal file.
        facts: int32 (N, C, 2), what is missing, see `zoo.data.hole_store`; zeros for bad rows.
        holes: where masks are.
        mask_ids: int64 (N,), row of the masks for each file, -1 where no pixel is missing.
        filled: what was filled, or None.
    """

    digests: NDArray[np.uint8]
    bad: dict[int, str]
    store: RowStore
    ids: NDArray[np.int64]
    spec: InputSpec
    seconds: float
    decoded: int
    hits: int
    facts: NDArray[np.int32]
    holes: HoleStore
    mask_ids: NDArray[np.int64]
    filled: Filled | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dtype(self) -> torch.dtype:
        """Of `pixels`."""
        return self.filled.store.dtype if self.filled else self.store.dtype

    @property
    def problems(self) -> tuple[str, ...]:
        """Sentences about damage in the stores, whose rows were made anew."""
        return (*self.store.problems, *self.holes.problems, *(self.filled.store.problems if self.filled else ()))

    @property
    def keys(self) -> NDArray[np.uint8]:
        """Under which features of each row are kept, uint8 (N, 16): what is filled counts, beside the file."""
        return self.filled.keys if self.filled else self.digests

    @property
    def missing_channels(self) -> NDArray[np.bool_]:
        """Bool (N, C), True where a channel is missing."""
        return missing_channels(self.facts)

    @property
    def missing_pixels(self) -> PixelHoles:
        """Masks by row, of rows with missing pixels in channels that are there."""
        return PixelHoles(self.holes, self.facts, self.mask_ids)

    def filled_rows(self, kind: str) -> int:
        """How many images had holes of this kind (`pixels`, `channels`) filled."""
        if self.filled is None or kind not in self.filled.kinds:
            return 0
        holed = self.missing_channels if kind == "channels" else partial_holes(self.facts)
        return int((holed.any(axis=1) & (self.filled.ids >= 0)).sum())

    def pixels(self, rows: NDArray[np.int64] | Tensor) -> Tensor:
        """Pixels of `rows` with their holes filled, uint8 or float32 (B, C, H, W), in raw units.

        Raises:
            ValueError: a bad row is among them.
        """
        wanted = np.asarray(rows, dtype=np.int64)
        if self.filled is None:
            return self._read(wanted)
        found = torch.empty((len(wanted), *self.store.shape), dtype=self.dtype)
        own = self.filled.ids[wanted] >= 0
        found[torch.from_numpy(~own)] = self._read(wanted[~own]).to(self.dtype)
        found[torch.from_numpy(own)] = self.filled.store.gather(self.filled.ids[wanted[own]])
        return found

    def _read(self, rows: NDArray[np.int64]) -> Tensor:
        ids = self.ids[rows]
        if (ids < 0).any():
            row = int(rows[ids < 0][0])
            raise ValueError(f"row {row} has no pixels: {self.bad.get(row)}")
        return self.store.gather(ids)

    def missing(self, rows: NDArray[np.int64] | Tensor) -> NDArray[np.bool_]:
        """What was missing in `rows` when they were read, bool (B, C, H, W), channels that are missing included."""
        wanted = np.asarray(rows, dtype=np.int64)
        found = np.zeros((len(wanted), *self.store.shape), dtype=bool)
        own = self.mask_ids[wanted] >= 0
        found[own] = self.holes.read(self.mask_ids[wanted[own]])
        found[self.missing_channels[wanted]] = True
        return found

    def as_read(self, rows: NDArray[np.int64]) -> ImageRows:
        """Images of `rows` with their holes, as imputers take them."""
        wanted = np.asarray(rows, dtype=np.int64)
        return ImageRows(channels=self.spec.names, values=self._read(wanted).numpy(), missing=self.missing(wanted))
