"""`zoo plugins`."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.cli.output import parse, write, write_json
from zoo.config import PluginsConfig


def run(words: Sequence[str]) -> None:
    """List plugins and failures."""
    from zoo.jobs.listing import plugins_json

    config = parse(PluginsConfig, "plugins", words)
    found = plugins_json()
    if config.json:
        write_json(found)
        return
    if not found:
        write("no plugin is installed, not even our own: `pip install --editable .` in a checkout announces them")
        return
    width = max(len(plugin["name"]) for plugin in found)
    for plugin in found:
        offers = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in plugin["offers"].items())
        state = plugin["failure"] or ("switched off by ZOO_DISABLE" if plugin["disabled"] else offers)
        mark = "FAILED " if plugin["failure"] else ""
        write(f"{plugin['name']:<{width}}  {plugin['distribution']} {plugin['version']}  {mark}{state}")
