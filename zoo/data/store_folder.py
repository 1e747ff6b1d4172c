"""The folder of one store: which files in it are ours, who uses it, which shards were checked; imports no torch."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

# None on Windows, where the system itself refuses to remove a file that somebody has mapped.
fcntl: Any = import_module("fcntl") if os.name == "posix" else None

KEY = "key.json"
USE = "in-use.lock"
CHECKED = "checked.txt"
SHARD = ".safetensors"
SETTLED_SECONDS = 2
"""A file that changed less than so long ago may change again within one tick of the file system's clock."""
CHECK_AGAIN_SECONDS = 30 * 24 * 3600
"""A disk may spoil what nobody writes to, so that no check holds for ever."""

_TRIES = 100
_OURS = re.compile(rf"[0-9a-f]{{32}}{re.escape(SHARD)}|\.[0-9a-f]{{32}}\.tmp|{KEY}|{USE}|{CHECKED}")
_STORE = re.compile(r"[0-9a-f]{32}")


class InUseError(Exception):
    """A store that a live process has open."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreSize:
    """What a store's files take.

    Attributes:
        nbytes: of all files that are ours.
        used: seconds since 1970 when a process last opened it or wrote to it.
    """

    nbytes: int
    used: float


# who uses it


def hold(folder: Path) -> int | None:
    """Make the folder of a store if need be and mark it as used, now and until the answer is closed.

    The mark is a lock of the operating system's, which goes with its process, however that ends.

    Returns:
        A file descriptor, or None where the folder is there but takes no lock.

    Raises:
        OSError: the folder cannot be made.
    """
    for _ in range(_TRIES):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(folder / USE, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            continue  # removed since it was made
        except OSError:
            return None  # a cache that may only be read
        with contextlib.suppress(OSError):
            os.utime(handle)
        if not _lock(handle, exclusive=False) or _is_at(handle, folder / USE):
            return handle
        os.close(handle)  # it was being removed
    return None


def remove_store(folder: Path) -> int:
    """Remove the files of a store that are ours, and the folder where nothing else is in it.

    Returns:
        How many bytes that made free; 0 where the store is gone already.

    Raises:
        InUseError: a live process, or this one, has it open.
        OSError: a file cannot be removed.
    """
    try:
        handle = os.open(folder / USE, os.O_RDWR | os.O_CREAT, 0o644)
    except FileNotFoundError:
        return 0
    try:
        if not _lock(handle, exclusive=True):
            raise InUseError(str(folder))
        return _remove_files(folder) if _is_at(handle, folder / USE) else 0
    finally:
        os.close(handle)


def is_used(folder: Path) -> bool:
    """Whether a live process, or this one, has a store open.

    Raises:
        OSError: that cannot be known, because the file system has no locks.
    """
    try:
        handle = os.open(folder / USE, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _lock(handle, exclusive=True)
    finally:
        os.close(handle)


def _remove_files(folder: Path) -> int:
    freed = 0
    # What makes it a store goes last, so that one whose removal was stopped is still known as one.
    for entry in sorted(_files(folder), key=lambda entry: (entry.name == USE, entry.name == KEY)):
        freed += entry.stat(follow_symlinks=False).st_size
        Path(entry.path).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # somebody else's file is in it
        folder.rmdir()
    return freed


def _lock(handle: int, *, exclusive: bool) -> bool:
    """Whether the lock was got: alone and at once, or, together with other users, after waiting for a removal."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB if exclusive else fcntl.LOCK_SH)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: a store may be used there, but never be known to be unused
        if exclusive:
            raise
        return False
    return True


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


# which files are ours


def find_stores(folder: Path) -> list[Path]:
    """Folders of the stores below a folder, sorted; what this program did not make is passed over.

    Raises:
        OSError: the folder cannot be read.
    """
    with os.scandir(folder) as entries:
        folders = [Path(e.path) for e in entries if _STORE.fullmatch(e.name) and e.is_dir(follow_symlinks=False)]
    return sorted(each for each in folders if _files(each))


def store_size(folder: Path) -> StoreSize:
    """Bytes and last use of a store."""
    nbytes, used = 0, 0.0
    for entry in _files(folder):
        with contextlib.suppress(FileNotFoundError):  # removed by another process
            status = entry.stat(follow_symlinks=False)
            nbytes, used = nbytes + status.st_size, max(used, status.st_mtime)
    return StoreSize(nbytes=nbytes, used=used)


def count_rows(folder: Path) -> int:
    """Rows in the shards of a store, from the shards' headers alone; 0 for a shard that cannot be read."""
    return sum(_rows_of(Path(entry.path)) for entry in _files(folder) if entry.name.endswith(SHARD))


def _rows_of(shard: Path) -> int:
    try:
        with shard.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, 2**20)))  # ours take some hundred bytes
        return int(header["rows"]["shape"][0])
    except (OSError, ValueError, LookupError, TypeError):
        return 0  # torn or not ours: the store finds out when it is opened


def _files(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if _OURS.fullmatch(entry.name)]
    except FileNotFoundError:
        return []


# which shards were checked


class CheckedShards:
    """Shards known to hold what was written, remembered in a file beside them by size and time of change.

    Lines are added and never changed, which many processes may do at once.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / CHECKED
        self._known: dict[str, tuple[int, ...]] = {}

    def read(self) -> None:
        """Take in what stands in the file; a damaged line is passed over."""
        try:
            lines = self.path.read_text(encoding="ascii", errors="replace").splitlines()
        except OSError:
            return  # none yet, or unreadable: everything is checked
        for line in lines:
            with contextlib.suppress(ValueError):
                name, *numbers = line.split(" ")
                size, changed, checked = map(int, numbers)
                self._known[name] = (size, changed, checked)

    def holds(self, name: str, status: os.stat_result) -> bool:
        """Whether a shard of this name, size and time was checked in the last thirty days."""
        size, changed, checked = self._known.get(name, (0, 0, 0))
        recent = time.time() - checked < CHECK_AGAIN_SECONDS
        return recent and (size, changed) == (status.st_size, status.st_mtime_ns)

    def add(self, name: str, status: os.stat_result) -> None:
        """Remember a shard, unless it changed just now and may change again without a change of its time."""
        if time.time() - status.st_mtime < SETTLED_SECONDS:
            return
        line = f"{name} {status.st_size} {status.st_mtime_ns} {int(time.time())}\n"
        with contextlib.suppress(OSError), self.path.open("a", encoding="ascii") as file:
            file.write(line)  # what cannot be remembered is checked again
