"""Labels with their holes: read, counted, and encoded for the tasks that training rows have fixed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from zoo.data.label_sets import encode_sets, parse_set, rarest_labels
from zoo.data.numbers import ranges, read_numbers
from zoo.data.table import Table
from zoo.errors import DataError
from zoo.specs import Target, Task

if TYPE_CHECKING:
    from zoo.data.splits import Splits

Rows = NDArray[np.int64]
_SHOWN = 20


def label_text(value: Any) -> str | None:
    """A cell as the name of a class: `str(value)`, 1.0 as `1`; None where it is a hole."""
    if value is None or value != value:
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def label_texts(table: Table, column: str) -> list[str | None]:
    """The class names of every row in `column`, None at holes.

    Raises:
        DataError: the table has no such column.
    """
    if column not in table.frame.columns:
        raise DataError(f"{table.name} has no column {column!r} of labels. It has {', '.join(table.frame.columns)}")
    if table.frame.schema[column].is_nested():
        raise DataError(f"column {column!r} of {table.name} holds lists; say --task {column}=multilabel")
    cells = table.frame[column].to_list()
    names = {cell: label_text(cell) for cell in set(cells)}
    return [names[cell] for cell in cells]


def group_codes(table: Table, rows: Rows) -> Rows | None:
    """Number of each row's group, int64 (len(rows),), a row without one alone in its own; None where none are named."""
    if table.roles.group is None:
        return None
    texts = label_texts(table, table.roles.group)
    own = [f"row {row}" if texts[row] is None else f"={texts[row]}" for row in rows.tolist()]
    return np.unique(own, return_inverse=True)[1].astype(np.int64)


def label_holes(table: Table) -> NDArray[np.bool_]:
    """Bool (N, T), True where a label is missing; targets in the order of the roles."""
    columns = [[text is None for text in label_texts(table, name)] for name in table.roles.targets]
    return np.array(columns, dtype=bool).reshape(len(columns), len(table)).T


def unknown_labels(table: Table, task: Task) -> dict[str, int]:
    """By label of a multilabel task, how many rows say something of others and not of it; labels with none left out."""
    if task.kind != "multilabel":
        return {}
    texts = [text for text in label_texts(table, task.name) if text is not None]
    missing = (~encode_sets(texts, task.classes)[1]).sum(axis=0).tolist()
    return {name: count for name, count in zip(task.classes, missing, strict=True) if count}


def natural_order(names: Iterable[str]) -> list[str]:
    """Distinct names as people count: numbers (also 1/3) by value, else `class2` before `class10`."""
    distinct = sorted(set(names))
    numbers = {name: as_number(name) for name in distinct}
    if all(number is not None for number in numbers.values()):
        return sorted(distinct, key=lambda name: numbers[name] or Fraction(0))
    return sorted(distinct, key=lambda name: [int(p) if p.isdecimal() else p for p in re.split(r"(\d+)", name)])


def as_number(text: str) -> Fraction | None:
    """A class's name as a number, which may be a fraction such as 1/3; None where it is none."""
    try:
        return Fraction(text.replace(" ", ""))
    except (ValueError, ZeroDivisionError):
        return None


def label_strata(table: Table, target: str) -> tuple[list[str | None], list[str]]:
    """What rows are counted and drawn by, None where the label is missing, and all such names in their order.

    Of classes and ranks it is the label itself, of several labels the rarest one, of numbers a range.
    """
    match table.kind(target).kind:
        case "regression":
            return ranges(read_numbers(table.frame[target], target))
        case "multilabel":
            texts = rarest_labels(label_texts(table, target))
        case _:
            texts = label_texts(table, target)
    return texts, natural_order(text for text in texts if text is not None)


def encode_targets(table: Table, tasks: Iterable[Task], rows: Rows | None = None) -> dict[str, Target]:
    """Labels of all N rows by task, see `Target`, zeros under the mask of a hole; with the weight of each row.

    Args:
        table: the table.
        tasks: whose classes the indices point into, and whose numbers are standardised.
        rows: those whose labels must be classes of their task, all by default; elsewhere a label that is none is
            masked.

    Raises:
        DataError: among `rows`, a label that is no class of its task; a cell that is no number where it has to be; or
            a weight that is no number ≥ 0.
    """
    weight = _weights(table)
    return {task.name: replace(_encoded(table, task, rows), weight=weight) for task in tasks}


def _encoded(table: Table, task: Task, rows: Rows | None) -> Target:
    if task.kind == "regression":
        numbers = (read_numbers(table.frame[task.name], task.name) - task.center) / task.scale
        value = torch.from_numpy(np.nan_to_num(numbers).astype(np.float32))[:, None]
        return Target(value=value, mask=torch.from_numpy(~np.isnan(numbers)))
    texts = label_texts(table, task.name)
    _check_known(task, texts, range(len(texts)) if rows is None else rows.tolist())
    if task.kind == "multilabel":
        there, known = encode_sets(texts, task.classes)
        return Target(value=torch.from_numpy(there), mask=torch.from_numpy(known))
    index = {name: position for position, name in enumerate(task.classes)}
    codes = torch.tensor([-1 if text is None else index.get(text, -1) for text in texts], dtype=torch.int64)
    return Target(value=codes.clamp(min=0), mask=codes >= 0)


def _labels_in(task: Task, text: str | None) -> Iterable[str]:
    """The classes, or labels, that a cell names."""
    if text is None:
        return ()
    return parse_set(text)[0] if task.kind == "multilabel" else (text,)


def foreign_labels(task: Task, texts: Sequence[str | None], rows: Iterable[int]) -> Counter[str]:
    """Labels that are no class of the task, and how many of `rows` have each; of numbers there is none."""
    if task.kind == "regression":
        return Counter()
    return Counter(name for row in rows for name in _labels_in(task, texts[row]) if name not in task.classes)


def _check_known(task: Task, texts: Sequence[str | None], rows: Iterable[int]) -> None:
    unknown = foreign_labels(task, texts, rows)
    if unknown:
        listed = ", ".join(f"{name!r} ({count} rows)" for name, count in unknown.most_common(_SHOWN))
        raise DataError(f"target {task.name!r}: {listed} is no class; the classes are {', '.join(task.classes)}")


def _weights(table: Table) -> torch.Tensor | None:
    name = table.roles.weight
    if name is None:
        return None
    values = table.frame[name].cast(pl.Float64, strict=False).to_numpy()
    bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if bad.size:
        row = int(bad[0])
        raise DataError(
            f"weight {name!r}: {bad.size} rows hold no number of at least 0, the first is row {row} "
            f"with {table.frame[name][row]!r}; every row needs one"
        )
    return torch.from_numpy(values.astype(np.float32))


def check_classes(table: Table, tasks: Iterable[Task], splits: Mapping[str, Rows]) -> tuple[str, ...]:
    """Compare the classes of held-out rows with those of training, by name.

    Args:
        table: the table.
        tasks: whose classes come from the training rows.
        splits: positions of held-out rows by the name of their split; empty ones are passed over.

    Returns:
        A sentence for each class that a split lacks; no figure can be given for it there.

    Raises:
        DataError: a held-out class that training has not; a model cannot learn it.
    """
    sentences, errors = [], []
    for task in tasks:
        texts = label_texts(table, task.name) if task.classes else []
        for split, rows in splits.items() if task.classes else ():
            counts = Counter(name for row in rows for name in _labels_in(task, texts[row]))
            errors += [
                f"class {name!r} of target {task.name!r} has {counts[name]} rows in {split} but none in training"
                for name in natural_order(counts.keys() - set(task.classes))
            ]
            lacking = [name for name in task.classes if name not in counts]
            if lacking and len(rows):
                sentences.append(f"{split} has no row of {task.name} = {', '.join(lacking)}: no figure there")
    if errors:
        raise DataError(
            "\n".join(errors[:_SHOWN])
            + "\nAdd training rows of it, rename it, take its rows out, or keep its share in each split with --stratify"
        )
    return tuple(sentences)


def label_counts(table: Table, tasks: Iterable[Task], splits: Splits) -> dict[str, dict[str, dict[str, int]]]:
    """Rows of each class, label or range in each split: `{task: {name: {"train" | "val" | "test": rows}}}`."""
    parts = {"train": splits.train, "val": splits.val, "test": splits.test}
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for task in tasks:
        texts, names = label_strata(table, task.name) if not task.classes else (label_texts(table, task.name), [])
        seen = {
            part: Counter(name for row in rows for name in _labels_in(task, texts[row])) for part, rows in parts.items()
        }
        counts[task.name] = {name: {part: seen[part][name] for part in parts} for name in task.classes or names}
    return counts
