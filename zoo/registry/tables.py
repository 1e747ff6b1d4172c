"""What libraries do not state of their backbones: measured by `zoo check`, kept in tables, filled in when listed.

A table holds for one version of one library. A source ships the table of the version that it was made with; for any
other version the user's own, made by `zoo check 'SOURCE/*'` and kept in the cache folder, takes its place.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from zoo.disk import cache_folder, write_whole
from zoo.specs.records import BackboneEntry, BackboneSource

FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What was measured of one backbone; the fields are those of `BackboneEntry`."""

    parameters: int
    gmacs: float
    features: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Facts of the backbones of one version of a library.

    Attributes:
        library, version: of the distribution whose networks were measured; its local part, as in `+cu130`, left out.
        made: date, ISO 8601.
    """

    library: str
    version: str
    made: str
    facts: Mapping[str, Facts]


def library_version(source: BackboneSource, distribution: str) -> tuple[str, str]:
    """The library whose version decides what the networks of a source are, and its version, or an empty string."""
    library = source.library or distribution
    try:
        return library, version(library).partition("+")[0]
    except PackageNotFoundError:
        return library, ""


def own_table(source: str, distribution: str) -> Path:
    """Where this user's own table of a distribution's source lies."""
    return cache_folder() / "tables" / f"{distribution}-{source.rpartition(':')[2]}.json"


def read_table(path: Path) -> Table | None:
    """The table in a file, or None where there is none of this format."""
    try:
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if stored["format"] != FORMAT:
            return None
        facts = {
            name: Facts(parameters=parameters, gmacs=gmacs, features=tuple(features))
            for name, (parameters, gmacs, features) in stored["backbones"].items()
        }
        return Table(library=stored["library"], version=stored["version"], made=stored["made"], facts=facts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_table(path: Path, table: Table) -> None:
    """Write a table, a line for each backbone, so that two versions can be compared."""
    head = {"format": FORMAT, "library": table.library, "version": table.version, "made": table.made}
    rows = [
        f"{json.dumps(name)}: {json.dumps([facts.parameters, facts.gmacs, list(facts.features)])}"
        for name, facts in sorted(table.facts.items())
    ]
    text = json.dumps(head)[:-1] + ', "backbones": {\n' + ",\n".join(rows) + "\n}}\n"
    write_whole(path, text)


def fill(source: BackboneSource, distribution: str, entries: list[BackboneEntry]) -> tuple[list[BackboneEntry], str]:
    """The entries, what they leave open filled in by a table of this version; and a sentence where there is none."""
    library, installed = library_version(source, distribution)
    shipped = read_table(source.table) if source.table else None
    own = read_table(own_table(source.name, distribution))
    fits = [table for table in (own, shipped) if table and (table.library, table.version) == (library, installed)]
    entries = [_with_default_input(entry) for entry in entries]
    filled = [_filled(entry, *(table.facts.get(entry.name) for table in fits)) for entry in entries]
    known = shipped.facts if shipped else {}
    bare = sum(entry.parameters is None and entry.name in known for entry in filled)
    if shipped and bare:
        return filled, (
            f"parameters and GMACs of {source.name} were measured for {library} {shipped.version} and {installed} is "
            f"installed, so those of {bare:,} are not known; `zoo check '{source.name}/*'` measures them"
        )
    return filled, ""


def _with_default_input(entry: BackboneEntry) -> BackboneEntry:
    """The entry with the input of its default weights where it states none itself."""
    size = entry.weights[0].input_size if entry.weights else None
    return dataclasses.replace(entry, input_size=size) if entry.input_size is None and size else entry


def _filled(entry: BackboneEntry, *found: Facts | None) -> BackboneEntry:
    facts = next((each for each in found if each), None)
    if facts is None:
        return entry
    measured = dataclasses.asdict(facts)
    stated = {name: getattr(entry, name) for name in measured}
    return dataclasses.replace(entry, **{name: stated[name] or measured[name] for name in measured})
