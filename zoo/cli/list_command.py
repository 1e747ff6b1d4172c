"""`zoo list`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from zoo.cli.output import parse, write, write_json
from zoo.config import ListConfig


def run(words: Sequence[str]) -> None:
    """List backbones."""
    from zoo.jobs.listing import find_rows, row_json, table_lines
    from zoo.registry.catalogue import catalogue

    config = parse(ListConfig, "list", words)
    rows = find_rows(config.pattern)
    if config.json:
        write_json([row_json(row) for row in rows])
    else:
        write("\n".join(table_lines(rows)))
        write(f"{len(rows)} backbones")
    for problem in catalogue().problems:
        sys.stderr.write(f"zoo list: {problem}\n")
