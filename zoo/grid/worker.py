"""One process for one cell, or for several in turn: started, watched, stopped at its limits, its answers read."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

from zoo.grid.rows import Cell, Row, Status, row_of

MIB = 2**20
OUTPUT = 4000
"""Characters of a failed process's output that are kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one cell may use.

    Attributes:
        seconds: of wall time.
        mib: of resident memory, its children's included, in units of 2**20 bytes; looked at ten times a second.
        threads: of torch.
    """

    seconds: float = 600.0
    mib: float = 16_384.0
    threads: int = 1


class Worker:
    """A process that computes cells one after the other.

    Attributes:
        left: cells that have no row yet, the one that is being computed first.
        over: whether the process has ended; cells that are left then need another one.
    """

    def __init__(
        self,
        context: BaseContext,
        cells: Sequence[Cell],
        limits: Limits,
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.left = list(cells)
        self.over = False
        self._limits = limits
        self._log = log
        self._started = time.monotonic()
        self._peak = 0.0
        self.connection, theirs = context.Pipe(duplex=False)
        tasks = [(cell.task, dict(cell.parameters), cell.seed) for cell in cells]
        self._process: BaseProcess = context.Process(  # type: ignore[attr-defined]
            target=_work, args=(theirs, tasks, limits.threads, str(log), dict(environment or {}))
        )
        with _without_main():
            self._process.start()
        theirs.close()
        # psutil knows a process by its number and its start, so that no other one of that number is ever taken for it.
        self._watched: psutil.Process | None = None
        self._children: set[psutil.Process] = set()
        with contextlib.suppress(psutil.NoSuchProcess):
            self._watched = psutil.Process(self._process.pid)

    def poll(self) -> Row | None:
        """The row of the cell that is being computed, once there is one; None before."""
        if self.connection.poll():
            return self._answer()
        if not self._process.is_alive():  # it may have answered between the two questions
            return self._answer() if self.connection.poll() else self._died()
        used = self._memory()
        self._peak = max(self._peak, used)
        if used > self._limits.mib:
            return self._end("memory", f"stopped: it used {used:,.0f} MiB of {self._limits.mib:,.0f}")
        if time.monotonic() - self._started > self._limits.seconds:
            return self._end("timeout", f"stopped after {self._limits.seconds:g} s")
        return None

    def stop(self) -> None:
        """Kill the process and everything that it started."""
        for child in self._started_by_it():
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        self._process.kill()
        self._process.join()
        self.connection.close()
        self.over = True
        self._log.unlink(missing_ok=True)

    def _memory(self) -> float:
        """Resident memory of the process and its children, in MiB; 0 where it has just ended."""
        total = 0
        for one in [self._watched, *self._started_by_it()] if self._watched else []:
            with contextlib.suppress(psutil.Error):
                total += one.memory_info().rss
        return total / MIB

    def _started_by_it(self) -> set[psutil.Process]:
        """The processes that it started and those that they started, as far as they were ever seen."""
        if self._watched is not None:
            with contextlib.suppress(psutil.Error):
                self._children.update(self._watched.children(recursive=True))
        return self._children

    def _answer(self) -> Row:
        try:
            status, content, output, peak = json.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            return self._died()
        self._peak = max(self._peak, peak)
        self._started_by_it()  # while it can still be asked
        last = len(self.left) == 1 or status == "memory"  # what ran out of memory may have left some of it taken
        if last:
            self._process.join(timeout=5.0)  # what hangs after its answer is killed
        good = status == "ok"
        row = self._row(status, "" if good else content, output, content if good else None)
        if last:
            self.stop()
        self._started, self._peak = time.monotonic(), 0.0
        return row

    def _died(self) -> Row:
        # Not read from the pipe: a child that the process left behind may hold the other end open for ever.
        self._process.join(timeout=5.0)
        return self._end("died", _death(self._process.exitcode))

    def _end(self, status: Status, message: str) -> Row:
        row = self._row(status, message, _tail(self._log))
        self.stop()
        return row

    def _row(self, status: Status, message: str, output: str, result: Any = None) -> Row:
        return row_of(
            self.left.pop(0),
            status,
            result=result,
            message=message,
            output=output,
            seconds=round(time.monotonic() - self._started, 3),
            peak_mib=round(self._peak, 1),
        )


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Keep the new process from running the user's script again, as multiprocessing does for the sake of pickles.

    Tasks are found by the names of their modules, so a script needs no `if __name__ == "__main__"`.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        names = {number.value: number.name for number in signal.Signals}
        return f"killed by {names.get(-code, f'signal {-code}')}"
    return f"its process ended with exit code {code} and without an answer"


def _tail(log: Path) -> str:
    try:
        return log.read_text(encoding="utf-8", errors="replace")[-OUTPUT:]
    except OSError:
        return ""  # it died before it could open its log


def _work(
    connection: Connection, tasks: Sequence[tuple[str, Any, int]], threads: int, log: str, environment: dict[str, str]
) -> None:
    """What the process does: compute its cells in turn and send an answer for each."""
    os.environ.update(environment)  # before anything asks for a GPU
    # Ctrl-C reaches every process of a terminal; the one that started this decides what to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_the_parent, daemon=True).start()
    with Path(log).open("a", encoding="utf-8") as file:  # by descriptor, for what C code prints too
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)  # what is killed flushes nothing
    gc.freeze()  # what was imported before stays: the collector need not look at it again and again
    for task, parameters, seed in tasks:
        os.truncate(log, 0)  # the log is of one cell
        status, content = _computed(task, parameters, seed, threads)
        sys.stdout.flush()
        sys.stderr.flush()
        output = "" if status == "ok" else _tail(Path(log))  # here, because the next cell begins the log anew
        connection.send_bytes(json.dumps([status, content, output, _own_peak()]).encode())
        for child in psutil.Process().children(recursive=True):  # what a task leaves running would slow the next ones
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        if status == "memory":
            break
    connection.close()


def _leave_with_the_parent() -> None:
    """End this process when the one that started it is gone, killed perhaps: nobody would read its answer."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _computed(task: str, parameters: Mapping[str, Any], seed: int, threads: int) -> tuple[Status, Any]:
    try:
        module, _, name = task.partition(":")
        function = getattr(import_module(module), name)
        _seed(seed, threads)
        result = function(parameters, seed)
        json.dumps(result, allow_nan=False)
    except MemoryError as error:
        traceback.print_exc()
        return "memory", f"MemoryError: {error}"
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        return "error", " ".join(f"{type(error).__name__}: {error}".split())
    return "ok", result


def _seed(seed: int, threads: int) -> None:
    """Global generators and threads of the libraries that the task's module has imported."""
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed % 2**32)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(seed)
        torch.set_num_threads(threads)


def _own_peak() -> float:
    try:
        import resource
    except ImportError:
        return 0.0  # not on Windows
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / MIB if sys.platform == "darwin" else used / 1024
