"""`zoo cache`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.cli.output import parse, write, write_json
from zoo.config import CacheConfig
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.jobs.cache import CacheListing, Cleared


def run(words: Sequence[str]) -> None:
    """List the cache, or clear it and say what is gone."""
    config = parse(CacheConfig, "cache", words)
    from zoo.jobs.cache import clear_cache, list_cache

    if config.clear is None:
        if config.dry_run:
            raise ZooError("--dry-run says what --clear would remove; give --clear too")
        found = list_cache(backbone=config.backbone, older_than=config.older_than)
        (_json_listing if config.json else _show)(found)
        return
    done = clear_cache(*config.clear, backbone=config.backbone, older_than=config.older_than, dry_run=config.dry_run)
    if config.json:
        _json_cleared(done, dry=config.dry_run)
    else:
        _say(done, dry=config.dry_run)


def _show(found: CacheListing) -> None:
    from zoo.data.cache import format_size
    from zoo.jobs.cache import table_lines

    if found.entries:
        write("\n".join(table_lines(found.entries)))
    elif not found.folder.exists():
        write(f"nothing is cached yet: there is no folder {found.folder}")
    else:
        write("nothing in the cache fits")
    limit = "no limit" if found.limit is None else f"limit {format_size(found.limit)}"
    write(f"{format_size(found.total)} of images and features, {limit} (ZOO_CACHE_LIMIT), in {found.folder}")


def _json_listing(found: CacheListing) -> None:
    from zoo.jobs.cache import entry_json

    entries = [entry_json(entry) for entry in found.entries]
    stated = {"folder": str(found.folder), "total_bytes": found.total, "limit_bytes": found.limit}
    write_json({**stated, "entries": entries})


def _say(done: Cleared, *, dry: bool) -> None:
    from zoo.data.cache import format_size
    from zoo.jobs.cache import table_lines

    if done.removed:
        write("\n".join(table_lines(done.removed)))
    for sentence in done.left:
        write(f"note: {sentence}")
    said = "would be removed from" if dry else "removed from"
    write(f"{len(done.removed)} ({format_size(done.freed)}) {said} {done.folder}")


def _json_cleared(done: Cleared, *, dry: bool) -> None:
    from zoo.jobs.cache import entry_json

    removed = [entry_json(entry) for entry in done.removed]
    stated = {"folder": str(done.folder), "dry_run": dry, "freed_bytes": done.freed, "left": list(done.left)}
    write_json({**stated, "removed": removed})
