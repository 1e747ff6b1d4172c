"""What there is: backbones, one backbone in detail, plugins. Listing imports no torch and no plugin."""

from __future__ import annotations

import fnmatch
from dataclasses import asdict, dataclass
from typing import Any

from zoo.errors import UnknownNameError
from zoo.registry.catalogue import CatalogueRow, catalogue
from zoo.registry.lookup import suggest


def find_rows(pattern: str = "*") -> tuple[CatalogueRow, ...]:
    """Rows of the catalogue whose `source/model` matches a glob; a word without a glob matches anywhere.

    Raises:
        UnknownNameError: nothing matches; the message suggests close names.
    """
    rows = catalogue().rows
    glob = pattern if any(mark in pattern for mark in "*?[") else f"*{pattern}*"
    found = tuple(row for row in rows if fnmatch.fnmatchcase(row.name, glob))
    if not found:
        known = [row.entry.name for row in rows] + [row.name for row in rows]
        problems = "".join(f"\n  ({problem})" for problem in catalogue().problems)
        raise UnknownNameError(f"no backbone matches {pattern!r}{suggest(pattern, known)}{problems}")
    return found


def list_backbones(pattern: str = "*") -> list[str]:
    """Names `source/model` of every backbone that matches a glob, sorted.

    Args:
        pattern: a glob over `source/model`; a word without a glob matches anywhere.

    Raises:
        UnknownNameError: nothing matches.
    """
    return [row.name for row in find_rows(pattern)]


def row_json(row: CatalogueRow) -> dict[str, Any]:
    """A row of the catalogue as JSON values; None where nobody states a value."""
    return {"distribution": row.distribution, **asdict(row.entry), "name": row.name, "tags": row.entry.tags}


def table_lines(rows: tuple[CatalogueRow, ...]) -> list[str]:
    """The rows as lines of text with a heading; `-` where nobody states a value."""
    heading = ("NAME", "PARAMS", "GMACS", "INPUT", "TOP-1", "WEIGHTS")
    cells = [heading, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(heading))]
    lines = []
    for line in cells:
        first = line[0].ljust(widths[0])
        numbers = [line[column].rjust(widths[column]) for column in range(1, 5)]
        lines.append("  ".join([first, *numbers, line[5]]).rstrip())
    return lines


def _cells(row: CatalogueRow) -> tuple[str, ...]:
    entry = row.entry
    tags = entry.tags
    more = f" +{len(tags) - 1}" if len(tags) > 1 else ""
    return (
        row.name,
        "-" if entry.parameters is None else f"{entry.parameters / 1e6:.1f}M",
        "-" if entry.gmacs is None else f"{entry.gmacs:.2f}",
        "-" if entry.input_size is None else str(entry.input_size),
        f"{entry.weights[0].top1:.1f}" if tags and entry.weights[0].top1 is not None else "-",
        f"{tags[0]}{more}" if tags else "none",
    )


@dataclass(frozen=True, kw_only=True)
class StageInfo:
    """One stage of a backbone, for people."""

    name: str
    role: str
    parameters: int
    trainable: int


@dataclass(frozen=True, kw_only=True)
class Info:
    """What is known of one backbone."""

    name: str
    tags: tuple[str, ...]
    licence: str
    parameters: int
    classifier_parameters: int
    input: dict[str, Any]
    features: dict[str, int]
    freeze: str
    stages: tuple[StageInfo, ...]
    notes: tuple[str, ...]


def info(name: str, policy: str = "head") -> Info:
    """Build a backbone with random weights, without memory where that works, and describe it.

    Raises:
        ZooError: unknown name, tag or policy.
    """
    import torch

    from zoo.model.view import build_view, find_entry, split_name
    from zoo.specs import parse_policy

    parsed = parse_policy(policy)
    row = find_entry(name)
    tag, tags = split_name(name)[2], row.entry.tags
    if tag is not None and tag not in tags:
        raise UnknownNameError(f"{row.name} has no weights {tag!r}{suggest(tag, tags)}; it has {', '.join(tags)}")
    try:
        with torch.device("meta"):
            view = build_view(row.name, "none")
    except (NotImplementedError, RuntimeError):
        view = build_view(row.name, "none")  # reads a tensor's value while it is built
    sizes = {key: parameter.numel() for key, parameter in view.module.named_parameters()}
    training = {stage.name for stage in parsed.trainable_stages(view)}
    stages = tuple(
        StageInfo(name=s.name, role=s.role, parameters=n, trainable=n if s.name in training else 0)
        for s in view.stages
        for n in [sum(sizes[parameter] for parameter in s.parameters)]
    )
    other = tag is not None and tag != tags[0]
    unknown = (f"input is that of the default weights {tags[0]}",) if other else ()
    return Info(
        name=f"{row.name}.{tag}" if tag else row.name,
        tags=row.entry.tags,
        licence=next((each.licence for each in row.entry.weights if each.tag == (tag or tags[0])), ""),
        parameters=sum(sizes.values()),
        classifier_parameters=sum(sizes[parameter] for parameter in view.classifier),
        input={name: getattr(view.input, name) for name in view.input.__slots__},
        features={kind.name: kind.width for kind in view.features},
        freeze=policy,
        stages=stages,
        notes=(*unknown, *view.notes),
    )


def plugins_json() -> list[dict[str, Any]]:
    """Every installed plugin: what it offers, whether it is switched off, or why it failed to load."""
    from zoo.registry.lookup import SHELVES
    from zoo.registry.plugins import load_plugins

    found = []
    for plugin in load_plugins():
        offers = {
            kind: [record.name for record in plugin.records.get(shelf.hook, ())] for kind, shelf in SHELVES.items()
        }
        found.append(
            {
                "name": plugin.name,
                "distribution": plugin.distribution,
                "version": plugin.version,
                "offers": {kind: names for kind, names in offers.items() if names},
                "disabled": plugin.disabled,
                "failure": plugin.failure,
                "seconds": round(plugin.seconds, 4),
            }
        )
    return found
