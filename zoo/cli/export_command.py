"""`zoo export`."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.cli.output import parse, write, write_json
from zoo.config import ExportConfig


def run(words: Sequence[str]) -> None:
    """Export a run, and say what was written and how it was checked."""
    config = parse(ExportConfig, "export", words)
    from zoo.jobs.export import run_export

    found = run_export(config)
    if config.json:
        write_json(found.to_json())
        return
    for path in found.files:
        write(str(path))
    for sentence in (*found.notes, found.checked):
        write(f"  {sentence}")
