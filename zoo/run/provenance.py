"""Which plugins a run was made with, and what is to be done where one of them is not here."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from zoo.errors import NameClashError, UnknownNameError
from zoo.model.network import FineTuneModel
from zoo.registry.lookup import HEADS, IMPUTERS, SOURCES, Shelf

_SHELVES: dict[str, Shelf[Any]] = {"backbone": SOURCES, "head": HEADS, "imputer": IMPUTERS}


def plugins_of(model: FineTuneModel, imputers: Sequence[str]) -> list[list[str]]:
    """What inference needs of plugins, each as kind, name, distribution and version."""
    needed = [("backbone", model.view.name), ("head", model.heads.call.name)]
    needed += [("imputer", name) for name in imputers]
    stated = []
    for kind, name in dict.fromkeys(needed):
        plugin = _SHELVES[kind].home(_record_name(kind, name))
        stated.append([kind, name, plugin.distribution, plugin.version])
    return stated


def _record_name(kind: str, name: str) -> str:
    return name.rpartition("/")[0] if kind == "backbone" else name


def name_here(kind: str, name: str, distribution: str) -> str:
    """The name by which this distribution's own is found: with the distribution before it where others claim it."""
    shelf = _SHELVES[kind]
    try:
        shelf.get(_record_name(kind, name))
    except NameClashError:
        return name if ":" in name else f"{distribution}:{name}"
    except UnknownNameError:
        pass  # the caller says so
    return name


def missing(stated: Sequence[Sequence[str]]) -> str:
    """A sentence about each thing that a run needs and that is not here, or an empty string."""
    return "; ".join(lost for kind, name, home, was in stated if (lost := _lost(kind, name, home, was)))


def _lost(kind: str, name: str, distribution: str, was: str) -> str:
    wanted = f"it needs the {kind} {name}, which {distribution} {was} offered when it was made"
    try:
        _SHELVES[kind].get(_record_name(kind, name_here(kind, name, distribution)))
    except UnknownNameError:
        pass
    except NameClashError as error:
        return f"{wanted}; {error}"
    else:
        return ""
    try:
        now = version(distribution)
    except PackageNotFoundError:
        return f"{wanted} and which is not installed: pip install {distribution}=={was}"
    return f"{wanted}; {distribution} {now} is installed and does not offer it (`zoo plugins` shows what it offers)"
