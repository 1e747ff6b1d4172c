"""Where cells are computed: in processes of this machine, several at a time, on GPUs of their own where asked."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Sequence
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Protocol

from zoo.grid.rows import Cell, Row
from zoo.grid.worker import Limits, Worker

TICK = 0.1
"""Seconds between two looks at what runs."""


class Running(Protocol):
    """Cells that are being computed one after the other.

    Attributes:
        left: those that have no row yet.
        over: whether nothing more comes of it; cells that are left then need another one.
    """

    left: list[Cell]
    over: bool

    def poll(self) -> Row | None:
        """The next row, once there is one."""
        ...

    def stop(self) -> None:
        """End it; what is left has no row."""
        ...


class Pool(Protocol):
    """Starts cells somewhere."""

    def room(self) -> bool:
        """Whether more can be started now."""
        ...

    def start(self, cells: Sequence[Cell]) -> Running:
        """Begin to compute them in turn."""
        ...

    def wait(self) -> None:
        """Until something may have happened, or a tick has passed."""
        ...

    def close(self) -> None:
        """Stop what runs."""
        ...


class Processes:
    """Processes of this machine.

    Args:
        jobs: at a time.
        limits: of each.
        preload: see `zoo.grid.run.run_grid`.
        devices: GPUs, each of which serves one process at a time, which sees no other; 0 to leave that alone.
    """

    def __init__(self, jobs: int, limits: Limits, preload: Sequence[str], devices: int = 0) -> None:
        self._jobs, self._limits, self._devices = devices or jobs, limits, devices
        self._context = _context(preload)
        self._folder = tempfile.TemporaryDirectory(prefix="zoo-grid-")
        self._running: dict[int, Worker] = {}

    def room(self) -> bool:
        """Whether fewer run than may."""
        self._running = {slot: worker for slot, worker in self._running.items() if not worker.over}
        return len(self._running) < self._jobs

    def start(self, cells: Sequence[Cell]) -> Worker:
        """A process for these cells, in the first slot that is free."""
        slot = next(number for number in range(self._jobs) if number not in self._running)
        log = Path(self._folder.name, f"{cells[0].key}.log")
        environment = {"CUDA_VISIBLE_DEVICES": str(slot)} if self._devices else {}
        self._running[slot] = Worker(self._context, cells, self._limits, log, environment)
        return self._running[slot]

    def wait(self) -> None:
        """Until one of them answers, a tick at most."""
        wait([worker.connection for worker in self._running.values() if not worker.over], timeout=TICK)

    def close(self) -> None:
        """Kill what runs."""
        for worker in self._running.values():
            if not worker.over:
                worker.stop()
        self._folder.cleanup()


def _context(preload: Sequence[str]) -> BaseContext:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    return context
