"""`zoo list`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from zoo.cli.output import parse, write, write_json
from zoo.config import ListConfig
from zoo.errors import ZooError


def run(words: Sequence[str]) -> None:
    """List backbones."""
    from zoo.jobs.choosing import choose
    from zoo.jobs.listing import csv_text, row_json, table_lines
    from zoo.registry.catalogue import catalogue
    from zoo.registry.origins import Disk

    config = _options(words)
    if config.json and config.csv:
        raise ZooError("--json and --csv are two formats; choose one")
    chosen = choose(config)
    if config.json:
        disk = Disk()
        write_json([row_json(row, disk) for row in chosen.rows])
    elif config.csv:
        sys.stdout.write(csv_text(chosen.rows))
    else:
        write("\n".join(table_lines(chosen, each_weights=config.weights)))
    for said in (chosen.footnote, *catalogue().problems):
        if said:
            sys.stderr.write(f"zoo list: {said}\n")


def _options(words: Sequence[str]) -> ListConfig:
    """The options; names alone need no parser, whose import would be a third of the command's time."""
    if any(word.startswith("-") for word in words):
        return parse(ListConfig, "list", words)
    return ListConfig(pattern=tuple(words)) if words else ListConfig()
