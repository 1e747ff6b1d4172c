"""What the commands take that are for authors of plugins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from zoo.config.marks import Positional, UseAppendAction, arg


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """Check that backbones and plugins keep the contract.

    WHAT is a glob over source/model, as in 'timm/*', or the name of a plugin, all of whose offers are checked. Each
    backbone is checked in a process of its own; what is done is kept, so that a check that was stopped goes on.
    """

    what: Positional[tuple[str, ...]]
    """Globs over source/model, or plugins by the name of their entry point or distribution."""
    jobs: int | None = None
    """Processes at a time; by default one a core."""
    seconds: float = 600.0
    """Time limit of one backbone."""
    memory: float = 12.0
    """Memory limit of one backbone, in GiB."""
    retry: bool = False
    """Check again what failed a check; what was stopped at a limit is always checked again."""
    out: Path | None = None
    """File of JSON lines that keeps the outcomes; by default in the user's cache folder."""
    table: Path | None = None
    """Write parameters, GMACs and features of the backbones of one source to this file; a plugin ships it."""
    quiet: bool = False
    """Show no progress."""
    json: bool = False
    """Print every outcome as JSON."""


@dataclass(frozen=True, kw_only=True)
class NewPluginConfig:
    """Write a plugin that installs and passes its checks as it stands, with an example of what --kind names."""

    name: Positional[str]
    """Of the distribution, such as acme-nets; the package is acme_nets."""
    out: Path | None = None
    """Folder to write; by default one of that name in the current folder."""
    kind: Annotated[
        UseAppendAction[tuple[Literal["backbone", "head", "strategy", "imputer"], ...]], arg(metavar="KIND")
    ] = ()
    """What it is to offer: backbone, head, strategy or imputer; repeat for several. By default all of them."""
    json: bool = False
    """Print what was written as JSON."""
