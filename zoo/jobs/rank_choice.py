"""Which of the ranked backbones to take: the best, the fastest near it, what fits a budget, and the Pareto front."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zoo.errors import ZooError
from zoo.metrics.choice import LOWER_IS_BETTER

NEAR = 0.02
"""Two points of a metric between 0 and 1."""

_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*([smh])", re.IGNORECASE)
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([MGT])(?:i?B)?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranked:
    """One backbone with what decides.

    Attributes:
        value: of the metric, cross-validated.
        images_per_second: through the frozen backbone.
        seconds: predicted for the fine-tuning; None where nobody knows.
        memory: bytes, the same.
        rung: how far it came in the successive halving, from 1; 0 where it did not take part.
        tuned: its value there.
    """

    name: str
    value: float
    images_per_second: float
    seconds: float | None
    memory: int
    rung: int = 0
    tuned: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Take:
    """An answer to one question.

    Attributes:
        question: such as `the best balanced_accuracy`.
        name: of the backbone; None where none fits.
        why: a sentence.
    """

    question: str
    name: str | None
    why: str


def parse_time(text: str) -> float:
    """Seconds of 90s, 10m or 2h.

    Raises:
        ZooError: it is no such text.
    """
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise ZooError(f"--budget {text!r} is no time; say seconds, minutes or hours, such as 90s, 10m or 2h")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2].lower()]


def parse_memory(text: str) -> int:
    """Bytes of 800M, 4G or 4GB, in powers of 1024.

    Raises:
        ZooError: it is no such text.
    """
    found = _MEMORY.fullmatch(text.strip())
    if found is None:
        raise ZooError(f"--memory {text!r} is no size; say 800M or 4G")
    return int(float(found[1]) * 1024 ** {"M": 2, "G": 3, "T": 4}[found[2].upper()])


def in_order(rows: Sequence[Ranked], metric: str) -> list[Ranked]:
    """The best first: those that came farthest in the halving by what they reached there, the others by the metric."""
    sign = 1 if metric in LOWER_IS_BETTER else -1
    key: Callable[[Ranked], tuple[float, float, str]] = lambda row: (  # noqa: E731 - it is used once
        -row.rung,
        sign * (row.value if row.tuned is None else row.tuned),
        row.name,
    )
    return sorted(rows, key=key)


def pareto(rows: Sequence[Ranked], metric: str) -> list[Ranked]:
    """Those than which no other is better in metric and speed alike, the fastest first."""
    sign = -1 if metric in LOWER_IS_BETTER else 1

    def beaten(row: Ranked) -> bool:
        mine = (sign * row.value, row.images_per_second)
        theirs = [(sign * other.value, other.images_per_second) for other in rows]
        return any(all(a >= b for a, b in zip(other, mine, strict=True)) and other != mine for other in theirs)

    return sorted((row for row in rows if not beaten(row)), key=lambda row: -row.images_per_second)


def takes(rows: Sequence[Ranked], metric: str, *, budget: float | None = None, memory: int | None = None) -> list[Take]:
    """What to take.

    Args:
        rows: at least one.
        metric: by which they were scored.
        budget: seconds that the fine-tuning may take.
        memory: bytes that it may take.
    """
    ordered = in_order(rows, metric)
    best = ordered[0]
    tuned = f", {best.tuned:.3f} after a short fine-tuning" if best.tuned is not None else ""
    found = [Take(question=f"best {metric}", name=best.name, why=f"{best.value:.3f} cross-validated{tuned}")]
    near = [row for row in rows if abs(row.value - best.value) <= NEAR or _better(row, best, metric)]
    quick = max(near, key=lambda row: (row.images_per_second, row.name))
    why = f"{quick.value:.3f} and {quick.images_per_second:,.0f} images/s, {len(near)} of {len(rows)} are as near"
    found.append(Take(question="fastest within two points of it", name=quick.name, why=why))
    if budget is not None:
        found.append(_within(ordered, f"{budget:g} s", budget, lambda row: row.seconds, "s", 1))
    if memory is not None:
        found.append(_within(ordered, f"{memory / 2**30:.2f} GiB", memory, lambda row: row.memory, "GiB", 2**30))
    if budget is not None and memory is not None:
        small = [row for row in ordered if row.memory <= memory]
        found.append(
            _within(small, f"{budget:g} s and {memory / 2**30:.2f} GiB", budget, lambda row: row.seconds, "s", 1)
        )
    return found


def _better(row: Ranked, best: Ranked, metric: str) -> bool:
    return row.value < best.value if metric in LOWER_IS_BETTER else row.value > best.value


def _within(
    ordered: Sequence[Ranked],
    said: str,
    limit: float,
    need: Callable[[Ranked], float | None],
    unit: str,
    factor: float,
) -> Take:
    """The best that needs no more than a limit."""
    question = f"best within {said}"
    known = [(row, own) for row in ordered if (own := need(row)) is not None]
    fitting = [(row, own) for row, own in known if own <= limit]
    if fitting:
        row, own = fitting[0]
        why = f"{row.value:.3f}, predicted {own / factor:.2f} {unit}; {len(fitting)} of {len(ordered)} fit"
        return Take(question=question, name=row.name, why=why)
    if not known:
        return Take(question=question, name=None, why="none fits, or nobody knows what it needs")
    least, own = min(known, key=lambda each: each[1])
    return Take(question=question, name=None, why=f"none fits; {least.name} needs least, {own / factor:.2f} {unit}")
