"""`zoo new-plugin`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from zoo.cli.output import parse, write, write_json
from zoo.config import NewPluginConfig


def run(words: Sequence[str]) -> None:
    """Write a plugin and say how to go on."""
    config = parse(NewPluginConfig, "new-plugin", words)
    from zoo.jobs.new_plugin import write_plugin

    made = write_plugin(config)
    if config.json:
        write_json(asdict(made))
        return
    write(f"{made.folder} holds a plugin that passes its checks as it stands:")
    for name in made.files:
        write(f"  {name}")
    for note in made.notes:
        write(f"note: {note}")
    write("go on with:")
    for command in made.commands:
        write(f"  {command}")
