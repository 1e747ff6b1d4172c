"""What stands in `run.json` about the data: rows, classes, splits, and what is missing where."""

from __future__ import annotations

from typing import Any

import numpy as np

from zoo.config import TrainConfig
from zoo.data.hole_counts import count_holes
from zoo.data.labels import label_counts, label_holes, unknown_labels
from zoo.jobs.data import Prepared
from zoo.jobs.image_holes import hole_columns
from zoo.specs import HOLE_KINDS


def holes_json(data: Prepared) -> list[dict[str, Any]]:
    """Counts of the hole map, as JSON values: covariates, labels and files."""
    table, held = data.table, data.holes
    missing = dict(zip(table.roles.targets, label_holes(table).T, strict=True))
    if held.covariates is not None:
        missing |= dict(zip(table.roles.covariates, held.covariates.T, strict=True))
    unread = np.zeros(len(table), dtype=bool)
    unread[list(held.files)] = True
    missing |= {table.roles.image: unread, **hole_columns(data.images, table.roles.image)}
    first, *others = data.tasks
    own = {first.name: missing.pop(first.name)} if others else {}
    return [
        *(count_holes(table, others[0].name, data.splits, own) if own else ()),
        *count_holes(table, first.name, data.splits, missing),
    ]


def data_json(config: TrainConfig, data: Prepared) -> dict[str, Any]:
    """What stands about the data in `run.json`."""
    table = data.table
    missing = label_holes(table).sum(axis=0)
    return {
        "name": table.name,
        "rows": len(table),
        "licence": table.licence,
        "notes": list(table.notes),
        "roles": {name: getattr(table.roles, name) for name in table.roles.__slots__},
        "tasks": [task.to_json() for task in data.tasks],
        "splits": {
            "train": len(data.splits.train),
            "val": len(data.splits.val),
            "test": len(data.splits.test),
            "how": data.splits.how,
            "seed": config.seed,
        },
        "counts": label_counts(table, data.tasks, data.splits),
        "missing_labels": {name: int(count) for name, count in zip(table.roles.targets, missing, strict=True)},
        "unknown_labels": {task.name: unknown_labels(table, task) for task in data.tasks if task.kind == "multilabel"},
        "rows_with_holes": {kind: data.holes.count(kind) for kind in HOLE_KINDS},
        "holes": holes_json(data),
        "bad_files": [
            {"image": table.frame[table.roles.image][row], "reason": reason} for row, reason in data.bad.dropped.items()
        ],
        "covariates": list(data.covariates.encoder.names) if data.covariates else [],
        "warnings": list(data.warnings),
    }
