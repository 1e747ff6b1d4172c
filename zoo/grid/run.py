"""Compute the cells that have no row yet: several at a time, in processes of their own, resumable at any moment."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Hashable, Iterator, Sequence
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from pathlib import Path

from zoo.errors import OptionError
from zoo.grid.rows import Cell, Row, RowFile
from zoo.grid.worker import Limits, Worker

TICK = 0.1
"""Seconds between two looks at the memory of what runs."""


def run_grid(
    cells: Sequence[Cell],
    path: Path,
    *,
    jobs: int = 1,
    limits: Limits | None = None,
    retry: Callable[[Row], bool] | None = None,
    preload: Sequence[str] = (),
    together: Callable[[Cell], Hashable] | None = None,
    progress: Callable[[int, int], None] | None = None,
    each: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Compute cells and keep their rows in `path`; those that have a row there are not computed again.

    A cell that fails, takes too long or too much memory is a row like any other. Ctrl-C stops what runs and keeps
    what is done.

    Args:
        cells: what to compute; one that stands twice is computed once.
        path: file of JSON lines; made where it is not there.
        jobs: processes at a time.
        limits: of each process.
        retry: says of a row that is there whether its cell is computed anew, as `failed` does.
        preload: modules that are imported once, before the processes are forked from where they are, so that each
            starts in a moment. They must start no thread and touch no GPU when they are imported.
        together: cells of an equal value are computed by one process, one after the other, so that what their task
            keeps in the process serves all of them. Where one of them ends the process, the others get a new one.
        progress: called with cells done and cells to do.
        each: called with each new row.

    Returns:
        The row of each cell, in the order of the cells.

    Raises:
        RunError: another process is writing to the file.
        OptionError: no job at all.
    """
    if jobs < 1:
        raise OptionError(f"a grid runs at least one job at a time, not {jobs}")
    with RowFile(path) as file:
        rows = file.read()
        wanted = {cell.key: cell for cell in cells}
        todo = [cell for key, cell in wanted.items() if key not in rows or (retry and retry(rows[key]))]
        for done, row in enumerate(_computed(_batches(todo, together), jobs, limits or Limits(), preload), 1):
            file.append(row)
            rows[row.key] = row
            if each:
                each(row)
            if progress:
                progress(len(wanted) - len(todo) + done, len(wanted))
    return [rows[cell.key] for cell in cells]


def failed(row: Row) -> bool:
    """Whether a row is a failure, whatever its kind."""
    return row.status != "ok"


def _batches(cells: Sequence[Cell], together: Callable[[Cell], Hashable] | None) -> list[list[Cell]]:
    """The cells of each process, in their order."""
    if together is None:
        return [[cell] for cell in cells]
    found: dict[Hashable, list[Cell]] = {}
    for cell in cells:
        found.setdefault(together(cell), []).append(cell)
    return list(found.values())


def _computed(todo: Sequence[list[Cell]], jobs: int, limits: Limits, preload: Sequence[str]) -> Iterator[Row]:
    """Rows in the order in which they are done."""
    waiting = list(reversed(todo))
    running: list[Worker] = []
    context = _context(preload)
    with tempfile.TemporaryDirectory(prefix="zoo-grid-") as folder:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    cells = waiting.pop()
                    running.append(Worker(context, cells, limits, Path(folder, f"{cells[0].key}.log")))
                wait([worker.connection for worker in running], timeout=TICK)
                for worker in list(running):
                    row = worker.poll()
                    if worker.over:
                        running.remove(worker)
                        waiting += [worker.left] if worker.left else []
                    if row is not None:
                        yield row
        finally:
            for worker in running:
                worker.stop()


def _context(preload: Sequence[str]) -> BaseContext:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    return context
