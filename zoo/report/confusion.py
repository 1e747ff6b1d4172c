"""What was taken for what: the confusion matrix, or its largest cells where there are many classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MOST = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A cell of the confusion matrix: rows counted, and their share of the true class."""

    count: int
    share: float
    hit: bool
    title: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Confusion:
    """Rows of one class that are taken for another, and their share of the true class."""

    true: str
    predicted: str
    count: int
    share: float


def matrix(names: Sequence[str], counts: Sequence[Sequence[int]]) -> list[list[Cell]]:
    """Rows of cells, true classes down and predicted ones across."""
    found = []
    for i, row in enumerate(counts):
        total = sum(row)
        cells = []
        for j, count in enumerate(row):
            share = count / total if total else 0.0
            title = f"{count} of {total} rows of {names[i]} taken for {names[j]} ({share:.0%})"
            cells.append(Cell(count=count, share=share, hit=i == j, title=title))
        found.append(cells)
    return found


def confusions(names: Sequence[str], counts: Sequence[Sequence[int]]) -> list[Confusion]:
    """The most frequent ones."""
    pairs = [
        Confusion(true=names[i], predicted=names[j], count=count, share=count / sum(row))
        for i, row in enumerate(counts)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(pairs, key=lambda pair: -pair.count)[:MOST]
