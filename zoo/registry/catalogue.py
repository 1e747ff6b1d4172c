"""The list of every backbone, kept in the user's cache folder so that a warm `zoo list` imports no library.

The key holds what may change the list: every installed distribution with its version, the sources of editable plugins,
Python's version and ZOO_DISABLE. A catalogue under another key is made anew. One for which a source could not be asked
is not kept, and one beside broken plugins holds only as long as they are broken in the same way: what failed may work
the next time, for reasons that no key holds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import sys
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from zoo.disk import cache_folder, write_whole
from zoo.errors import NameClashError, RunError
from zoo.hooks import GROUP
from zoo.registry.digest import package_files
from zoo.specs.records import API_VERSION, BackboneEntry, BackboneSource, Weights

FORMAT = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogueRow:
    """One backbone of the catalogue; `entry` is as its source gave it, with what was measured.

    `source` is what users write before the slash: `distribution:source` where two distributions claim one name.
    """

    source: str
    distribution: str
    entry: BackboneEntry

    @property
    def name(self) -> str:
        """`source/model`."""
        return f"{self.source}/{self.entry.name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalogue:
    """Every backbone that the installed plugins offer, sorted by name, and what went wrong in listing them."""

    rows: tuple[CatalogueRow, ...]
    problems: tuple[str, ...] = ()


def installed() -> list[str]:
    """Every installed distribution with its version, by the name of its metadata's folder."""
    names: set[str] = set()
    for folder in sys.path:
        try:
            with os.scandir(folder or ".") as entries:
                names.update(entry.name for entry in entries if entry.name.endswith((".dist-info", ".egg-info")))
        except OSError:
            continue  # a path entry that does not exist, or a zip archive
    return sorted(names)


def _sources() -> list[tuple[str, int, int]]:
    """Size and time of every source file of the plugins, so that an edit to an editable one is seen.

    The user's own tables of measured facts are among them.
    """
    files: list[tuple[str, int, int]] = []
    modules = sorted(_modules() - {"zoo"})
    paths = [path for module in modules for _, path in package_files(module, (".py", ".json"))]
    for path in [*paths, *sorted((cache_folder() / "tables").glob("*.json"))]:
        with contextlib.suppress(OSError):  # a dangling link, such as an editor's lock file
            status = path.stat()
            files.append((str(path), status.st_size, status.st_mtime_ns))
    return files


def _modules() -> set[str]:
    """The top-level modules of the plugins."""
    modules: set[str] = set()
    for point in entry_points(group=GROUP):
        with contextlib.suppress(AttributeError):  # it names no module at all; loading it says so
            modules.add(point.module.partition(".")[0])
    return modules


def catalogue_key() -> str:
    """Hash of everything that the catalogue depends on; imports no plugin."""
    points = sorted((point.name, point.value) for point in entry_points(group=GROUP))
    parts = [FORMAT, API_VERSION, sys.version, os.environ.get("ZOO_DISABLE", ""), points, installed(), _sources()]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


@cache
def catalogue() -> Catalogue:
    """The catalogue: read from disk where its key still holds, else made by asking every source, and kept."""
    path, key = cache_folder() / "catalogue.json", catalogue_key()
    stored = _read(path, key)
    if stored is not None:
        return stored
    broken = _broken_plugins()
    made, complete = _make(broken)
    if complete:
        _write(path, key, made, broken)
    return made


def _broken_plugins() -> list[str]:
    """A sentence about each plugin that does not load."""
    from zoo.registry.plugins import failures

    return [f"plugin {bad.name!r} of {bad.distribution} {bad.version}: {bad.failure}" for bad in failures()]


def _read(path: Path, key: str) -> Catalogue | None:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["key"] != key:
            return None
        # What failed may work by now, for reasons that no key holds; asking is quick, because plugins import little.
        if stored["broken"] and stored["broken"] != _broken_plugins():
            return None
        rows = tuple(
            CatalogueRow(
                source=source,
                distribution=distribution,
                entry=_entry(fields),
            )
            for source, distribution, fields in stored["rows"]
        )
        return Catalogue(rows=rows, problems=tuple(stored["problems"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # absent, torn or of another format: it is only a cache, and made anew


def _entry(fields: dict[str, Any]) -> BackboneEntry:
    weights = tuple(Weights(**each) for each in fields.get("weights", ()))
    return BackboneEntry(**{**fields, "weights": weights, "features": tuple(fields.get("features", ()))})


def _make(broken: list[str]) -> tuple[Catalogue, bool]:
    """The catalogue beside plugins that are `broken`, and whether every source answered."""
    from zoo.registry.lookup import SOURCES
    from zoo.registry.tables import fill

    rows: list[CatalogueRow] = []
    silent: list[str] = []
    clashes: list[str] = []
    gaps: list[str] = []
    for plugin, source in SOURCES.items():
        name = _name_before_slash(plugin.distribution, source.name, clashes)
        if name is None:
            continue
        try:
            entries = _entries(source)
        except (Exception, SystemExit) as error:
            silent.append(f"source {source.name!r} of {plugin.distribution}: {type(error).__name__}: {error}")
            continue
        entries, gap = fill(source, plugin.distribution, entries)
        gaps += [gap] if gap else []
        rows += [CatalogueRow(source=name, distribution=plugin.distribution, entry=entry) for entry in entries]
    problems = tuple(dict.fromkeys(broken + silent + clashes + gaps))
    return Catalogue(rows=tuple(sorted(rows, key=lambda row: row.name)), problems=problems), not silent


def _name_before_slash(distribution: str, source: str, clashes: list[str]) -> str | None:
    """The shortest name that means this source alone, or None; says in `clashes` why it is not the source's own."""
    from zoo.registry.lookup import SOURCES

    for name in (source, f"{distribution}:{source}"):
        try:
            SOURCES.get(name)
        except NameClashError as error:
            clashes.append(str(error))
        else:
            return name
    return None


def _entries(source: BackboneSource) -> list[BackboneEntry]:
    # What a library prints when it is imported would spoil the output that programs read.
    with contextlib.redirect_stdout(io.StringIO()):
        entries = list(source.entries())
    for entry in entries:
        if not isinstance(entry, BackboneEntry):
            raise TypeError(f"entries() gave {entry!r}, which is no BackboneEntry")
        json.dumps(_sparse(entry))  # an entry that cannot be kept must not stop the others from being
    return entries


def _sparse(entry: BackboneEntry) -> dict[str, object]:
    weights = [_stated(dataclasses.asdict(each)) for each in entry.weights]
    return {**_stated(dataclasses.asdict(entry)), **({"weights": weights} if weights else {})}


def _stated(fields: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in fields.items() if value not in (None, "", ())}


def _write(path: Path, key: str, made: Catalogue, broken: list[str]) -> None:
    rows = [(row.source, row.distribution, _sparse(row.entry)) for row in made.rows]
    text = json.dumps({"key": key, "rows": rows, "problems": made.problems, "broken": broken}, separators=(",", ":"))
    with contextlib.suppress(OSError, RunError):  # a cache that cannot be written costs time, nothing else
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
