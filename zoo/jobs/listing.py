"""What there is: backbones as text, JSON and CSV, and plugins. Listing backbones imports no torch and no plugin."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from zoo.config import ListConfig
from zoo.jobs.choosing import Chosen, choose, first, match_patterns
from zoo.jobs.filters import gmacs_of, input_of, short_count, short_gmacs
from zoo.registry.catalogue import CatalogueRow
from zoo.registry.licences import licence_class, short_licence
from zoo.registry.near import suggest
from zoo.registry.origins import Disk

WIDTH = 120
"""Columns of a terminal that a table keeps within, where the names allow it."""

_SHORTEST_TAG = 12
_COLUMNS = (
    "name",
    "parameters",
    "gmacs",
    "input_px",
    "top1_percent",
    "licence",
    "tag",
    "tags",
    "features",
    "family",
    "source",
    "distribution",
    "on_disk",
    "origin",
)
_OUTPUTS = frozenset({"pattern", "json", "csv"})


def find_rows(pattern: str = "*") -> tuple[CatalogueRow, ...]:
    """Rows of the catalogue whose `source/model` matches a glob; a word without a glob matches anywhere.

    Raises:
        UnknownNameError: nothing matches; the message suggests close names.
    """
    return match_patterns((pattern,))


def list_backbones(pattern: str | Sequence[str] = "*", **filters: Any) -> list[str]:
    """Names `source/model` of the backbones that match a glob and fit every filter, sorted.

    Args:
        pattern: a glob over `source/model`, or several; a word without a glob matches anywhere.
        filters: options of `zoo list` as fields of `zoo.config.ListConfig`, such as `max_params="25M"`, `on_disk=True`,
            `licence="permissive"`, `sort="top1"`, `limit=5`. With `weights=True` the names are `source/model.tag`.

    Raises:
        UnknownNameError: nothing fits; the message says which filter left nothing.
        ZooError: a value that cannot be.
        TypeError: a filter that there is not.
    """
    known = [field.name for field in fields(ListConfig) if field.name not in _OUTPUTS]
    for name in filters:
        if name not in known:
            raise TypeError(
                f"list_backbones has no filter {name!r}; there are {', '.join(known)}{suggest(name, known)}"
            )
    for name in ("min_params", "max_params"):
        if isinstance(filters.get(name), int | float):
            filters[name] = str(filters[name])
    config = ListConfig(pattern=(pattern,) if isinstance(pattern, str) else tuple(pattern), **filters)
    return [_name(row, each_weights=config.weights) for row in choose(config).rows]


def row_json(row: CatalogueRow, disk: Disk | None = None) -> dict[str, Any]:
    """A row of the catalogue as JSON values; None where nobody states a value."""
    disk = disk or Disk()
    weights = [
        {**asdict(each), "licence_class": licence_class(each.licence), "on_disk": disk.holds(each.origin)}
        for each in row.entry.weights
    ]
    entry = {field.name: getattr(row.entry, field.name) for field in fields(row.entry)}
    stated = {"distribution": row.distribution, "source": row.source, **entry}
    return {**stated, "weights": weights, "name": row.name, "tags": row.entry.tags}


def csv_text(rows: Sequence[CatalogueRow]) -> str:
    """The rows as CSV under a heading with units; of the weights, what belongs to the first that fit."""
    disk, text = Disk(), io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(_csv_row(row, disk) for row in rows)
    return text.getvalue()


def _csv_row(row: CatalogueRow, disk: Disk) -> list[object]:
    entry, weights = row.entry, first(row)
    own = (weights.licence, weights.tag) if weights else ("", "")
    where = (disk.holds(weights.origin), weights.origin) if weights else ("", "")
    top1 = weights.top1 if weights else None
    numbers = (entry.parameters, gmacs_of(row, weights), input_of(row, weights), top1)
    lists = (" ".join(entry.tags), " ".join(entry.features))
    return [row.name, *numbers, *own, *lists, entry.family, row.source, row.distribution, *where]


def table_lines(chosen: Chosen, *, each_weights: bool = False) -> list[str]:
    """The rows as lines of text with a heading and a count; `-` where nobody states a value.

    Args:
        chosen: the rows.
        each_weights: whether they are one for each set of weights.
    """
    disk = Disk()
    heading = ("NAME", "PARAMS", "GMACS", "INPUT", "TOP-1", "LICENCE", "DISK", "WEIGHTS")
    cells = [heading, *(_cells(row, disk, each_weights=each_weights) for row in chosen.rows)]
    cells = [line[:-1] for line in cells] if each_weights else cells
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = []
    for line in cells:
        numbers = [line[column].rjust(widths[column]) for column in range(1, 5)]
        words = [line[column].ljust(widths[column]) for column in range(5, 7)]
        start = "  ".join([line[0].ljust(widths[0]), *numbers, *words, ""])
        lines.append((start + "".join(_shortened(text, WIDTH - len(start)) for text in line[7:])).rstrip())
    shown = f"{len(chosen.rows)} of " if len(chosen.rows) < chosen.found else ""
    what = "set{} of weights" if each_weights else "backbone{}"
    return [*lines, f"{shown}{chosen.found} {what.format('' if chosen.found == 1 else 's')}"]


def _cells(row: CatalogueRow, disk: Disk, *, each_weights: bool) -> tuple[str, ...]:
    entry, weights = row.entry, first(row)
    gmacs, size, top1 = gmacs_of(row, weights), input_of(row, weights), weights.top1 if weights else None
    more = f" +{len(entry.tags) - 1}" if len(entry.tags) > 1 else ""
    return (
        _name(row, each_weights=each_weights),
        "-" if entry.parameters is None else short_count(entry.parameters),
        "-" if gmacs is None else short_gmacs(gmacs),
        "-" if size is None else str(size),
        "-" if top1 is None else f"{top1:.1f}",
        short_licence(weights.licence) if weights else "-",
        "yes" if weights and disk.holds(weights.origin) else "-",
        f"{weights.tag}{more}" if weights else "none",
    )


def _shortened(tags: str, room: int) -> str:
    """`tag +n` in so many letters, of which the tag loses some; `zoo info` and the other formats have it whole."""
    tag, plus, more = tags.partition(" +")
    keep = max(room - len(plus + more), _SHORTEST_TAG)
    return (tag if len(tag) <= keep else f"{tag[: keep - 1]}…") + plus + more


def _name(row: CatalogueRow, *, each_weights: bool) -> str:
    return f"{row.name}.{row.entry.weights[0].tag}" if each_weights else row.name


def plugins_json() -> list[dict[str, Any]]:
    """Every installed plugin: what it offers, whether it is switched off, or why it failed to load."""
    from zoo.registry.lookup import SHELVES
    from zoo.registry.plugins import load_plugins

    found = []
    for plugin in load_plugins():
        records = {kind: plugin.records.get(shelf.hook, ()) for kind, shelf in SHELVES.items()}
        offers = {kind: held for kind, held in records.items() if held}
        found.append(
            {
                "name": plugin.name,
                "distribution": plugin.distribution,
                "version": plugin.version,
                "offers": {kind: [_label(record) for record in held] for kind, held in offers.items()},
                "summaries": {kind: {_label(each): each.summary for each in held} for kind, held in offers.items()},
                "disabled": plugin.disabled,
                "failure": plugin.failure,
                "clashes": {kind: names for kind, held in offers.items() if (names := _claimed(kind, held))},
                "seconds": round(plugin.seconds, 4),
            }
        )
    return found


def _claimed(kind: str, records: Sequence[Any]) -> list[str]:
    """Names among these that somebody else offers too, so that they are refused when somebody asks for them."""
    from zoo.registry.lookup import SHELVES

    return [_label(record) for record in records if SHELVES[kind].claimed(record)]


def _label(record: Any) -> str:
    """Its name; of an imputer with the kind of hole, as in `--impute pixels=mean`, because each kind has its names."""
    fills = getattr(record, "fills", "")
    return f"{fills}={record.name}" if fills else str(record.name)
