"""What each target is, fixed once from the training rows: its classes in their order, its labels, or its spread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np

from zoo.data.label_sets import check_teachable, encode_sets, set_counts
from zoo.data.labels import Rows, as_number, label_texts, natural_order
from zoo.data.numbers import are_measured, read_numbers
from zoo.data.table import Table
from zoo.errors import DataError
from zoo.specs import ClassStatistics, Task


def fix_tasks(table: Table, train_rows: Rows) -> tuple[Task, ...]:
    """The task of each target: its kind as the table says, its classes, or its mean and spread, from the training rows.

    Raises:
        DataError: a target with fewer than two classes, labels or numbers among the training rows, or whose cells are
            not of its kind.
    """
    return tuple(_TASKS[table.kind(name).kind](table, name, train_rows) for name in table.roles.targets)


def _class_task(table: Table, name: str, train_rows: Rows) -> Task:
    texts, kind = label_texts(table, name), table.kind(name)
    seen = Counter(texts[row] for row in train_rows)
    holes = seen.pop(None, 0)
    classes = natural_order(text for text in seen if text is not None)
    if len(classes) < 2:
        found = f"one class only, {classes[0]!r}" if classes else "no label at all"
        raise DataError(_nothing(name, found, train_rows, holes))
    if name not in table.kinds and are_measured(classes):
        example = next(text for text in classes if not float(text).is_integer())
        raise DataError(
            f"target {name!r} holds numbers such as {example}: say --task {name}=regression to learn them as numbers, "
            f"{name}=ordinal as ranks, or {name}=classification to take each of the {len(classes)} for a class"
        )
    if kind.kind == "ordinal":
        classes = _ranks(name, classes, kind.names)
    return Task(name=name, kind=kind.kind, classes=tuple(classes))


def _nothing(name: str, found: str, train_rows: Rows, holes: int) -> str:
    return (
        f"target {name!r} has {found} in the {len(train_rows)} training rows ({holes} of them have no label); "
        "there is nothing to tell apart. Name another target, or add rows of other classes"
    )


def _ranks(name: str, classes: list[str], named: tuple[str, ...]) -> list[str]:
    """The ranks in their order: as named, or by value where they are numbers."""
    if not named and any(as_number(text) is None for text in classes):
        raise DataError(
            f"target {name!r} is ordinal, and its ranks are no numbers: name them, the lowest first, as in "
            f"--task {name}=ordinal({', '.join(classes)})"
        )
    if unknown := [text for text in classes if named and text not in named]:
        numbers = {as_number(text) for text in named} - {None}
        cut = next((text for text in unknown if as_number(text) in numbers), None)
        hint = f'; to keep the digits of a number put it into quotes, as in "{cut}"' if cut else ""
        raise DataError(f"target {name!r} holds {', '.join(unknown)}, no rank of {', '.join(named)}{hint}")
    return [text for text in named if text in classes] or classes


def _set_task(table: Table, name: str, train_rows: Rows) -> Task:
    texts, names = label_texts(table, name), table.kind(name).names
    own = [texts[row] for row in train_rows]
    counts = set_counts(own)
    if not counts:
        raise DataError(_nothing(name, "no label at all", train_rows, own.count(None)))
    classes = tuple(label for label in names if counts[label]) or tuple(natural_order(counts))
    return Task(name=name, kind="multilabel", classes=classes, joined=bool(names))


def check_complete(table: Table, tasks: Iterable[Task], train_rows: Rows) -> None:
    """Refuse what the training rows cannot teach of targets whose classes were named: ranks and labels that they lack.

    Raises:
        DataError: a rank without a row; a label that is never there, always there, or never known.
    """
    for task in tasks:
        named = table.kind(task.name).names
        if task.kind == "multilabel":
            texts = label_texts(table, task.name)
            check_teachable(task.name, named or task.classes, [texts[row] for row in train_rows])
        elif lacking := [text for text in named if text not in task.classes]:
            raise DataError(
                f"target {task.name!r}: no training row has the rank {', '.join(lacking)}; leave it out, or add rows"
            )


def _number_task(table: Table, name: str, train_rows: Rows) -> Task:
    numbers = read_numbers(table.frame[name], name)[train_rows]
    known = numbers[~np.isnan(numbers)]
    if len(known) < 2 or float(known.std()) == 0.0:
        found = f"one value only, {known[0]:g}" if len(known) else "no number at all"
        raise DataError(_nothing(name, found, train_rows, len(numbers) - len(known)))
    center, scale, low, high = (float(each) for each in (known.mean(), known.std(), known.min(), known.max()))
    return Task(name=name, kind="regression", center=center, scale=scale, low=low, high=high)


_TASKS: dict[str, Callable[[Table, str, Rows], Task]] = {
    "classification": _class_task,
    "ordinal": _class_task,
    "multilabel": _set_task,
    "regression": _number_task,
}


def count_classes(table: Table, task: Task, train: Rows) -> ClassStatistics:
    """How often each class of a task is observed in these rows.

    Raises:
        ValueError: a class is not.
    """
    if task.kind == "regression":
        return ClassStatistics(task=task, counts=())
    texts = label_texts(table, task.name)
    if task.kind == "multilabel":
        there, known = encode_sets([texts[row] for row in train], task.classes)
        counts, of = (there * known).sum(axis=0), known.sum(axis=0)
        return ClassStatistics(task=task, counts=tuple(map(int, counts)), known=tuple(map(int, of)))
    seen = Counter(texts[row] for row in train)
    return ClassStatistics(task=task, counts=tuple(seen[name] for name in task.classes))
