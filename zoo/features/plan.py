"""The cost model: what each way to run a fine-tuning costs, from seconds per image measured on this machine.

With N images, E epochs, V cached views, P seconds of an image through the prefix, S and S' through the suffix in
training and in validation, W and W' through the whole network, b bytes that cross the boundary:

    cached   N V (P + b / write) + E (N_train (S + b / read) + N_val (S' + b / read))
    live     E (N_train (P + S) + N_val (P + S'))
    whole    E (N_train W + N_val W')
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Mode = Literal["cached", "live", "whole"]

MODES: dict[Mode, str] = {
    "cached": "what crosses the boundary is computed once and kept",
    "live": "the frozen part computes in every epoch, folded, without gradients",
    "whole": "every epoch goes through the whole network",
}

MEMORY_SHARE = 0.5
"""Of the memory that is left, what cached rows may take; larger ones are read from the memory-mapped files."""


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """Seconds of one image; None where there is no such part, or nothing was measured.

    Attributes:
        prefix: through the frozen part.
        suffix, suffix_eval: through the rest with its heads: forward and backward, no optimiser; forward alone.
        whole, whole_eval: the same through the whole network.
        compiling: seconds before the first image goes through the prefix; not of an image.
    """

    prefix: float | None = None
    suffix: float | None = None
    suffix_eval: float | None = None
    whole: float | None = None
    whole_eval: float | None = None
    compiling: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much there is to do.

    Attributes:
        train, val: rows.
        epochs: of the run.
        todo: passes of an image through the prefix that the cache lacks.
        row_bytes: that cross the boundary for one image.
        kept_rows: rows and views that would be kept.
    """

    train: int
    val: int
    epochs: int
    todo: int = 0
    row_bytes: int = 0
    kept_rows: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes that would be kept."""
        return self.kept_rows * self.row_bytes


@dataclass(frozen=True, kw_only=True)
class Room:
    """What the machine has.

    Attributes:
        disk: bytes free for the cache.
        memory: bytes free where training is; None where nobody knows.
        read, write: bytes a second of the cache's disk.
    """

    disk: int
    memory: int | None
    read: float
    write: float


@dataclass(frozen=True, kw_only=True)
class Basis:
    """What alternatives are computed from."""

    seconds: Seconds
    size: Size
    room: Room


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """One way to run, and what it would cost.

    Attributes:
        mode: which.
        features: seconds before the first epoch; None where they are not known.
        train: seconds of all epochs.
        refused: why it cannot be, or an empty string.
    """

    mode: Mode
    features: float | None = None
    train: float | None = None
    refused: str = ""

    @property
    def total(self) -> float:
        """Seconds of both; infinite where it cannot be or nothing is known."""
        if self.refused or self.features is None or self.train is None:
            return float("inf")
        return self.features + self.train


def alternatives(seconds: Seconds, size: Size, room: Room, refused: dict[Mode, str]) -> tuple[Alternative, ...]:
    """What each way costs, those first that may be, the cheapest at the front.

    Args:
        seconds: measured.
        size: of the job.
        room: of the machine.
        refused: why a way cannot be, beside what the room says.
    """
    refused = dict(refused)
    needed = size.todo * size.row_bytes
    if needed > room.disk and "cached" not in refused:
        refused["cached"] = f"it takes {needed / 1e9:.1f} GB on disk, and {room.disk / 1e9:.1f} GB are free"
    found = []
    for mode in MODES:
        if mode in refused:
            found.append(Alternative(mode=mode, refused=refused[mode]))
            continue
        before, during = _cost(mode, seconds, size, room)
        found.append(Alternative(mode=mode, features=before, train=during))
    return tuple(sorted(found, key=lambda each: (bool(each.refused), each.total)))


def _cost(mode: Mode, seconds: Seconds, size: Size, room: Room) -> tuple[float | None, float | None]:
    if mode == "whole":
        return 0.0, _epochs(size, seconds.whole, seconds.whole_eval, 0.0)
    if seconds.prefix is None:
        return None, None
    if mode == "live":
        return seconds.compiling, _epochs(size, seconds.suffix, seconds.suffix_eval, seconds.prefix)
    resident = room.memory is None or size.nbytes <= MEMORY_SHARE * room.memory
    reading = 0.0 if resident else size.row_bytes / room.read
    before = size.todo * (seconds.prefix + size.row_bytes / room.write) + (size.nbytes / room.read if resident else 0.0)
    before += seconds.compiling if size.todo else 0.0
    return before, _epochs(size, seconds.suffix, seconds.suffix_eval, reading)


def _epochs(size: Size, train: float | None, val: float | None, each: float) -> float | None:
    if train is None or val is None:
        return None
    return size.epochs * (size.train * (train + each) + size.val * (val + each))


def table(found: Sequence[Alternative]) -> list[str]:
    """The alternatives as lines of text, the one that is taken marked."""
    lines = [f"  {'':<8} {'before':>9} {'epochs':>9} {'total':>9}"]
    for at, each in enumerate(found):
        mark = "→" if at == 0 else " "
        if each.refused:
            lines.append(f"{mark} {each.mode:<8} cannot be: {each.refused}")
            continue
        numbers = " ".join("        ?" if n is None else f"{n:7.1f} s" for n in (each.features, each.train))
        total = "        ?" if each.total == float("inf") else f"{each.total:7.1f} s"
        lines.append(f"{mark} {each.mode:<8} {numbers} {total}  {MODES[each.mode]}")
    return lines
