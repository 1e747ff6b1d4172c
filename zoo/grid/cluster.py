"""Cells computed by the machines of a Ray cluster: parameters and rows travel, data stay where their paths lead."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from zoo.errors import RunError, ZooError
from zoo.grid.pool import TICK
from zoo.grid.rows import Cell, Row, row_of
from zoo.grid.worker import Limits

TRIES = 3
"""How often cells are begun whose machine, or process there, is lost."""


class Cluster:
    """A Ray cluster: each batch of cells is a task of it, which computes them in processes as this machine would.

    Args:
        address: of the cluster, as `ray.init` takes it: `auto` for the one that this machine belongs to, `local` for
            one of this machine alone, or `ray://HOST:10001`.
        limits: of each process there.
        preload: see `zoo.grid.run.run_grid`.
        devices: GPUs that each task takes, 0 or 1.

    Raises:
        ZooError: Ray is not installed, or there is no cluster at this address.

    No machine that has the processors and the GPUs which a process takes is a `ZooError` when cells are begun.
    """

    def __init__(self, address: str, limits: Limits, preload: Sequence[str], devices: int = 0) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody was asked whether figures may be sent
        try:
            import ray
        except ImportError:
            raise ZooError('--ray needs the package ray: pip install "backbone-zoo[ray]"') from None
        self._ray, self._limits, self._preload, self._devices = ray, limits, tuple(preload), devices
        self._running: dict[Any, _Task] = {}
        self._joined = not ray.is_initialized()
        if self._joined:
            own: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
            try:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
            except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
                raise ZooError(f"--ray {address}: no Ray cluster there: {str(error).splitlines()[0]}") from None
        # Not retried by Ray: a row must not be computed twice without anybody knowing.
        self._task = ray.remote(num_cpus=limits.threads, num_gpus=devices, max_retries=0)(compute_there)

    def room(self) -> bool:
        """Always: Ray keeps what waits."""
        return True

    def start(self, cells: Sequence[Cell]) -> _Task:
        """Give the cells to the cluster."""
        task = _Task(self, list(cells))
        self.begin(task)
        return task

    def begin(self, task: _Task) -> None:
        """Let the cluster compute what is left of a task."""
        self._refuse_what_none_can()
        content = json.dumps([asdict(cell) for cell in task.left])
        self._running.pop(task.reference, None)
        task.reference, task.tries = self._task.remote(content, asdict(self._limits), self._preload), task.tries + 1
        self._running[task.reference] = task

    def _refuse_what_none_can(self) -> None:
        """Ray would wait for such a machine for ever, and say nothing."""
        alive = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        wanted = {"CPU": float(self._limits.threads), "GPU": float(self._devices)}
        if not any(all(own.get(name, 0.0) >= count for name, count in wanted.items()) for own in alive):
            most = max((own.get("CPU", 0.0) for own in alive), default=0.0)
            raise ZooError(
                f"no machine of the Ray cluster has {wanted['CPU']:g} processors and {wanted['GPU']:g} GPUs for a "
                f"process, the largest has {most:g} processors; ask for fewer threads (OMP_NUM_THREADS, or --threads)"
            )

    def wait(self) -> None:
        """Until a task ends, a tick at most."""
        waiting = [reference for reference, task in self._running.items() if not task.over]
        if waiting:
            self._ray.wait(waiting, timeout=TICK)

    def close(self) -> None:
        """Cancel what runs and leave the cluster, where it was joined here."""
        for reference, task in self._running.items():
            if not task.over:
                self._ray.cancel(reference, force=True)
        if self._joined:
            self._ray.shutdown()

    def take(self, task: _Task) -> list[Row] | None:
        """The rows of a task that has ended; none of one that is to be begun again; None of one that runs.

        Raises:
            RunError: the machine that computed has other versions of the libraries, or not all of them.
        """
        errors, reference = self._ray.exceptions, task.reference
        if not self._ray.wait([reference], timeout=0)[0]:
            return None
        try:
            return [Row(**row) for row in json.loads(self._ray.get(reference))]
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.ObjectLostError, errors.OutOfMemoryError) as e:
            return [] if task.tries < TRIES else [_lost(cell, str(e)) for cell in task.left]
        except errors.RayTaskError as error:
            raise RunError(f"a machine of the Ray cluster cannot compute: {error.cause or error}") from None


class _Task:
    """One batch of cells that the cluster has."""

    def __init__(self, cluster: Cluster, cells: list[Cell]) -> None:
        self.left, self.over, self.tries = cells, False, 0
        self.reference: Any = None
        self._cluster, self._found = cluster, list[Row]()

    def poll(self) -> Row | None:
        """The next row, once all of them are there."""
        if not self._found:
            found = self._cluster.take(self)
            if found is None:
                return None
            if not found:  # its machine was lost: another one begins it anew
                self._cluster.begin(self)
                return None
            self._found = found
        row = self._found.pop(0)
        self.left = self.left[1:]
        self.over = not self._found
        return row

    def stop(self) -> None:
        """The cluster cancels it."""
        self.over = True


def _lost(cell: Cell, why: str) -> Row:
    said = " ".join(why.split())[:300]
    return row_of(cell, "died", message=f"its machine or process in the cluster was lost {TRIES} times: {said}")


def compute_there(content: str, limits: dict[str, Any], preload: Sequence[str]) -> str:
    """What a machine of the cluster does: the cells in a process of their own, under the limits; their rows as JSON.

    Raises:
        RunError: this machine has other versions of the libraries than the one that asks.
    """
    from zoo.grid.pool import Processes
    from zoo.grid.run import computed

    cells = [Cell(**cell) for cell in json.loads(content)]
    _refuse_other_versions(cells[0])
    rows = computed([cells], Processes(1, Limits(**limits), preload))
    return json.dumps([asdict(row) for row in rows])


def _refuse_other_versions(cell: Cell) -> None:
    for name, wanted in cell.context.items():
        try:
            own = version(name)
        except PackageNotFoundError:
            continue  # not the name of a library, or the cell fails by itself where it is missing
        # Without the build: torch names it in one place and not in another.
        if own.partition("+")[0] != wanted.partition("+")[0] and wanted != "not installed":
            raise RunError(f"it has {name} {own}, and the one that asks has {wanted}; rows would not be comparable")
