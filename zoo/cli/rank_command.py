"""`zoo rank`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo.cli.output import parse, write, write_json
from zoo.config import RankConfig

if TYPE_CHECKING:
    from zoo.jobs.rank import Ranking

COLUMNS = ("BACKBONE", "METRIC", "±", "NEIGHBOURS", "LOGME", "H-SCORE", "TUNED", "IMAGES/S", "RUN", "MEMORY", "")


def run(words: Sequence[str]) -> None:
    """Rank, and print the table and which to take."""
    config = parse(RankConfig, "rank", words)
    from zoo.jobs.progress import Reporter
    from zoo.jobs.rank import run_rank

    found = run_rank(config, Reporter(quiet=config.quiet))
    if config.json:
        write_json(found.to_json())
        return
    _show(found, config)


def _show(found: Ranking, config: RankConfig) -> None:
    write(f"{config.metric} on {found.rows[0]['rows']} training rows of {config.data}, {config.folds} folds")
    lines = [COLUMNS, *(_cells(row, on_front=row["backbone"] in found.front) for row in found.rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    for line in lines:
        cells = [
            line[0].ljust(widths[0]),
            *(text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=True)),
        ]
        write("  ".join(cells).rstrip())
    write(f"RUN and MEMORY are predicted for --freeze {config.freeze}, {config.epochs} epochs")
    for name, why in found.failures.items():
        write(f"no score    {name}: {why}")
    for note in found.notes:
        write(f"note        {note}")
    for take in found.takes:
        write(f"{take.question}: {take.name or 'none'} ({take.why})")
    write(f"picture     {found.folder}/pareto.png")


def _cells(row: Mapping[str, Any], *, on_front: bool) -> tuple[str, ...]:
    from zoo.data.cache import format_size

    return (
        row["backbone"],
        f"{row['probe']['mean']:.3f}",
        f"{row['probe']['spread']:.3f}",
        f"{row['neighbours']['mean']:.3f}",
        f"{row['log_me']:.3f}",
        f"{row['h_score']:.2f}",
        "-" if row["tuned"] is None else f"{row['tuned']:.3f}",
        f"{row['images_per_second']:,.0f}",
        "?" if row["run_seconds"] is None else f"{row['run_seconds']:.1f} s",
        format_size(row["run_memory"]),
        "front" if on_front else "",
    )
