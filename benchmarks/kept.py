"""Results that stand in the file that --out names, so that a benchmark which was stopped goes on."""

from __future__ import annotations

import json
import platform


def kept(out, measure, record, table):
    """Measure what the file lacks, keep each row as it comes, and print the table.

    Args:
        out: the file, or None for none.
        measure: `(results, save) -> None` adds rows to the list, and calls `save` after each.
        record: `(results) -> JSON values` of the file; `results` stand in it under that name.
        table: `(results) -> text`.
    """
    known = out is not None and out.exists()
    results = json.loads(out.read_text(encoding="utf-8"))["results"] if known else []

    def save():
        if out:
            out.write_text(json.dumps(record(results), indent=1) + "\n", encoding="utf-8")

    measure(results, save)
    save()
    print(table(results))


def surroundings(*libraries):
    """Machine and versions, for a record."""
    return {
        "machine": {"processor": platform.processor() or platform.machine(), "python": platform.python_version()},
        "versions": {name: __import__(name).__version__ for name in libraries},
    }
