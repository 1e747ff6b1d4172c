"""Cells to compute, the rows that come of them, and the file of JSON lines that keeps the rows."""

from __future__ import annotations

import hashlib
import json
import math
import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from filelock import FileLock, Timeout

from zoo.errors import RunError

FORMAT = 1
Status = Literal["ok", "error", "timeout", "memory", "died"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One thing to compute.

    Attributes:
        task: `module:function`, called as `function(parameters, seed)`; gives JSON values.
        parameters: JSON values.
        seed: of Python's, numpy's and torch's global generators when the task starts.
        context: what else the outcome depends on, such as versions of libraries; part of the key.
    """

    task: str
    parameters: Mapping[str, Any]
    seed: int = 0
    context: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Hash of everything that the outcome depends on."""
        content = [FORMAT, self.task, self.parameters, self.seed, self.context]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def with_seeds(cells: Iterable[Cell], seeds: Iterable[int]) -> list[Cell]:
    """Each cell once for each seed."""
    seeds = tuple(seeds)
    return [replace(cell, seed=seed) for cell in cells for seed in seeds]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What came of a cell.

    Attributes:
        status: `ok`; `error` where the task raised; `timeout` and `memory` where it was stopped at its limit; `died`
            where its process ended without an answer.
        result: what the task gave, where it is ok.
        message: why not, in one line, where it is not ok.
        output: the end of what the process wrote, where it is not ok.
        seconds: from the start of the process to its end.
        peak_mib: largest resident memory of the process and its children that was seen.
        finished: time of day, UTC, ISO 8601.
    """

    key: str
    task: str
    parameters: Mapping[str, Any]
    seed: int
    context: Mapping[str, str]
    status: Status
    result: Any = None
    message: str = ""
    output: str = ""
    seconds: float = 0.0
    peak_mib: float = 0.0
    finished: str = ""


def row_of(cell: Cell, status: Status, **outcome: Any) -> Row:
    """What came of a cell, now.

    Args:
        cell: that was computed, or was to be.
        status: see `Row`.
        outcome: further fields of `Row`.
    """
    return Row(
        key=cell.key,
        task=cell.task,
        parameters=cell.parameters,
        seed=cell.seed,
        context=cell.context,
        status=status,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        **outcome,
    )


class RowFile:
    """Rows in a file of JSON lines; one process at a time may add to it.

    A line that a crash tore is passed over when the file is read, and its cell counts as not computed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(f"{path}.lock")

    def __enter__(self) -> RowFile:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise RunError(f"another process is writing to {self.path}; wait for it, or choose another file") from None
        self._mend()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def _mend(self) -> None:
        """End a torn last line, so that the next row stands on a line of its own."""
        if self.path.exists() and (content := self.path.read_bytes()) and not content.endswith(b"\n"):
            with self.path.open("ab") as file:
                file.write(b"\n")

    def read(self) -> dict[str, Row]:
        """Rows by key; of several of one key the last."""
        if not self.path.exists():
            return {}
        rows: dict[str, Row] = {}
        for line in self.path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                row = Row(**json.loads(line))
            except (ValueError, TypeError):
                continue  # torn, or of a release that wrote other fields
            rows[row.key] = row
        return rows

    def append(self, row: Row) -> None:
        """Add a row; it is on disk when this returns."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row), allow_nan=False) + "\n")  # ASCII: no text of a task can break a line
            file.flush()
            os.fsync(file.fileno())


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """A value over several rows, such as those of several seeds.

    Attributes:
        count: rows that gave a value.
        failed: rows that did not.
        mean, std, median: of the values; NaN without any, and `std` (of a sample) NaN with fewer than two.
    """

    count: int
    failed: int
    mean: float
    std: float
    median: float


def spread(rows: Iterable[Row], value: Callable[[Row], float], by: Sequence[str]) -> dict[tuple[Any, ...], Spread]:
    """A value's spread over the rows that agree in the parameters `by`; failures are counted, never left out."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.parameters.get(name) for name in by), []).append(row)
    return {group: _spread([value(row) for row in held if row.status == "ok"], held) for group, held in groups.items()}


def _spread(values: list[float], rows: Sequence[Row]) -> Spread:
    return Spread(
        count=len(values),
        failed=len(rows) - len(values),
        mean=statistics.fmean(values) if values else math.nan,
        std=statistics.stdev(values) if len(values) > 1 else math.nan,
        median=statistics.median(values) if values else math.nan,
    )
