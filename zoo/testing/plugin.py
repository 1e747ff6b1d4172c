"""What a plugin as a whole promises: it loads, quickly and silently, with nothing heavy, under names of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pluggy

import zoo.hooks
from zoo.hooks import GROUP, HOOKS
from zoo.registry.lookup import claim
from zoo.registry.plugins import Plugin, find_plugins, load_plugins
from zoo.testing.check import Check, NotApplicable, require

HEAVY = ("torch", "torchvision", "timm", "numpy", "polars", "sklearn", "matplotlib", "PIL")
"""What takes long to import, and so stands inside the functions of a plugin."""

MOST_SECONDS = 1.0
"""Of importing a plugin, beyond what the core imports; against waste, far above what any needs."""

LONGEST = 120.0
"""Seconds after which an import is given up."""

_KINDS = dict(zip(HOOKS, ("backbone source", "head", "strategy", "imputer", "generator", "data set"), strict=True))


@dataclass(frozen=True, kw_only=True, slots=True)
class Import:
    """What importing a plugin's module in a fresh process came to.

    Attributes:
        failure: in one line, or an empty string.
        heavy: by the name of a heavy package, the files and lines that led to it.
        output: what was written to standard output.
        wall, cpu: seconds.
    """

    failure: str
    heavy: dict[str, str]
    output: str
    wall: float
    cpu: float


class Trial:
    """A plugin under test; the checks share one import in a fresh process."""

    def __init__(self, plugin: Plugin) -> None:
        self.plugin = plugin

    def load(self) -> object:
        """What its entry point names."""
        points: list[EntryPoint] = list(entry_points(group=GROUP, name=self.plugin.name))
        return next(point for point in points if point.module == self.plugin.module).load()

    @cached_property
    def _import(self) -> Import:
        """How a fresh process imports it; of two attempts where the first was slow, for that one may have compiled."""
        first = _import(self.plugin.module)
        if first.failure or max(first.wall, first.cpu) <= MOST_SECONDS:
            return first
        return min(first, _import(self.plugin.module), key=lambda one: max(one.wall, one.cpu))

    @property
    def imported(self) -> Import:
        """The same, where it can be imported at all."""
        if self._import.failure:
            raise NotApplicable(f"it cannot be imported: {self._import.failure}")
        return self._import

    def records(self) -> list[tuple[str, Any]]:
        """Hook and record of everything that it yielded when it was loaded."""
        if self.plugin.failure or self.plugin.disabled:
            raise NotApplicable("it is not loaded")
        return [(hook, record) for hook in HOOKS for record in self.plugin.records.get(hook, ())]


def plugin_checks(name: str) -> list[Check]:
    """The checks of each plugin of an entry point or of a distribution, apart from what it offers.

    Raises:
        UnknownNameError: nothing of this name is installed.
    """
    return [check for plugin in find_plugins(name) for check in checks_of_one(plugin)]


def checks_of_one(plugin: Plugin) -> list[Check]:
    """The checks of one plugin, apart from what it offers."""
    trial = Trial(plugin)
    return [Check(subject=f"plugin {plugin.name}", name=name, run=partial(run, trial)) for name, run in CHECKS.items()]


def loads(trial: Trial) -> None:
    """Its module can be imported, and each hook yields records of the right kind."""
    if trial.plugin.disabled:
        raise NotApplicable("it is switched off by ZOO_DISABLE")
    require(trial.plugin.failure is None, f"it does not load: {trial.plugin.failure}")


def imports_nothing_heavy(trial: Trial) -> None:
    """Importing it loads no torch and nothing else that takes long, so that listing what there is stays quick."""
    found = trial.imported.heavy
    said = "; ".join(f"{name} through {way}" for name, way in found.items())
    require(not found, f"importing it loads {said}. Import it inside the function that needs it")


def prints_nothing(trial: Trial) -> None:
    """Importing it writes nothing to standard output, which other programs may read."""
    require(not trial.imported.output, f"importing it prints {trial.imported.output[:200]!r}")


def imports_quickly(trial: Trial) -> None:
    """Importing it takes at most a second of the processor and of the clock, beyond what the core imports."""
    wall, cpu = trial.imported.wall, trial.imported.cpu
    said = f"importing it takes {wall:.2f} s, {cpu:.2f} s of the processor; at most {MOST_SECONDS:g} s are allowed"
    require(max(wall, cpu) <= MOST_SECONDS, said)


def has_names_of_its_own(trial: Trial) -> None:
    """No other record of the same kind, of this plugin or another, has one of its names."""
    clashes: dict[str, None] = {}
    for hook, record in trial.records():
        claimants = [
            f"{plugin.distribution} {plugin.version} ({plugin.name})"
            for plugin in load_plugins()
            for other in plugin.records.get(hook, ())
            if claim(other) == claim(record)
        ]
        if len(claimants) > 1:
            clashes[f"{_KINDS[hook]} {record.name!r} is claimed by {' and by '.join(claimants)}"] = None
    require(not clashes, "; ".join(clashes))


def has_summaries(trial: Trial) -> None:
    """Each record says in one line what it is."""
    for hook, record in trial.records():
        what = f"{_KINDS[hook]} {record.name!r}"
        require(bool(record.summary.strip()), f"{what} has no summary")
        require("\n" not in record.summary.strip(), f"the summary of {what} is longer than one line")


def yields_the_same(trial: Trial) -> None:
    """Asked again, its hooks yield records of the same names in the same order."""
    trial.records()
    module = trial.load()
    first, again = _names(module), _names(module)
    require(first == again, f"asked again, its hooks yield {again}, not {first}")


def _names(module: object) -> list[str]:
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(zoo.hooks)
    manager.register(module)
    return [
        f"{_KINDS[hook]} {record.name}"
        for hook in HOOKS
        for answer in getattr(manager.hook, hook)()
        for record in answer
    ]


def _import(module: str) -> Import:
    """Import `module` in a fresh process that has the same search path and what the core needs for a plugin."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        order = json.dumps({"module": module, "path": sys.path, "heavy": HEAVY, "report": str(report)})
        probe = Path(__file__).with_name("import_probe.py")
        try:
            done = subprocess.run(  # noqa: S603  our own probe, in the interpreter that runs
                [sys.executable, "-P", str(probe), order], capture_output=True, text=True, check=False, timeout=LONGEST
            )
        except subprocess.TimeoutExpired:
            return Import(failure=f"it takes more than {LONGEST:g} s", heavy={}, output="", wall=LONGEST, cpu=0.0)
        if not report.is_file():
            last = " ".join(done.stderr.split()[-30:])
            return Import(
                failure=f"the process ended with {done.returncode} {last}", heavy={}, output="", wall=0.0, cpu=0.0
            )
        return Import(output=done.stdout, **json.loads(report.read_text(encoding="utf-8")))


CHECKS: dict[str, Callable[[Trial], None]] = {
    "it-loads": loads,
    "importing-it-loads-nothing-heavy": imports_nothing_heavy,
    "importing-it-prints-nothing": prints_nothing,
    "importing-it-is-quick": imports_quickly,
    "its-names-are-its-own": has_names_of_its_own,
    "each-record-says-what-it-is": has_summaries,
    "its-hooks-yield-the-same-each-time": yields_the_same,
}
