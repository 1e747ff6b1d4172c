"""From a name to a record: suggestions for names that are not there, refusal of names claimed twice."""

from __future__ import annotations

from collections import Counter
from typing import Any, Generic, TypeVar, cast

from zoo.errors import NameClashError, OptionError, UnknownNameError
from zoo.registry.near import suggest as suggest
from zoo.registry.plugins import Plugin, describe_failures, load_plugins
from zoo.specs import (
    BackboneSource,
    Call,
    DatasetRecord,
    GeneratorRecord,
    HeadRecord,
    ImputerRecord,
    StrategyRecord,
)

R = TypeVar("R", BackboneSource, HeadRecord, StrategyRecord, ImputerRecord, GeneratorRecord, DatasetRecord)


class Shelf(Generic[R]):
    """The records of one kind from every plugin, by name; `distribution:name` tells two claimants apart.

    Args:
        hook: that yields them.
        kind: in words, for errors.
        fills: of imputers, the kind of hole; None for all. Each kind has names of its own.
    """

    def __init__(self, hook: str, kind: str, fills: str | None = None) -> None:
        self.hook = hook
        self.kind = kind
        self.fills = fills

    def items(self) -> list[tuple[Plugin, R]]:
        """Every record with the plugin that yielded it."""
        return [
            (plugin, cast("R", record))
            for plugin in load_plugins()
            for record in plugin.records.get(self.hook, ())
            if self.fills in (None, getattr(record, "fills", None))
        ]

    def names(self) -> list[str]:
        """Names of this kind, each once, sorted."""
        return sorted({record.name for _, record in self.items()})

    def elsewhere(self, name: str) -> list[str]:
        """Kinds of holes that an imputer of this name fills, where this shelf holds those of another kind."""
        everything = Shelf[ImputerRecord](self.hook, self.kind).items() if self.fills else []
        return sorted({record.fills for _, record in everything if record.name == name.rpartition(":")[2]})

    def get(self, name: str) -> R:
        """The record of this name.

        Raises:
            UnknownNameError: nothing has this name; the message suggests close ones and names plugins that failed.
            NameClashError: two plugins claim it; the message names both.
        """
        return self._found(name)[1]

    def claimed(self, record: R) -> bool:
        """Whether another plugin, or this one twice, offers the name of this record too."""
        return sum(claim(other) == claim(record) for _, other in self.items()) > 1

    def home(self, name: str) -> Plugin:
        """The plugin that offers the record of this name; raises as `get` does."""
        return self._found(name)[0]

    def _found(self, name: str) -> tuple[Plugin, R]:
        distribution, _, bare = name.rpartition(":")
        found = [
            (plugin, record)
            for plugin, record in self.items()
            if record.name == bare and distribution in ("", plugin.distribution)
        ]
        if len(found) == 1:
            return found[0]
        if not found:
            raise UnknownNameError(self._unknown(name, bare))
        raise NameClashError(self._claimed(bare, [plugin for plugin, _ in found]))

    def _claimed(self, bare: str, claimants: list[Plugin]) -> str:
        claims = " and ".join(f"{plugin.distribution} {plugin.version} ({plugin.name})" for plugin in claimants)
        by = Counter(plugin.distribution for plugin in claimants)
        # A distribution that claims a name twice cannot be told apart from itself.
        choices = [f"{distribution}:{bare}" for distribution, count in by.items() if count == 1]
        advice = f"say {' or '.join(choices)}, or switch" if choices else "switch"
        return f"{self.kind} {bare!r} is claimed by {claims}; {advice} one off with ZOO_DISABLE=DISTRIBUTION:PLUGIN"

    def _unknown(self, name: str, bare: str) -> str:
        known = self.names()
        listed = f"there are {', '.join(known)}" if known else "no plugin offers one"
        homes = sorted({f"{plugin.distribution}:{bare}" for plugin, record in self.items() if record.name == bare})
        hint = f"; did you mean {' or '.join(homes)}?" if homes else suggest(bare, known)
        if others := self.elsewhere(bare):
            hint = f"; {bare} fills {' and '.join(others)}"
        return f"unknown {self.kind} {name!r}; {listed}{hint}{describe_failures()}"

    def of_call(self, call: Call) -> R:
        """The record that a call in an option names; errors point at the place in the option."""
        try:
            return self.get(call.name)
        except (UnknownNameError, NameClashError) as error:
            raise OptionError(str(error), text=call.text, column=call.column) from None


def claim(record: Any) -> tuple[str, str]:
    """What a record claims among those of its hook: its name, and of an imputer the kind of hole too."""
    return getattr(record, "fills", ""), record.name


SOURCES: Shelf[BackboneSource] = Shelf("zoo_backbones", "backbone source")
HEADS: Shelf[HeadRecord] = Shelf("zoo_heads", "head")
STRATEGIES: Shelf[StrategyRecord] = Shelf("zoo_imbalance_strategies", "imbalance strategy")
IMPUTERS: dict[str, Shelf[ImputerRecord]] = {
    fills: Shelf("zoo_imputers", f"imputer of {fills}", fills) for fills in ("covariates", "pixels", "channels")
}
"""By the kind of hole that they fill."""
GENERATORS: Shelf[GeneratorRecord] = Shelf("zoo_generators", "generator")
DATASETS: Shelf[DatasetRecord] = Shelf("zoo_datasets", "data set")
SHELVES: dict[str, Shelf[Any]] = {
    "backbones": SOURCES,
    "heads": HEADS,
    "imbalance": STRATEGIES,
    "imputers": Shelf[ImputerRecord]("zoo_imputers", "imputer"),
    "generators": GENERATORS,
    "datasets": DATASETS,
}
