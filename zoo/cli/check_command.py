"""`zoo check`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from zoo.cli.output import parse, write, write_json
from zoo.config import CheckConfig

if TYPE_CHECKING:
    from zoo.jobs.check import CheckReport
    from zoo.testing.check import Result


def run(words: Sequence[str]) -> int:
    """Check backbones and plugins; the exit code is 1 where a check failed."""
    config = parse(CheckConfig, "check", words)
    from zoo.jobs.check import run_check
    from zoo.jobs.progress import Reporter

    report = run_check(config, Reporter(quiet=config.quiet))
    if config.json:
        write_json([asdict(result) for result in report.results])
    else:
        _show(report)
    return 1 if report.failed else 0


def _show(report: CheckReport) -> None:
    by_outcome: dict[str, list[Result]] = {}
    for result in report.results:
        by_outcome.setdefault(result.outcome, []).append(result)
    for outcome in ("failed", "excluded"):
        for result in by_outcome.get(outcome, []):
            write(f"{outcome.upper():<8}  {result.subject}: {result.check}")
            write(f"          {result.message}")
    skipped = dict.fromkeys((result.check, result.message) for result in by_outcome.get("skipped", []))
    if len(report.rows) == 1:
        for check, reason in skipped:
            write(f"SKIPPED   {check}: {reason}")
    subjects = {result.subject for result in report.results}
    broken = {result.subject for result in report.failed}
    excluded = {result.subject for result in by_outcome.get("excluded", [])}
    counts = ", ".join(f"{len(by_outcome[name])} {name}" for name in _ORDER if name in by_outcome)
    write(f"{len(subjects)} checked, {len(broken)} with failures, {len(excluded)} with exclusions; checks: {counts}")
    for path in report.tables:
        write(f"parameters, GMACs and features are in {path}")


_ORDER = ("passed", "failed", "excluded", "skipped")
