"""Which plugins a run was made with, and what is to be done where one of them is not here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from zoo.errors import NameClashError, UnknownNameError
from zoo.model.network import FineTuneModel
from zoo.registry.lookup import HEADS, IMPUTERS, SOURCES, Shelf
from zoo.registry.plugins import describe_failures

_SEPARATORS = re.compile(r"[-_.]+")
_SHELVES: dict[str, Shelf[Any]] = {"backbone": SOURCES, "head": HEADS, "imputer": IMPUTERS["covariates"]}
_SHELVES |= {f"imputer of {kind}": IMPUTERS[kind] for kind in ("pixels", "channels")}


def imputer_kind(fills: str) -> str:
    """What a run's file calls an imputer of this kind of hole; the first ones were all of covariates."""
    return "imputer" if fills == "covariates" else f"imputer of {fills}"


def plugins_of(model: FineTuneModel, imputers: Sequence[tuple[str, str]]) -> list[list[str]]:
    """What inference needs of plugins, each as kind, name, distribution and version.

    Args:
        model: the network.
        imputers: kind of hole and name of each.
    """
    needed = [("backbone", model.view.name), ("head", model.heads.call.name)]
    needed += [(imputer_kind(fills), name) for fills, name in imputers]
    stated = []
    for kind, name in dict.fromkeys(needed):
        plugin = _SHELVES[kind].home(_record_name(kind, name))
        stated.append([kind, name, plugin.distribution, plugin.version])
    return stated


def _record_name(kind: str, name: str) -> str:
    return name.rpartition("/")[0] if kind == "backbone" else name


def name_here(kind: str, name: str, distribution: str) -> str:
    """The name by which this distribution's own is found: with the distribution before it where others claim it."""
    shelf, record_name = _SHELVES[kind], _record_name(kind, name)
    try:
        shelf.get(record_name)
    except UnknownNameError:
        return name  # the caller says so
    except NameClashError:
        own = [plugin.distribution for plugin, record in shelf.items() if record.name == record_name]
        here = next((spelt for spelt in own if _same(spelt, distribution)), distribution)
        return name if ":" in name else f"{here}:{name}"
    return name


def missing(stated: Sequence[Sequence[str]]) -> str:
    """A sentence about each thing that a run needs and that is not here, or an empty string.

    Plugins that did not load, or are switched off, are named after them: they may be why.
    """
    lost = "; ".join(said for kind, name, home, was in stated if (said := _lost(kind, name, home, was)))
    return lost and lost + describe_failures()


def _lost(kind: str, name: str, distribution: str, was: str) -> str:
    wanted = f"it needs the {kind} {name}, which {distribution} {was} offered when it was made"
    try:
        home = _SHELVES[kind].home(_record_name(kind, name_here(kind, name, distribution)))
    except UnknownNameError:
        return wanted + _whereabouts(distribution, was)
    except NameClashError as error:
        return f"{wanted}; {error}"
    if _same(home.distribution, distribution):
        return ""
    return (
        f"{wanted}{_whereabouts(distribution, was)}; the {kind} {name} that is here is another one, "
        f"of {home.distribution} {home.version}"
    )


def _whereabouts(distribution: str, was: str) -> str:
    try:
        now = version(distribution)
    except PackageNotFoundError:
        return f" and which is not installed: pip install {distribution}=={was}"
    older = "" if now == was else f"; {was} did: pip install {distribution}=={was}"
    return f"; {distribution} {now} is installed and does not offer it (`zoo plugins` shows what it offers{older})"


def _same(one: str, other: str) -> bool:
    """Whether two spellings name one distribution: packaging takes `Acme_Zoo` and `acme-zoo` for the same."""
    return _SEPARATORS.sub("-", one).lower() == _SEPARATORS.sub("-", other).lower()
