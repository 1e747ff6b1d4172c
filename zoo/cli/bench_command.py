"""`zoo bench`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from zoo.cli.output import parse, write, write_json
from zoo.config import BenchConfig


def run(words: Sequence[str]) -> int:
    """Measure, or draw what was measured; the exit code is 1 where a backbone could not be measured."""
    config = parse(BenchConfig, "bench", words)
    from zoo.jobs.bench import run_bench
    from zoo.jobs.progress import Reporter
    from zoo.report.bench_page import row_line, table_lines

    reporter = Reporter(quiet=config.quiet)
    found = run_bench(config, reporter, lambda row: reporter.say(row_line(row)))
    if config.json:
        write_json([asdict(row) for row in found.rows])
    else:
        write("\n".join(table_lines(found.rows)))
        for row in found.failed:
            write(f"{row.parameters['backbone']} --freeze {row.parameters['freeze']}: {row.status}: {row.message}")
        write(f"rows: {found.path}")
        for path in found.drawn:
            write(str(path))
    return 1 if found.failed else 0
