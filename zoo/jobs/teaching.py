"""Which rows teach: those that options leave out for their holes, and sentences about labels and copies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from zoo.data.covariates import columns, fix_schema, missing_cells
from zoo.data.drop_rows import DropRows, drop_rows
from zoo.data.images import Images
from zoo.data.label_policy import Policy, Pseudo, incomplete
from zoo.data.labels import label_holes, unknown_labels
from zoo.data.numbers import measured_hint
from zoo.data.splits import Splits
from zoo.data.table import Table
from zoo.run.imputing import Imputing
from zoo.specs import Task


def without_holed(table: Table, splits: Splits, asked: Imputing) -> tuple[Splits, tuple[str, ...]]:
    """The splits without the training rows that `--impute rows=drop` leaves out, and a sentence about them."""
    schema = fix_schema(table, splits.train) if asked.rows else None
    if asked.rows is None or schema is None:
        return splits, ()
    holed = np.asarray(missing_cells(columns(table.take(splits.train), schema)[0]).any(axis=1))
    train, said = drop_rows(table, splits.train, holed, asked.rows)
    return replace(splits, train=train), (said,)


def without_incomplete(table: Table, splits: Splits, policy: Policy) -> tuple[Splits, tuple[str, ...]]:
    """The splits without the training rows that `--missing-labels drop` leaves out, and a sentence about them."""
    if not isinstance(policy, DropRows):
        return splits, ()
    mend = 'Let them teach what they can with --missing-labels mask, or raise the caps: "drop(max=1, max_class=1)"'
    train, said = drop_rows(table, splits.train, incomplete(table)[splits.train], policy, "labels", mend)
    return replace(splits, train=train), (said,)


def unlabelled(table: Table, tasks: tuple[Task, ...], policy: Policy) -> tuple[str, ...]:
    """Sentences about labels that are missing, and about classes that may be none."""
    missing = label_holes(table).sum(axis=0)
    others = "they teach and measure the other targets alone" if len(missing) > 1 else "they are left out"
    if isinstance(policy, Pseudo):
        others = "those that train may get pseudo-labels"
    said = [
        f"{count} of {len(table)} rows have no label of {name!r}; {others}"
        for name, count in zip(table.roles.targets, missing, strict=True)
        if count
    ]
    stated = [task for task in tasks if task.kind == "classification" and task.name not in table.kinds]
    said += [
        f"{task.name!r} has {len(task.classes)} classes, all of them numbers{hint}"
        for task in stated
        if (hint := measured_hint(task.name, task.classes))
    ]
    unknown = ((task.name, name, count) for task in tasks for name, count in unknown_labels(table, task).items())
    return *said, *(
        f"{count} of {len(table)} rows do not say whether {name!r} is among their {own!r}"
        for own, name, count in unknown
    )


def copies(images: Images, splits: Splits) -> tuple[str, ...]:
    """A sentence where held-out rows have the very file of a training row: their figures flatter."""
    keys = np.ascontiguousarray(images.digests).view("S16").reshape(-1)
    said = []
    for name, rows in (("val", splits.val), ("test", splits.test)):
        count = int(np.isin(keys[rows], keys[splits.train]).sum())
        if count:
            said.append(f"{count} {name} rows have the same image file as a training row: figures of {name} flatter")
    return tuple(said)
