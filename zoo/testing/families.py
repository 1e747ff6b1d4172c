"""A sample of the backbones that are installed: of every family of a source the smallest."""

from __future__ import annotations

from collections.abc import Iterable

from zoo.registry.catalogue import CatalogueRow


def smallest_of_families(rows: Iterable[CatalogueRow]) -> list[CatalogueRow]:
    """The smallest backbone of each family of each source, by parameters and then by name, sorted by name."""
    found: dict[tuple[str, str | None], CatalogueRow] = {}
    for row in rows:
        key = (row.source, row.entry.family)
        found[key] = min(found.get(key, row), row, key=_size)
    return sorted(found.values(), key=lambda row: row.name)


def _size(row: CatalogueRow) -> tuple[float, str]:
    return row.entry.parameters or float("inf"), row.name
