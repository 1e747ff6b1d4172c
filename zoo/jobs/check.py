"""Check backbones and plugins against the contract: the body of `zoo check`."""

from __future__ import annotations

import datetime
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.config import CheckConfig
from zoo.disk import cache_folder
from zoo.errors import OptionError, ZooError
from zoo.grid.rows import Cell, Row
from zoo.grid.run import failed, run_grid
from zoo.grid.worker import Limits
from zoo.jobs.listing import find_rows
from zoo.jobs.progress import Reporter
from zoo.model.view import find_entry
from zoo.registry.catalogue import CatalogueRow
from zoo.registry.lookup import SOURCES
from zoo.registry.plugins import Plugin, find_plugins
from zoo.registry.tables import Facts, Table, library_version, own_table, read_table, write_table
from zoo.specs import BackboneSource
from zoo.testing.check import Result
from zoo.testing.sweep import backbone_cells, plugin_cell

PRELOAD = ("zoo.testing.sweep", "timm", "torchvision")
"""Imported once for all processes; what is not installed is passed over."""


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What a check found.

    Attributes:
        results: of every check, in the order of the subjects.
        rows: the grid's rows, one for each backbone and plugin.
        tables: files of measured facts that were written.
    """

    results: tuple[Result, ...]
    rows: tuple[Row, ...]
    tables: tuple[Path, ...] = ()

    @property
    def failed(self) -> tuple[Result, ...]:
        """The results that are failures."""
        return tuple(result for result in self.results if result.outcome == "failed")

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of results by outcome."""
        return Counter(result.outcome for result in self.results)


def run_check(config: CheckConfig, reporter: Reporter) -> CheckReport:
    """Check what the options name; a failed check is a result, not an error.

    What an earlier check found is not looked for again, unless its process was stopped or died: another limit, or
    another day, may do.

    Raises:
        UnknownNameError: no backbone matches, or no such plugin.
        OptionError: nothing to check, a limit that is not positive, or a table for several sources.
    """
    for name, value in {"jobs": config.jobs, "seconds": config.seconds, "memory": config.memory}.items():
        if value is not None and not value > 0:
            raise OptionError(f"--{name} must be positive, not {value}")
    if not config.what:
        raise OptionError(
            "say what to check: a plugin, as in `zoo check timm`, or a glob, as in `zoo check 'timm/vit*'`"
        )
    cells = _cells(config.what)
    sources = {cell.parameters["source"] for cell in cells if "source" in cell.parameters}
    if config.table and len(sources) != 1:
        named = ", ".join(sorted(sources)) or "none"
        raise OptionError(f"--table holds the backbones of one source, not of {named}")
    with reporter.bar("checking", "backbones") as progress:
        rows = run_grid(
            cells,
            config.out or cache_folder() / "checks.jsonl",
            jobs=config.jobs or os.cpu_count() or 1,
            limits=Limits(seconds=config.seconds, mib=config.memory * 1024),
            retry=_has_failed if config.retry else failed,
            preload=PRELOAD,
            progress=progress,
        )
    results = tuple(result for row in rows for result in _results(row))
    return CheckReport(results=results, rows=tuple(rows), tables=_tables(rows, config.table))


def _cells(what: Sequence[str]) -> list[Cell]:
    """The cells of each backbone, glob or plugin that is named."""
    cells: list[Cell] = []
    for word in what:
        if "/" in word or any(mark in word for mark in "*?["):
            models: dict[str, list[str]] = {}
            for row in _rows(word):
                models.setdefault(row.source, []).append(row.entry.name)
            for source, names in models.items():
                cells += backbone_cells(SOURCES.home(source), source, names)
            continue
        for plugin in find_plugins(word):
            cells.append(plugin_cell(plugin))
            for source in plugin.records.get("zoo_backbones", ()):
                cells += _all_of(plugin, source)
    return cells


def _rows(word: str) -> Sequence[CatalogueRow]:
    """The backbones that a glob matches, or the one of this very name."""
    return find_rows(word) if any(mark in word for mark in "*?[") else [find_entry(word)]


def _all_of(plugin: Plugin, source: BackboneSource) -> list[Cell]:
    name = _full_name(plugin, source)
    try:
        SOURCES.get(name)
        models = [entry.name for entry in source.entries()]
    except Exception:  # the source's own check tells it, and that of the plugin a name that cannot be resolved
        return []
    return backbone_cells(plugin, name, models)


def _full_name(plugin: Plugin, source: BackboneSource) -> str:
    """The source's name, with its distribution where another one claims it too."""
    return f"{plugin.distribution}:{source.name}" if SOURCES.claimed(source) else source.name


def _has_failed(row: Row) -> bool:
    return any(result.outcome == "failed" for result in _results(row))


def _results(row: Row) -> list[Result]:
    if row.status == "ok":
        return [Result(**result) for result in row.result["results"]]
    if "model" in row.parameters:
        subject = f"backbone {row.parameters['source']}/{row.parameters['model']}"
    else:
        subject = f"plugin {row.parameters['plugin']}"
    lines = row.output.strip().splitlines()
    last = f"; it wrote: {lines[-1]}" if row.status == "died" and lines else ""
    message = f"{row.message}{last}"
    return [Result(subject=subject, check="it-can-be-checked", outcome="failed", message=message, seconds=row.seconds)]


def _tables(rows: Sequence[Row], wanted: Path | None) -> tuple[Path, ...]:
    """Put what was measured into the user's own tables, and into the file that was asked for."""
    found: dict[str, dict[str, Facts]] = {}
    for row in rows:
        if row.status == "ok" and (facts := row.result.get("facts")):
            measured = Facts(**{**facts, "features": tuple(facts["features"])})
            found.setdefault(row.parameters["source"], {})[row.parameters["model"]] = measured
    written = []
    for name, facts_by_model in found.items():
        for path in (wanted,) if wanted else (own_table(name, SOURCES.home(name).distribution),):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_table(path, _joined(name, facts_by_model, read_table(path)))
            written.append(path)
    return tuple(written)


def _joined(source: str, facts: Mapping[str, Facts], old: Table | None) -> Table:
    """A table of these facts, and of those of the same version that were there."""
    library, version = library_version(SOURCES.get(source), SOURCES.home(source).distribution)
    if not version:
        raise ZooError(f"{library} is not installed as a distribution, so nothing can be keyed by its version")
    kept = old.facts if old and (old.library, old.version) == (library, version) else {}
    made = datetime.datetime.now(datetime.UTC).date().isoformat()
    return Table(library=library, version=version, made=made, facts={**kept, **facts})
