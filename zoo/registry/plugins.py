"""Load entry points one by one; a plugin that breaks is kept as a failure with its reason and stops nothing else."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import os
import re
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

import zoo.hooks
from zoo.errors import UnknownNameError
from zoo.hooks import GROUP, HOOKS
from zoo.registry.near import suggest
from zoo.specs import BackboneSource, DatasetRecord, GeneratorRecord, HeadRecord, ImputerRecord, StrategyRecord

RECORD_TYPES: dict[str, type] = {
    "zoo_backbones": BackboneSource,
    "zoo_heads": HeadRecord,
    "zoo_imbalance_strategies": StrategyRecord,
    "zoo_imputers": ImputerRecord,
    "zoo_generators": GeneratorRecord,
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
        reason = f"{one_line(error)}{_fields(error)}{_place(error, point)}"
        return _plugin(point, records={}, failure=reason, seconds=time.perf_counter() - started)
    return _plugin(point, records=records, seconds=time.perf_counter() - started)


def one_line(error: BaseException) -> str:
    """Kind and message of an error, without line breaks."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _place(error: BaseException, point: EntryPoint) -> str:
    """` (file:line)` of the innermost frame in the plugin, or of what cannot be parsed; else an empty string."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}:{error.lineno})"
    package = point.module.partition(".")[0] if point.pattern.match(point.value) else ""
    inside = [
        f" ({frame.f_code.co_filename}:{line})"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).partition(".")[0] == package
    ]
    return inside[-1] if inside and package != "zoo" else ""


def _fields(error: BaseException) -> str:
    """For a keyword that a record does not have, the fields that it has."""
    found = re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    record = getattr(zoo.specs, found[1], None) if found else None
    if found is None or not dataclasses.is_dataclass(record):
        return ""
    names = [field.name for field in dataclasses.fields(record)]
    return f"; {found[1]} has the fields {', '.join(names)}{suggest(found[2], names)}"


def _ask(module: object) -> dict[str, tuple[Any, ...]]:
    """Register the module alone, so that a misspelt hook is its own failure, and collect its records."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(zoo.hooks)
    manager.register(module)
    _refuse_unknown_hooks(module)
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


def _refuse_unknown_hooks(module: object) -> None:
    for name, value in inspect.getmembers(module):
        if name not in HOOKS and getattr(value, f"{GROUP}_impl", None):
            code = getattr(value, "__code__", None)
            place = f" ({code.co_filename}:{code.co_firstlineno})" if code else ""
            raise TypeError(f"unknown hook {name!r}{place}; the hooks are {', '.join(HOOKS)}{suggest(name, HOOKS)}")


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
    raise UnknownNameError(f"no plugin {name!r} is installed; there are {', '.join(known)}{suggest(name, known)}")


def useless_disabled() -> tuple[str, ...]:
    """Names in ZOO_DISABLE that no installed plugin has, sorted."""
    known = {name for plugin in load_plugins() for name in (plugin.name, f"{plugin.distribution}:{plugin.name}")}
    return tuple(sorted(disabled_names() - known))


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
