"""Compute the cells that have no row yet: several at a time, in processes of their own, resumable at any moment."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path

from zoo.errors import OptionError
from zoo.grid.cluster import Cluster
from zoo.grid.pool import Pool, Processes, Running
from zoo.grid.rows import Cell, Row, RowFile
from zoo.grid.worker import Limits


def run_grid(
    cells: Sequence[Cell],
    path: Path,
    *,
    jobs: int = 1,
    devices: int = 0,
    ray: str | None = None,
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
        devices: GPUs of this machine, on each of which one process runs at a time, instead of `jobs`; with `ray`
            whether each process takes a GPU.
        ray: address of a Ray cluster whose machines compute instead, see `zoo.grid.cluster.Cluster`. Paths in the
            parameters must lead to the same files there.
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
        ZooError: Ray is not installed, or there is no such cluster.
    """
    if jobs < 1:
        raise OptionError(f"a grid runs at least one job at a time, not {jobs}")
    with RowFile(path) as file:
        rows = file.read()
        wanted = {cell.key: cell for cell in cells}
        todo = [cell for key, cell in wanted.items() if key not in rows or (retry and retry(rows[key]))]
        if not todo:
            return [rows[cell.key] for cell in cells]
        own = limits or Limits()
        pool = Cluster(ray, own, preload, min(1, devices)) if ray else Processes(jobs, own, preload, devices)
        for done, row in enumerate(computed(_batches(todo, together), pool), 1):
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


def computed(todo: Sequence[list[Cell]], pool: Pool) -> Iterator[Row]:
    """Rows of batches of cells, in the order in which they are done; the pool is closed in the end."""
    waiting = list(reversed(todo))
    running: list[Running] = []
    try:
        while waiting or running:
            while waiting and pool.room():
                running.append(pool.start(waiting.pop()))
            pool.wait()
            for one in list(running):
                row = one.poll()
                if one.over:
                    running.remove(one)
                    waiting += [one.left] if one.left else []
                if row is not None:
                    yield row
    finally:
        pool.close()
