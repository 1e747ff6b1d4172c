"""One file of rows: written with a checksum, mapped without being read, and checked against its checksum."""

from __future__ import annotations

import math
import os
import time
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from zoo.data.store_folder import SETTLED_SECONDS

_CHECKSUM = "crc32"


class BrokenShardError(Exception):
    """A shard whose rows may not be used; the message says what is wrong with it."""


def write_shard(path: Path, digests: NDArray[np.uint8], rows: Tensor) -> None:
    """Write digests, uint8 (M, 16), and rows, (M, …), to a file, with their checksum.

    Nobody waits for the disk: what a loss of power tears is found by the checksum.

    Raises:
        OSError, SafetensorError: the file cannot be written, or the disk is full.
    """
    tensors = {"digests": torch.tensor(digests, dtype=torch.uint8), "rows": rows.detach().cpu().contiguous()}
    save_file(tensors, path, metadata={_CHECKSUM: _checksum(tensors["digests"], tensors["rows"])})
    # A little old: whoever changes the file later gives it another time, even within the file system's clock tick.
    settled = time.time_ns() - 2 * SETTLED_SECONDS * 10**9
    os.utime(path, ns=(settled, settled))


def map_shard(path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Digests and rows of a shard, both mapped from the file and not yet read.

    Raises:
        BrokenShardError: it is torn, not ours, or holds rows of another kind.
        OSError: it cannot be read.
    """
    return _map(path, shape, dtype)[:2]


def check_shard(path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Read a whole shard, a page at a time, and compare it with its checksum.

    1.2 to 2 GB a second on one core of an AMD EPYC from memory (zlib 1.2.13); a slower disk decides.

    Raises:
        BrokenShardError: as `map_shard` does; also where a byte changed, or nothing was written to compare with.
        OSError: it cannot be read.
    """
    digests, rows, stated = _map(path, shape, dtype)
    if stated is None:
        # Of a development version that nobody else has; what cannot be checked is not worth a second way through.
        raise BrokenShardError("it has no checksum")
    if stated != _checksum(digests, rows):
        raise BrokenShardError("its content is not what was written")


def row_bytes(rows: Tensor) -> NDArray[np.uint8]:
    """The memory of (M, *shape) rows as (M, bytes): numpy copies such rows whole, torch number by number."""
    flat: NDArray[np.uint8] = rows.reshape(len(rows), math.prod(rows.shape[1:])).view(torch.uint8).numpy()
    return flat


def _map(path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor, str | None]:
    try:
        with safe_open(path, framework="pt") as file:
            if set(file.keys()) != {"digests", "rows"}:
                raise BrokenShardError("not written by this program")
            digests, rows = file.get_tensor("digests"), file.get_tensor("rows")
            stated = (file.metadata() or {}).get(_CHECKSUM)
    except SafetensorError as error:
        raise BrokenShardError(str(error)) from None
    if rows.dtype != dtype or rows.shape != (len(digests), *shape):
        raise BrokenShardError(f"it holds {tuple(rows.shape)} of {rows.dtype}")
    if digests.dtype != torch.uint8 or digests.shape[1:] != (16,):
        raise BrokenShardError(f"its digests are {tuple(digests.shape)} of {digests.dtype}")
    return digests, rows, stated


def _checksum(digests: Tensor, rows: Tensor) -> str:
    return f"{zlib.crc32(row_bytes(rows).data, zlib.crc32(row_bytes(digests).data)):08x}"
