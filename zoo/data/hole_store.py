"""What is missing in decoded images, kept beside them: flags and counts of every image, masks of those with holes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.data.detect import ABSENT, CONSTANT, Found
from zoo.data.store import RowStore

COUNT, FLAGS = 0, 1
"""Columns of the facts: missing pixels of the channel, and the flags of `zoo.data.detect`."""


class HoleStore:
    """Facts and masks of images by the digests of their files, two stores with the key of the images' own.

    A mask takes a bit a pixel and channel, and only images with missing pixels have one.

    Args:
        folder: of all stores of pixels.
        description: as of the store of the pixels.
        channels: how many there are.
        size: height and width in pixels.

    Attributes:
        channels, size: as given.
        facts: int32 rows (C, 2).
        masks: uint8 rows (C, bytes), bits packed.
    """

    def __init__(self, folder: Path, description: Mapping[str, Any], channels: int, size: tuple[int, int]) -> None:
        self.channels, self.size = channels, size
        self.facts = RowStore(folder, {**description, "kind": "holes"}, (channels, 2), torch.int32)
        width = math.ceil(math.prod(size) / 8)
        self.masks = RowStore(folder, {**description, "kind": "masks of holes"}, (channels, width), torch.uint8)

    @property
    def problems(self) -> list[str]:
        """As of `RowStore`."""
        return [*self.facts.problems, *self.masks.problems]

    def known(self) -> set[bytes]:
        """Digests of which all is there that belongs to them."""
        digests = self.facts.digests()
        facts = self.facts.gather(np.arange(len(digests))).numpy()
        holed = partial_holes(facts).any(axis=1)
        whole = ~holed | (self.masks.find(digests) >= 0)
        return {digest.tobytes() for digest in digests[whole]}

    def append(self, digests: NDArray[np.uint8], found: Sequence[Found]) -> None:
        """Keep what was found in images of these digests, uint8 (M, 16); masks first, so that facts never lack one."""
        facts = np.stack([facts_of(each) for each in found])
        holed = np.flatnonzero(partial_holes(facts).any(axis=1)).tolist()
        packed = [np.packbits(_mask(found[at]).reshape(self.channels, -1), axis=1) for at in holed]
        if packed:
            self.masks.append(digests[holed], torch.from_numpy(np.stack(packed)))
        self.facts.append(digests, torch.from_numpy(facts))

    def read(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Masks bool (M, C, H, W) of these rows of `masks`."""
        bits = np.unpackbits(self.masks.gather(ids).numpy(), axis=2, count=math.prod(self.size))
        return bits.reshape(len(ids), self.channels, *self.size).astype(bool)


def facts_of(found: Found) -> NDArray[np.int32]:
    """Facts of one image, int32 (C, 2)."""
    counts = np.zeros(len(found.flags)) if found.missing is None else found.missing.sum(axis=(1, 2))
    return np.stack([counts, found.flags], axis=1).astype(np.int32)


def _mask(found: Found) -> NDArray[np.bool_]:
    return np.zeros(found.pixels.shape, dtype=bool) if found.missing is None else found.missing


def missing_channels(facts: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Bool (N, C), True where a channel is missing, of facts (N, C, 2)."""
    return np.asarray((facts[..., FLAGS] & (ABSENT | CONSTANT)) != 0)


def partial_holes(facts: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Bool (N, C), True where some pixels of a channel are missing and others are not, of facts (N, C, 2)."""
    return np.asarray((facts[..., COUNT] > 0) & ((facts[..., FLAGS] & ABSENT) == 0))


class PixelHoles(Mapping[int, NDArray[np.bool_]]):
    """By row of the table the mask bool (C, H, W) of its missing pixels, read from disk when it is asked for.

    A channel that is missing altogether is False all over: it is no hole of this kind.
    """

    def __init__(self, store: HoleStore, facts: NDArray[np.int32], ids: NDArray[np.int64]) -> None:
        self._store, self._facts, self._ids = store, facts, ids
        self._rows = np.flatnonzero(partial_holes(facts).any(axis=1))

    def __getitem__(self, row: int) -> NDArray[np.bool_]:
        """The mask of one row.

        Raises:
            KeyError: nothing is missing there.
        """
        if not partial_holes(self._facts[row]).any():
            raise KeyError(row)
        mask = self._store.read(self._ids[[row]])[0]
        mask[missing_channels(self._facts[row])] = False
        return np.asarray(mask)

    def __iter__(self) -> Iterator[int]:
        return iter(self._rows.tolist())

    def __len__(self) -> int:
        return len(self._rows)
