"""`zoo inspect`."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.cli.output import parse, write, write_json
from zoo.config import InspectConfig


def run(words: Sequence[str]) -> None:
    """Look at data, and say what is missing."""
    config = parse(InspectConfig, "inspect", words)
    from zoo.jobs.inspect import run_inspection
    from zoo.jobs.progress import Reporter
    from zoo.report.inspect_page import lines

    found = run_inspection(config, Reporter(quiet=config.quiet))
    if config.json:
        write_json(found.found)
        return
    write("\n".join(lines(found.found)))
    write(f"page        {found.folder}/inspect.html")
