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

from zoo.data.band_files import is_array_file
from zoo.data.bands import read_bands
from zoo.data.decode import DECODE_VERSION, UndecodableError, quiet
from zoo.data.detect import Found, read_colours
from zoo.data.hole_store import HoleStore, partial_holes
from zoo.data.images import Images
from zoo.data.store import RowStore
from zoo.errors import DataError
from zoo.specs import InputSpec

_SHARD_BYTES = 64 * 2**20
_AHEAD_BYTES = 16 * 2**20
_AHEAD = range(4, 65)
"""Files in flight for each worker, by their bytes: as many as are decoded while a shard is written, or all wait."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Read:
    """What a worker found: a digest with a new image, a digest alone if it is known, or a reason."""

    digest: bytes = b""
    found: Found | None = None
    reason: str | None = None


def pixel_store(spec: InputSpec, cache: Path) -> tuple[RowStore, HoleStore]:
    """The store of images decoded for `spec`, and what is missing in them beside it.

    What does not change pixels (mean, std) is not in the key.

    Raises:
        DataError: the network takes another number of channels than 3, or the folder cannot be written.
    """
    if spec.channels != 3 and not spec.bands:
        raise DataError(
            f"images are decoded to 3 channels, but the network takes {spec.channels}; name them with --channels, or "
            "choose another network"
        )
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
    if spec.nodata is not None:
        description["nodata"] = spec.nodata
    if spec.bands:
        description |= {"bands": list(spec.bands), "file_bands": list(spec.file_bands), "layout": spec.layout}
        description["dtype"] = spec.dtype
    dtype = torch.uint8 if spec.dtype == "uint8" else torch.float32
    store = RowStore(cache, description, (spec.channels, *spec.size), dtype)
    return store, HoleStore(cache, description, spec.channels, spec.size)


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
    store, holes = pixel_store(spec, cache)
    known = {digest.tobytes() for digest in store.digests()} & holes.known()
    ahead = min(max(_AHEAD_BYTES // store.row_nbytes, _AHEAD[0]), _AHEAD[-1])
    with closing(_read_all(paths, spec, known, workers or os.cpu_count() or 1, ahead)) as reads:
        digests, bad, decoded = _collect(reads, _Buffer(store, holes), len(paths), progress)
    ids = _identify(paths, store, digests, bad)
    facts = np.zeros((len(paths), spec.channels, 2), dtype=np.int32)
    good = np.flatnonzero(ids >= 0)
    facts[good] = holes.facts.gather(_identify(paths, holes.facts, digests, bad)[good]).numpy()
    masked = np.flatnonzero(partial_holes(facts).any(axis=1))
    mask_ids = np.full(len(paths), -1, dtype=np.int64)
    mask_ids[masked] = holes.masks.find(digests[masked])
    return Images(
        digests=digests,
        bad=bad,
        store=store,
        ids=ids,
        spec=spec,
        seconds=time.perf_counter() - started,
        decoded=decoded,
        hits=len(paths) - decoded - len(bad),
        facts=facts,
        holes=holes,
        mask_ids=mask_ids,
    )


def _collect(
    reads: Iterable[_Read], buffer: _Buffer, total: int, progress: Callable[[int, int], None] | None
) -> tuple[NDArray[np.uint8], dict[int, str], int]:
    """Digests (N, 16), bad rows with reasons, and how many files were decoded; new pixels go to the store."""
    digests = np.zeros((total, 16), dtype=np.uint8)
    bad: dict[int, str] = {}
    decoded = 0
    for row, read in enumerate(reads):
        if read.reason is not None:
            bad[row] = read.reason
        else:
            digests[row] = np.frombuffer(read.digest, dtype=np.uint8)
        if read.found is not None:
            decoded += 1
            buffer.add(read.digest, read.found)
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
        found = read_bands(data, spec) if spec.bands else read_colours(data, spec)
    except UndecodableError as error:
        hint = "; name its bands with --channels" if is_array_file(data) and not spec.bands else ""
        return _Read(reason=f"{error}{hint}")
    known.add(digest)
    return _Read(digest=digest, found=found)


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
    """Decoded images until they fill a shard."""

    def __init__(self, store: RowStore, holes: HoleStore) -> None:
        self.store, self.holes = store, holes
        self.digests: list[bytes] = []
        self.found: list[Found] = []
        self.limit = max(1, _SHARD_BYTES // store.row_nbytes)

    def add(self, digest: bytes, found: Found) -> None:
        self.digests.append(digest)
        self.found.append(found)
        if len(self.digests) >= self.limit:
            self.flush()

    def flush(self) -> None:
        if self.digests:
            digests = np.frombuffer(b"".join(self.digests), dtype=np.uint8).reshape(-1, 16)
            self.holes.append(digests, self.found)
            self.store.append(digests, torch.from_numpy(np.stack([each.pixels for each in self.found])))
            self.digests, self.found = [], []
