"""The cache as a user sees it: what is in it, as text and JSON, and how it is cleared. Imports no torch."""

from __future__ import annotations

import fnmatch
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from zoo.data.cache import KINDS, STORES, Entry, Kind, cache_limit, find_entries, format_size
from zoo.data.store_folder import InUseError, is_used, remove_store
from zoo.disk import cache_folder
from zoo.errors import ZooError

_HOURS = {"h": 1, "d": 24, "w": 7 * 24}


@dataclass(frozen=True, kw_only=True)
class CacheListing:
    """What the cache holds.

    Attributes:
        folder: where it lies; it may be absent.
        entries: what was asked for, most recently used first.
        total: bytes of all images and features, those too that were not asked for.
        limit: bytes that these may take; None where there is no limit.
    """

    folder: Path
    entries: tuple[Entry, ...]
    total: int
    limit: int | None


@dataclass(frozen=True, kw_only=True)
class Cleared:
    """What was removed from the cache, or would be.

    Attributes:
        folder: where the cache lies.
        removed: entries that are gone, or would be in a dry run.
        freed: bytes that this made free.
        left: a sentence for each entry that was asked for and stays.
    """

    folder: Path
    removed: tuple[Entry, ...]
    freed: int
    left: tuple[str, ...]


def list_cache(*, backbone: str | None = None, older_than: str | None = None) -> CacheListing:
    """What the cache holds, most recently used first; the same as `zoo cache`.

    Args:
        backbone: only what belongs to backbones whose `source/model` matches this glob; a word without a glob matches
            anywhere. Decoded images belong to none.
        older_than: only what was last used so long ago, such as `12h`, `30d` or `8w`.

    Raises:
        ZooError: the folder cannot be read, or `older_than` or ZOO_CACHE_LIMIT is not understood.
    """
    folder, fits = cache_folder(), _filter(backbone, older_than)
    entries = find_entries(folder)
    return CacheListing(
        folder=folder,
        entries=tuple(entry for entry in entries if fits(entry)),
        total=sum(entry.nbytes for entry in entries if entry.kind in STORES),
        limit=cache_limit(folder),
    )


def clear_cache(
    *kinds: str, backbone: str | None = None, older_than: str | None = None, dry_run: bool = False
) -> Cleared:
    """Remove what the cache holds, all of it or a part; the same as `zoo cache --clear`.

    Everything can be made anew. What a live process has open stays, and so does every file that is not ours.

    Args:
        kinds: any of `images`, `features`, `speeds`, `catalogue`, `tables`, `checks`, `weights`; all by default.
        backbone: as in `list_cache`.
        older_than: as in `list_cache`.
        dry_run: say what would be removed and remove nothing.

    Raises:
        ZooError: as `list_cache` does, or a kind that there is not.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ZooError(f"the cache has no kind {kind!r}; there are {', '.join(KINDS)}")
    wanted: Sequence[str] = kinds or KINDS
    folder, fits = cache_folder(), _filter(backbone, older_than)
    removed, left, freed = [], [], 0
    for entry in find_entries(folder):
        if entry.kind not in wanted or not fits(entry):
            continue
        try:
            freed += _would_free(entry) if dry_run else _remove(entry)
            removed.append(entry)
        except (InUseError, Timeout):
            left.append(f"{entry.kind} {title(entry)} is in use by a running process and stays")
        except OSError as error:
            left.append(f"{entry.kind} {title(entry)} cannot be removed: {error.strerror}")
    return Cleared(folder=folder, removed=tuple(removed), freed=freed, left=tuple(left))


def _filter(backbone: str | None, older_than: str | None) -> Callable[[Entry], bool]:
    glob = backbone if backbone is None or any(mark in backbone for mark in "*?[") else f"*{backbone}*"
    latest = None if older_than is None else time.time() - _seconds(older_than)

    def fits(entry: Entry) -> bool:
        own = backbone_of(entry)
        named = glob is None or (own != "" and fnmatch.fnmatchcase(own, glob))
        return named and (latest is None or entry.used <= latest)

    return fits


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([hdw])", text)
    if found is None:
        raise ZooError(f"--older-than {text!r} is no time; say hours, days or weeks, such as 12h, 30d or 8w")
    return float(found[1]) * _HOURS[found[2]] * 3600


def _would_free(entry: Entry) -> int:
    if entry.kind in STORES and is_used(entry.paths[0]):
        raise InUseError(str(entry.paths[0]))
    return entry.nbytes


def _remove(entry: Entry) -> int:
    if entry.kind in STORES:
        return remove_store(entry.paths[0])
    if entry.kind == "checks":
        with FileLock(f"{entry.paths[0]}.lock", timeout=0):  # `zoo check` holds it as long as it adds to the file
            entry.paths[0].unlink(missing_ok=True)
        return entry.nbytes
    for path in entry.paths:
        path.unlink(missing_ok=True)
    return entry.nbytes


# as text and JSON


def backbone_of(entry: Entry) -> str:
    """The `source/model` that an entry belongs to; empty where it belongs to none."""
    if entry.kind == "weights":
        return f"{entry.paths[0].parent.name}/{entry.paths[0].stem.rpartition('-')[0]}"
    return str(entry.description.get("backbone", "")) if entry.kind == "features" else ""


def title(entry: Entry) -> str:
    """What an entry is, in a few words."""
    if entry.kind in STORES:
        return _store_title(entry) if entry.description else f"unknown: its {entry.paths[0].name}/key.json is damaged"
    files = len(entry.paths)
    titles: dict[Kind, str] = {
        "speeds": f"{files} measurement{'s' if files > 1 else ''} of how fast this machine computes",
        "catalogue": "names of all backbones",
        "tables": entry.paths[0].stem,
        "checks": "outcomes of zoo check",
    }
    return titles.get(entry.kind) or backbone_of(entry)


def _store_title(entry: Entry) -> str:
    key = entry.description
    size = "x".join(map(str, key.get("size", ())))
    if entry.kind == "images":
        crop = f"center crop of {key.get('resize')}" if key.get("crop") == "center" else str(key.get("crop"))
        if key.get("kind") == "filled":
            return f"{size}, holes filled"
        beside = "" if key.get("kind") == "pixels" else f", {key.get('kind')}"
        bands = f", {' '.join(key['bands'])}" if key.get("bands") else ""
        return f"{size}, {key.get('interpolation')}, {crop}{bands}{beside}"
    boundary = key.get("boundary")
    where = f"before {', '.join(map(str, boundary))}" if boundary else str(key.get("kind"))
    parts = [backbone_of(entry) or "unnamed backbone", where, size, str(key.get("precision"))]
    for name in ("augment", "view"):
        if key.get(name) is not None:
            value = key[name]
            parts.append(f"{name} {value if isinstance(value, str | int) else json.dumps(value)}")
    return ", ".join(parts)


def entry_json(entry: Entry) -> dict[str, Any]:
    """An entry as JSON values; `last_used` is UTC, ISO 8601."""
    return {
        "kind": entry.kind,
        "what": title(entry),
        "backbone": backbone_of(entry) or None,
        "rows": entry.rows,
        "bytes": entry.nbytes,
        "last_used": datetime.fromtimestamp(entry.used, UTC).isoformat(timespec="seconds"),
        "paths": [str(path) for path in entry.paths],
        "description": dict(entry.description),
    }


def table_lines(entries: Sequence[Entry]) -> list[str]:
    """Entries as lines of text with a heading."""
    now = time.time()
    cells = [("KIND", "WHAT", "ROWS", "SIZE", "LAST USED"), *(_cells(entry, now) for entry in entries)]
    widths = [max(len(line[column]) for line in cells) for column in range(5)]
    return [
        "  ".join(
            text.ljust(width) if column in (0, 1) else text.rjust(width)
            for column, (text, width) in enumerate(zip(line[:4], widths, strict=False))
        )
        + f"  {line[4]}"
        for line in cells
    ]


def _cells(entry: Entry, now: float) -> tuple[str, ...]:
    rows = "-" if entry.rows is None else f"{entry.rows:,}"
    return entry.kind, title(entry), rows, format_size(entry.nbytes), _ago(now - entry.used)


def _ago(seconds: float) -> str:
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"
