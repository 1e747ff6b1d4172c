"""`zoo compare`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.cli.output import parse, write, write_json
from zoo.config import CompareConfig
from zoo.errors import ZooError


def run(words: Sequence[str]) -> int:
    """Compare, and print the table and which to take; the exit code is 1 where a run broke."""
    config = parse(CompareConfig, "compare", words)
    if config.json and config.csv:
        raise ZooError("--json and --csv are two formats; choose one")
    from zoo.jobs.compare import run_compare
    from zoo.jobs.progress import Reporter

    found = run_compare(config, Reporter(quiet=config.quiet))
    if config.json:
        write_json(found.found)
    elif config.csv:
        from zoo.report.compare_page import csv_text

        sys.stdout.write(csv_text(found.found))
    else:
        _show(found.found)
        write(f"page        {found.folder}/compare.html")
    return 1 if found.broken else 0


def _show(found: Mapping[str, Any]) -> None:
    from zoo.report.compare_page import table_lines, verdict
    from zoo.report.scores import SPLITS, words

    count = len(found["seeds"])
    own = ", each with a split of its own" if all(found["drawn"].values()) and count > 1 else ""
    write(f"{found['data']}, {found['target']}, {found['backbone']} ({found['weights']}), --freeze {found['freeze']}")
    rows = ", ".join(f"{found['rows'][split]} {name}" for split, name in SPLITS.items())
    over = f"{count} seed{'s' if count > 1 else ''}{own}"
    write(f"{words(found['metric'])} over {over}: {rows} rows; the validation rows choose")
    for note in found["notes"]:
        write(f"note        {note}")
    for line in table_lines(found):
        write(line)
    write("± spread over seeds; GAIN against plain training with the same seed, ~ where it may be noise")
    for each in found["without"]:
        some = 0 < len(each["seeds"]) < len(found["seeds"])
        seeds = f", seeds {', '.join(map(str, each['seeds']))}" if some else ""
        write(f"{'broke' if each['broken'] else 'no figures':<11} {each['strategy']}{seeds}: {each['reason']}")
    for sentence in verdict(found):
        write(sentence)
