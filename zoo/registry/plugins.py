"""Load entry points one by one; a plugin that breaks is kept as a failure with its reason and stops nothing else."""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

import zoo.hooks
from zoo.errors import UnknownNameError
from zoo.hooks import GROUP, HOOKS
from zoo.specs import BackboneSource, DatasetRecord, HeadRecord, ImputerRecord, StrategyRecord

RECORD_TYPES: dict[str, type] = {
    "zoo_backbones": BackboneSource,
    "zoo_heads": HeadRecord,
    "zoo_imbalance_strategies": StrategyRecord,
    "zoo_imputers": ImputerRecord,
    "zoo_datasets": DatasetRecord,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Plugin:
    """One entry point: what it yielded, or why it failed.

    Attributes:
        name: of the entry point.
        module: that it names.
        distribution, version: what installed it.
        records: by hook, in the order yielded.
        failure: the reason in one line; None where it loaded.
        disabled: whether `ZOO_DISABLE` names it; then it was not imported.
        seconds: what importing it and asking its hooks took.
    """

    name: str
    distribution: str
    version: str
    module: str = ""
    records: dict[str, tuple[Any, ...]]
    failure: str | None = None
    disabled: bool = False
    seconds: float = 0.0


def disabled_names() -> frozenset[str]:
    """Entry points, as `name` or `distribution:name`, that the environment variable ZOO_DISABLE lists with commas."""
    return frozenset(part.strip() for part in os.environ.get("ZOO_DISABLE", "").split(",") if part.strip())


@cache
def load_plugins() -> tuple[Plugin, ...]:
    """Every plugin that is installed, loaded once in this process, in the order of distribution and name."""
    found = sorted(
        ((_stated(point, "Name"), point.name, point) for point in entry_points(group=GROUP)), key=lambda one: one[:2]
    )
    disabled = disabled_names()
    return tuple(
        _plugin(point, records={}, disabled=True) if {name, f"{distribution}:{name}"} & disabled else _load(point)
        for distribution, name, point in found
    )


def _stated(point: EntryPoint, field: str) -> str:
    """A field of the distribution's metadata, which an installation that broke half-way may have lost."""
    if point.dist is None or field not in point.dist.metadata:
        return "(unknown)"
    return point.dist.metadata[field]


def _plugin(point: EntryPoint, **fields: Any) -> Plugin:
    module = point.value.partition(":")[0].strip()
    name, version = _stated(point, "Name"), _stated(point, "Version")
    return Plugin(name=point.name, module=module, distribution=name, version=version, **fields)


def _load(point: EntryPoint) -> Plugin:
    started = time.perf_counter()
    # What a plugin prints when it is imported would spoil the output that programs read.
    noise = io.StringIO()
    try:
        if not point.pattern.match(point.value):
            raise ValueError(f"the entry point's value {point.value!r} names no module")
        with contextlib.redirect_stdout(noise):
            records = _ask(point.load())
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin may even call sys.exit; none may stop the program
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return _plugin(point, records={}, failure=reason, seconds=time.perf_counter() - started)
    return _plugin(point, records=records, seconds=time.perf_counter() - started)


def _ask(module: object) -> dict[str, tuple[Any, ...]]:
    """Register the module alone, so that a misspelt hook is its own failure, and collect its records."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(zoo.hooks)
    manager.register(module)
    manager.check_pending()
    if not manager.get_hookcallers(module):
        raise TypeError(f"implements no hook; the hooks are {', '.join(HOOKS)}")
    records: dict[str, tuple[Any, ...]] = {}
    for hook in HOOKS:
        answers: list[Iterable[Any]] = getattr(manager.hook, hook)()
        records[hook] = tuple(record for answer in answers for record in answer)
        for record in records[hook]:
            if not isinstance(record, RECORD_TYPES[hook]):
                raise TypeError(f"{hook} yielded {record!r}, which is no {RECORD_TYPES[hook].__name__}")
    return records


def find_plugins(name: str) -> tuple[Plugin, ...]:
    """The plugins that a user means: an entry point's name, `distribution:name`, or all of a distribution.

    Raises:
        UnknownNameError: there is none; suggests close names.
    """
    plugins = load_plugins()
    for meant in (
        [plugin for plugin in plugins if name in (plugin.name, f"{plugin.distribution}:{plugin.name}")],
        [plugin for plugin in plugins if plugin.distribution == name],
    ):
        if meant:
            return tuple(meant)
    known = sorted({plugin.name for plugin in plugins} | {plugin.distribution for plugin in plugins})
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    raise UnknownNameError(f"no plugin {name!r} is installed; there are {', '.join(known)}{hint}")


def failures() -> tuple[Plugin, ...]:
    """The plugins that did not load."""
    return tuple(plugin for plugin in load_plugins() if plugin.failure)


def describe_failures() -> str:
    """A sentence for each plugin that did not load, or an empty string; added to errors about unknown names."""
    lines = [
        f"plugin {plugin.name!r} of {plugin.distribution} {plugin.version} "
        + ("is switched off by ZOO_DISABLE" if plugin.disabled else f"did not load: {plugin.failure}")
        for plugin in load_plugins()
        if plugin.disabled or plugin.failure
    ]
    return "".join(f"\n  ({line})" for line in lines)
