"""What the cache folder holds, how large it may become, and how it is kept below that; imports no torch."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from zoo.data.store_folder import KEY, InUseError, count_rows, find_stores, remove_store, store_size
from zoo.errors import ZooError

Kind = Literal["images", "features", "speeds", "catalogue", "tables", "checks", "weights"]
KINDS: tuple[Kind, ...] = get_args(Kind)
STORES: tuple[Kind, ...] = ("images", "features")
"""The kinds that grow with the data; the limit is theirs."""

LIMIT = 50 * 10**9
"""Bytes: decoded images of 330,000 files at 224 pixels, or pooled features of dozens of backbones beside fewer."""
SHARE = 0.2
"""Of the disk: a cache that nobody asked for does not fill a laptop."""

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BINARY = {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Z]+)")
_FILES: Mapping[Kind, tuple[str, str]] = {
    "speeds": ("speeds", r"[0-9a-f]{32}\.json"),
    "catalogue": ("", r"catalogue\.json"),
    "tables": ("tables", r".+-.+\.json"),
    "checks": ("", r"checks\.jsonl"),
    "weights": ("lite", r".+-[0-9a-f]{16}\.safetensors"),
}
"""Folder and names of what is no store."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One thing in the cache: a store, a file, or all measured speeds together.

    Attributes:
        kind: one of `KINDS`.
        paths: the store's folder, or files.
        nbytes: what it takes.
        used: seconds since 1970 when it was last opened or written; of a file, when it was written.
        rows: of a store, where they were counted.
        description: what a store's rows depend on, as in its `key.json`; empty where that is damaged.
    """

    kind: Kind
    paths: tuple[Path, ...]
    nbytes: int
    used: float
    rows: int | None = None
    description: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trimmed:
    """What a trim did.

    Attributes:
        removed: the stores, the least recently used first.
        freed: bytes.
        left: bytes of the stores that stay.
    """

    removed: tuple[Path, ...]
    freed: int
    left: int


def find_entries(cache: Path, *, rows: bool = True) -> list[Entry]:
    """Everything in the cache that this program wrote, most recently used first; none in a folder that is not there.

    Args:
        cache: the cache folder.
        rows: whether rows are counted, for which every shard's header is read.

    Raises:
        ZooError: the folder cannot be read.
    """
    try:
        found = [*_stores(cache, rows=rows), *_files(cache)]
    except OSError as error:
        raise ZooError(
            f"the cache folder {cache} cannot be read: {error.strerror}; the environment variable ZOO_CACHE names it"
        ) from None
    return sorted(found, key=lambda entry: -entry.used)


def _children(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return []


def _stores(cache: Path, *, rows: bool) -> Iterator[Entry]:
    folders = {entry.name for entry in _children(cache) if entry.is_dir(follow_symlinks=False)}
    for kind in STORES:
        for folder in find_stores(cache / kind) if kind in folders else ():
            size = store_size(folder)
            yield Entry(
                kind=kind,
                paths=(folder,),
                nbytes=size.nbytes,
                used=size.used,
                rows=count_rows(folder) if rows else None,
                description=_description(folder),
            )


def _description(store: Path) -> Mapping[str, Any]:
    try:
        found = json.loads((store / KEY).read_text(encoding="utf-8"))["description"]
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def _files(cache: Path) -> Iterator[Entry]:
    for kind, (folder, name) in _FILES.items():
        parent = cache / folder
        if folder and (parent.is_symlink() or not parent.is_dir()):
            continue
        ours = [
            Path(e.path) for e in _children(parent) if re.fullmatch(name, e.name) and e.is_file(follow_symlinks=False)
        ]
        for paths in [ours] if kind == "speeds" else [[path] for path in ours]:
            with contextlib.suppress(FileNotFoundError):  # removed by another process
                stats = [path.stat() for path in paths]
                if stats:
                    nbytes, used = sum(each.st_size for each in stats), max(each.st_mtime for each in stats)
                    yield Entry(kind=kind, paths=tuple(paths), nbytes=nbytes, used=used)


def trim(cache: Path, limit: int, keep: Collection[Path] = ()) -> Trimmed:
    """Remove least recently used stores of images and features until all of them together are within `limit` bytes.

    A store that a live process has open stays, and so does one that cannot be removed.

    Args:
        cache: the cache folder.
        limit: bytes.
        keep: folders of stores that stay whatever the limit.

    Raises:
        ZooError: the folder cannot be read.
    """
    stores = [entry for entry in find_entries(cache, rows=False) if entry.kind in STORES]
    left = sum(entry.nbytes for entry in stores)
    removed, freed = [], 0
    for entry in reversed(stores):
        (folder,) = entry.paths
        if left <= limit:
            break
        if folder in keep:
            continue
        try:
            gone = remove_store(folder)
        except (InUseError, OSError):
            continue
        removed.append(folder)
        left, freed = left - entry.nbytes, freed + gone
    return Trimmed(removed=tuple(removed), freed=freed, left=left)


def make_room(cache: Path, *, needed: int = 0, keep: Collection[Path] = ()) -> tuple[str, ...]:
    """Bring the cache within its limit before rows are written; a run calls it when its stores are open.

    A store that is open is never removed, so that the order is: open, make room, write. Takes 0.2 ms a store where
    there is nothing to do.

    Args:
        cache: the cache folder.
        needed: bytes that are about to be written.
        keep: folders of stores that are not open yet and stay nevertheless.

    Returns:
        Sentences about what was removed, and where the cache stays above its limit; none where all is well.

    Raises:
        ZooError: the limit is no size, or the folder cannot be read.
    """
    limit = cache_limit(cache)
    if limit is None:
        return ()
    done = trim(cache, max(0, limit - needed), keep)
    said = []
    if done.removed:
        count = f"{len(done.removed)} least recently used store{'s' if len(done.removed) > 1 else ''}"
        said.append(
            f"the cache would have passed its limit of {format_size(limit)}: {count} "
            f"({format_size(done.freed)}) made room"
        )
    if done.left + needed > limit:
        said.append(
            f"the cache {cache} grows to {format_size(done.left + needed)}, above its limit of {format_size(limit)}: "
            "what is in use stays"
        )
    return tuple(said)


def cache_limit(cache: Path) -> int | None:
    """Bytes that the stores of a cache may take: ZOO_CACHE_LIMIT, else 50 GB or a fifth of the disk, whichever is less.

    Returns:
        None where ZOO_CACHE_LIMIT says `none`.

    Raises:
        ZooError: ZOO_CACHE_LIMIT is no size.
    """
    stated = os.environ.get("ZOO_CACHE_LIMIT", "").strip()
    if stated.lower() == "none":
        return None
    if stated:
        return _parse_size(stated)
    place = next((each for each in (cache.absolute(), *cache.absolute().parents) if each.is_dir()), Path.cwd())
    return min(LIMIT, int(SHARE * shutil.disk_usage(place).total))


def _parse_size(text: str) -> int:
    found = _SIZE.fullmatch(text.upper())
    factor = (_UNITS | _BINARY).get(found[2]) if found else None
    if found is None or factor is None:
        raise ZooError(f"ZOO_CACHE_LIMIT is {text!r}, which is no size; say 50GB, 200MB, 1.5TB or none")
    return int(float(found[1]) * factor)


def format_size(nbytes: int) -> str:
    """Bytes for people, in powers of 1000 with three digits: `812 MB`, `1.25 GB`."""
    unit = next((name for name, factor in reversed(_UNITS.items()) if nbytes >= factor), "B")
    value = nbytes / _UNITS[unit]
    return f"{nbytes} B" if unit == "B" else f"{value:.{max(0, 2 - len(str(int(value))) + 1)}f} {unit}"
