"""`zoo plugins`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.cli.output import parse, write, write_json
from zoo.config import PluginsConfig

SLOW_SECONDS = 1.0
"""From here on an import is worth a word: every command that looks up a name waits for it."""


def run(words: Sequence[str]) -> None:
    """List plugins and failures."""
    from zoo.jobs.listing import plugins_json
    from zoo.registry.plugins import useless_disabled

    config = parse(PluginsConfig, "plugins", words)
    found = plugins_json()
    if useless := useless_disabled():
        sys.stderr.write(f"zoo plugins: ZOO_DISABLE names {', '.join(useless)}, and no such plugin is installed\n")
    if config.json:
        write_json(found)
        return
    if not found:
        write("no plugin is installed, not even our own: `pip install --editable .` in a checkout announces them")
        return
    width = max(len(plugin["name"]) for plugin in found)
    for plugin in found:
        write(f"{plugin['name']:<{width}}  {plugin['distribution']} {plugin['version']}  {_state(plugin)}")
        if config.verbose:
            _write_summaries(plugin)


def _state(plugin: Mapping[str, Any]) -> str:
    offers = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in plugin["offers"].items())
    clashes = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in plugin["clashes"].items())
    offers += f"  (CLAIMED TWICE {clashes}; say DISTRIBUTION:NAME)" if clashes else ""
    if plugin["failure"]:
        state = f"FAILED {plugin['failure']}"
    else:
        state = "switched off by ZOO_DISABLE" if plugin["disabled"] else offers
    slow = plugin["seconds"] > SLOW_SECONDS
    return f"{state}  (slow: {plugin['seconds']:.1f} s to import)" if slow else state


def _write_summaries(plugin: Mapping[str, Any]) -> None:
    named = [pair for summaries in plugin["summaries"].values() for pair in summaries.items()]
    width = max((len(name) for name, _ in named), default=0)
    for name, summary in named:
        write(f"    {name:<{width}}  {summary or 'says nothing about itself'}")
