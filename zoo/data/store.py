"""Rows of numbers on disk, found again by the content that they came from: decoded images here, features elsewhere."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import time
import uuid
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from zoo.data.shards import BrokenShardError, check_shard, map_shard, row_bytes, write_shard
from zoo.data.store_folder import KEY, SHARD, CheckedShards, hold
from zoo.errors import DataError

_STALE_SECONDS = 24 * 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shard:
    path: Path
    first: int
    rows: int
    stamp: tuple[int, int]
    """Size and time of change."""


class RowStore:
    """Rows of one shape and dtype, addressed by 16-byte digests, in immutable safetensors shards below one folder.

    Several processes may append at once: a shard is written under another name and put in place whole, and `find` sees
    what others added. Rows keep their ids as long as this object lives, and so long no process removes the store.

    A shard carries a checksum of its rows and digests. One that this program did not just write is read whole when it
    is first seen, at 1.2 to 2 GB a second, and then known to every process for thirty days, as long as its size and
    time stay: opening a store of any size costs nothing the second time. One that is not what was written is removed
    before anybody is given an id of its rows, so that they are simply absent.

    Args:
        folder: of all stores of this kind; this one lies in a folder of its own below it.
        description: JSON values that the rows depend on. With shape and dtype they are the key of the store, which
            stands in its `key.json`.
        shape: of one row.
        dtype: of the rows.

    Attributes:
        folder: of this store.
        problems: a sentence for each shard that was damaged or could not be read; its rows count as absent.

    Raises:
        DataError: the folder cannot be made or written.
    """

    def __init__(
        self, folder: Path, description: Mapping[str, Any], shape: tuple[int, ...], dtype: torch.dtype
    ) -> None:
        self.shape = tuple(shape)
        self.dtype = dtype
        self.problems: list[str] = []
        key = {"description": dict(description), "shape": list(shape), "dtype": str(dtype).removeprefix("torch.")}
        text = json.dumps(key, sort_keys=True, separators=(",", ":"))
        self.folder = folder / hashlib.blake2b(text.encode()).hexdigest()[:32]
        self._shards: list[_Shard] = []
        self._seen: set[str] = set()
        self._open: dict[int, Tensor] = {}
        self._digests: list[NDArray[np.uint8]] = []
        self._index: tuple[NDArray[np.bytes_], NDArray[np.int64]] | None = None
        self._checked = CheckedShards(self.folder)
        self._prepare(json.dumps(key, indent=2, sort_keys=True))
        self._scan()

    def __len__(self) -> int:
        return self._shards[-1].first + self._shards[-1].rows if self._shards else 0

    @property
    def row_nbytes(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return len(self) * self.row_nbytes

    def digests(self) -> NDArray[np.uint8]:
        """Digests of all rows known so far, uint8 (R, 16), in the order of their ids."""
        return np.concatenate(self._digests) if self._digests else np.empty((0, 16), dtype=np.uint8)

    def find(self, digests: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Ids of the rows of these digests, uint8 (N, 16); int64 (N,), -1 where there is none."""
        self._scan()
        if self._index is None:
            self._index = np.unique(_keys(self.digests()), return_index=True)
        known, ids = self._index
        if len(known) == 0 or len(digests) == 0:
            return np.full(len(digests), -1, dtype=np.int64)
        wanted = _keys(digests)
        at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        return np.where(known[at] == wanted, ids[at], -1).astype(np.int64)

    def append(self, digests: NDArray[np.uint8], rows: Tensor) -> None:
        """Write one shard: it is there whole or not at all, also when the program is stopped.

        Args:
            digests: uint8 (M, 16); duplicates do no harm.
            rows: (M, *shape) of the store's dtype, on any device.

        Raises:
            DataError: the folder cannot be written, or the disk is full.
        """
        if rows.dtype != self.dtype or tuple(rows.shape) != (len(digests), *self.shape) or digests.shape[1:] != (16,):
            raise ValueError(
                f"{len(digests)} digests and rows {tuple(rows.shape)} of {rows.dtype} for {self.shape} of {self.dtype}"
            )
        if not len(digests):
            return
        name = uuid.uuid4().hex
        temporary, path = self.folder / f".{name}.tmp", self.folder / f"{name}{SHARD}"
        try:
            write_shard(temporary, digests, rows)
            status = temporary.stat()
            self._seen.add(path.name)
            temporary.replace(path)
        except (OSError, SafetensorError) as error:
            raise self._unwritable(error) from None
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        self._admit(path, np.array(digests, dtype=np.uint8), status)

    def gather(self, ids: NDArray[np.int64] | Tensor) -> Tensor:
        """Copy the rows of these ids into memory, (len(ids), *shape); what is not asked for is not read.

        Raises:
            DataError: a shard was taken away since it was found.
            IndexError: an id that there is not.
        """
        wanted = np.asarray(ids, dtype=np.int64)
        if wanted.size and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"row ids must lie in 0 … {len(self) - 1}; asked for {wanted.min()} … {wanted.max()}")
        result = torch.empty((len(wanted), *self.shape), dtype=self.dtype)
        firsts = np.array([shard.first for shard in self._shards], dtype=np.int64)
        homes = np.searchsorted(firsts, wanted, side="right") - 1
        order = np.argsort(homes, kind="stable")
        for number, places in zip(*_runs(homes, order), strict=True):
            local, rows, target = wanted[places] - firsts[number], row_bytes(self._rows(number)), row_bytes(result)
            if places[-1] - places[0] + 1 == len(places):  # a stable order makes these neighbours: no second copy
                np.take(rows, local, axis=0, out=target[places[0] : places[-1] + 1], mode="clip")
            else:
                target[places] = rows[local]
        return result

    def _prepare(self, key: str) -> None:
        try:
            handle = hold(self.folder)
            if handle is not None:
                weakref.finalize(self, os.close, handle)
            path = self.folder / KEY
            if not path.exists():
                temporary = self.folder / f".{uuid.uuid4().hex}.tmp"
                temporary.write_text(key, encoding="utf-8")
                temporary.replace(path)
            for left in self.folder.glob(".*"):  # of a process that was killed while it wrote
                with contextlib.suppress(FileNotFoundError):  # or of one that has just put its file in place
                    if left.stat().st_mtime < time.time() - _STALE_SECONDS:
                        left.unlink()
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: Exception) -> DataError:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return DataError(
            f"the cache {self.folder} cannot be written: {reason}. Make room there, or choose another folder"
        )

    def _scan(self) -> None:
        """Take in the shards that are new in the folder."""
        try:
            names = {entry.name for entry in os.scandir(self.folder) if entry.name.endswith(SHARD)}
        except OSError as error:
            raise DataError(f"the cache {self.folder} cannot be read: {error.strerror}") from None
        if names - self._seen:
            self._checked.read()
        for name in sorted(names - self._seen):
            self._seen.add(name)
            self._take_in(self.folder / name)

    def _take_in(self, path: Path) -> None:
        """Admit a shard that is what was written; remove any other."""
        try:
            status = path.stat()
            if not self._checked.holds(path.name, status):
                check_shard(path, self.shape, self.dtype)
                self._checked.add(path.name, status)
            self._admit(path, map_shard(path, self.shape, self.dtype)[0].numpy().copy(), status)
        except BrokenShardError as error:
            self.problems.append(f"{path} was removed, its rows are made anew: {error}")
            with contextlib.suppress(OSError):
                path.unlink()
        except OSError as error:
            self.problems.append(f"{path} cannot be read, its rows are made anew: {error}")

    def _admit(self, path: Path, digests: NDArray[np.uint8], status: os.stat_result) -> None:
        if len(digests):
            stamp = (status.st_size, status.st_mtime_ns)
            self._shards.append(_Shard(path=path, first=len(self), rows=len(digests), stamp=stamp))
            self._digests.append(digests)
            self._index = None

    def _rows(self, number: int) -> Tensor:
        if number not in self._open:
            shard = self._shards[number]
            try:
                status = shard.path.stat()
                if (status.st_size, status.st_mtime_ns) != shard.stamp:
                    raise BrokenShardError("it was written to")
                self._open[number] = map_shard(shard.path, self.shape, self.dtype)[1]
            except (BrokenShardError, OSError) as error:
                raise DataError(
                    f"{shard.path} changed while it was in use ({error}); run again to make it anew"
                ) from None
        return self._open[number]


def _keys(digests: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """(N, 16) bytes as N strings; equal lengths, so that the zeros numpy strips at the end tell nothing apart."""
    return np.ascontiguousarray(digests, dtype=np.uint8).view("S16").reshape(-1)


def _runs(homes: NDArray[np.int64], order: NDArray[np.int64]) -> tuple[list[int], list[NDArray[np.int64]]]:
    """The shards that are asked for, and for each the places in the answer that it fills, ascending."""
    if not len(order):
        return [], []
    cuts = np.flatnonzero(np.diff(homes[order])) + 1
    places = np.split(order, cuts)
    return [int(homes[held[0]]) for held in places], places
