"""Read every image file once: its digest, its pixels in a store, or the reason why there are none."""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.data.decode import DECODE_VERSION, UndecodableError, decode, quiet
from zoo.data.store import RowStore
from zoo.errors import DataError
from zoo.specs import InputSpec

_SHARD_BYTES = 64 * 2**20
_AHEAD_BYTES = 16 * 2**20
_AHEAD = range(4, 65)
"""Files in flight for each worker, by their bytes: as many as are decoded while a shard is written, or all wait."""


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
    """

    digests: NDArray[np.uint8]
    bad: dict[int, str]
    store: RowStore
    ids: NDArray[np.int64]
    spec: InputSpec
    seconds: float
    decoded: int
    hits: int

    def __len__(self) -> int:
        return len(self.ids)

    def pixels(self, rows: NDArray[np.int64] | Tensor) -> Tensor:
        """Pixels of `rows`, uint8 (B, 3, H, W).

        Raises:
            ValueError: a bad row is among them.
        """
        wanted = np.asarray(rows, dtype=np.int64)
        ids = self.ids[wanted]
        if (ids < 0).any():
            row = int(wanted[ids < 0][0])
            raise ValueError(f"row {row} has no pixels: {self.bad.get(row)}")
        return self.store.gather(ids)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Read:
    """What a worker found: a digest with new pixels (3, H, W), a digest alone if they are known, or a reason."""

    digest: bytes = b""
    pixels: NDArray[np.uint8] | None = None
    reason: str | None = None


def pixel_store(spec: InputSpec, cache: Path) -> RowStore:
    """The store of images decoded for `spec`; what does not change pixels (mean, std) is not in its key.

    Raises:
        DataError: the network takes another number of channels than 3, or the folder cannot be written.
    """
    if spec.channels != 3:
        raise DataError(f"images are decoded to 3 channels, but the network takes {spec.channels}; choose another one")
    description: dict[str, object] = {
        "kind": "pixels",
        "decode": DECODE_VERSION,
        "pillow": PIL.__version__,
        "size": list(spec.size),
        "interpolation": spec.interpolation,
        "crop": spec.crop,
    }
    if spec.crop == "center":
        description["resize"] = spec.resize
    return RowStore(cache, description, (3, *spec.size), torch.uint8)


def ingest(
    paths: Sequence[Path],
    spec: InputSpec,
    cache: Path,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Images:
    """Read N files, decode those whose content is new, and keep the pixels.

    A file that gives no pixels never stops it. Stopped by Ctrl-C, it leaves whole shards only and goes on from there
    the next time.

    Args:
        paths: the files.
        spec: what the pixels shall be like.
        cache: folder of all stores of pixels.
        workers: threads; as many as there are cores by default.
        progress: called in this thread with (files done, files) after each file.

    Raises:
        DataError: the cache cannot be written, or changed meanwhile.
    """
    started = time.perf_counter()
    store = pixel_store(spec, cache)
    known = {digest.tobytes() for digest in store.digests()}
    ahead = min(max(_AHEAD_BYTES // store.row_nbytes, _AHEAD[0]), _AHEAD[-1])
    with closing(_read_all(paths, spec, known, workers or os.cpu_count() or 1, ahead)) as reads:
        digests, bad, decoded = _collect(reads, store, len(paths), progress)
    ids = _identify(paths, store, digests, bad)
    return Images(
        digests=digests,
        bad=bad,
        store=store,
        ids=ids,
        spec=spec,
        seconds=time.perf_counter() - started,
        decoded=decoded,
        hits=len(paths) - decoded - len(bad),
    )


def _collect(
    reads: Iterable[_Read], store: RowStore, total: int, progress: Callable[[int, int], None] | None
) -> tuple[NDArray[np.uint8], dict[int, str], int]:
    """Digests (N, 16), bad rows with reasons, and how many files were decoded; new pixels go to the store."""
    digests = np.zeros((total, 16), dtype=np.uint8)
    bad: dict[int, str] = {}
    buffer, decoded = _Buffer(store), 0
    for row, read in enumerate(reads):
        if read.reason is not None:
            bad[row] = read.reason
        else:
            digests[row] = np.frombuffer(read.digest, dtype=np.uint8)
        if read.pixels is not None:
            decoded += 1
            buffer.add(read.digest, read.pixels)
        if progress is not None:
            progress(row + 1, total)
    buffer.flush()
    return digests, bad, decoded


def _identify(
    paths: Sequence[Path], store: RowStore, digests: NDArray[np.uint8], bad: dict[int, str]
) -> NDArray[np.int64]:
    """Ids of the rows, int64 (N,), -1 for bad ones."""
    ids = np.full(len(paths), -1, dtype=np.int64)
    good = np.array([row for row in range(len(paths)) if row not in bad], dtype=np.int64)
    ids[good] = store.find(digests[good])
    lost = good[ids[good] < 0]
    if lost.size:
        raise DataError(f"the cache {store.folder} lost the pixels of {paths[lost[0]]} meanwhile; run again")
    return ids


def _read_all(
    paths: Sequence[Path], spec: InputSpec, known: set[bytes], workers: int, ahead: int
) -> Generator[_Read, None, None]:
    """Read in threads (Pillow and hashlib let go of the interpreter), `ahead` files for each of them, in order."""
    waiting = iter(paths)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="zoo-decode")
    with quiet:
        try:
            flying: deque[Future[_Read]] = deque(
                pool.submit(_read, path, spec, known) for path in itertools.islice(waiting, ahead * workers)
            )
            while flying:
                read = flying.popleft().result()
                flying.extend(pool.submit(_read, path, spec, known) for path in itertools.islice(waiting, 1))
                yield read
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _read(path: Path, spec: InputSpec, known: set[bytes]) -> _Read:
    try:
        data = path.read_bytes()
    except OSError as error:
        return _Read(reason=_why(error))
    digest = hashlib.blake2b(data, digest_size=16).digest()
    if digest in known:
        return _Read(digest=digest)
    try:
        pixels = np.ascontiguousarray(decode(data, spec).transpose(2, 0, 1))
    except UndecodableError as error:
        return _Read(reason=str(error))
    known.add(digest)
    return _Read(digest=digest, pixels=pixels)


def _why(error: OSError) -> str:
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return "no such file"
        case IsADirectoryError():
            return "a folder, not a file"
        case PermissionError():
            return "no permission to read it"
    return f"cannot be read: {error.strerror or error}"


class _Buffer:
    """Decoded rows until they fill a shard."""

    def __init__(self, store: RowStore) -> None:
        self.store = store
        self.digests: list[bytes] = []
        self.pixels: list[NDArray[np.uint8]] = []
        self.limit = max(1, _SHARD_BYTES // store.row_nbytes)

    def add(self, digest: bytes, pixels: NDArray[np.uint8]) -> None:
        self.digests.append(digest)
        self.pixels.append(pixels)
        if len(self.digests) >= self.limit:
            self.flush()

    def flush(self) -> None:
        if self.digests:
            digests = np.frombuffer(b"".join(self.digests), dtype=np.uint8).reshape(-1, 16)
            self.store.append(digests, torch.from_numpy(np.stack(self.pixels)))
            self.digests, self.pixels = [], []
