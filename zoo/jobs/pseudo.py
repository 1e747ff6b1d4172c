"""The part of a run that trains by pseudo-labels: given by the model when it begins, kept with the run's state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from zoo.config import TrainConfig
from zoo.data.label_policy import Pseudo, parse_policy
from zoo.errors import DataError
from zoo.features.choose import Decision
from zoo.jobs.data import Prepared
from zoo.jobs.job import Job
from zoo.training.loop import Trainer
from zoo.training.pseudo import Marks, filled, mark, takes

Labels = Mapping[str, Marks]
"""By target, its pseudo-labels."""


def check_pseudo(config: TrainConfig, data: Prepared) -> None:
    """Refuse pseudo-labels where nothing could get one, or where no epoch would learn from them.

    Raises:
        OptionError: the run is too short.
        DataError: no training row lacks a class or a label.
    """
    policy = parse_policy(config.missing_labels)
    if not isinstance(policy, Pseudo):
        return
    train = torch.from_numpy(data.splits.train)
    if not any(takes(task) and not bool(data.targets[task.name].mask[train].all()) for task in data.tasks):
        raise DataError(
            "--missing-labels pseudo fills missing classes and labels of training rows, and none is missing; "
            "leave it out"
        )


def label_rows(job: Job, trainer: Trainer, *, kept_views: bool) -> Labels:
    """Pseudo-labels of the training rows by the model as it is; the same in every process.

    Args:
        job: the run, in the interval that is to learn from them.
        trainer: through which the model predicts.
        kept_views: whether training rows are there as augmented views alone.
    """
    policy = parse_policy(job.config.missing_labels)
    assert isinstance(policy, Pseudo)  # noqa: S101  why the interval is there
    rows = torch.from_numpy(job.data.splits.train)
    epoch = job.intervals[job.interval].start if kept_views else None
    logits = trainer.predict(rows, epoch)
    targets = job.data.targets
    return {
        task.name: mark(task, logits[task.name], targets[task.name].take(rows), rows, policy)
        for task in job.data.tasks
        if takes(task)
    }


def with_labels(job: Job, labels: Labels) -> Job:
    """The run with these labels on its training rows.

    Raises:
        ValueError: one of them is of a row that does not train.
    """
    train = set(job.data.splits.train.tolist())
    if any(not train.issuperset(marks["rows"]) for marks in labels.values()):
        raise ValueError("a pseudo-label of a row that does not train")
    targets = {
        name: filled(target, labels[name]) if name in labels else target for name, target in job.data.targets.items()
    }
    return replace(job, data=replace(job.data, targets=targets))


def pseudo_decisions(job: Job, labels: Labels) -> tuple[Decision, ...]:
    """How many labels were given, of which classes."""
    found = []
    for task in job.data.tasks if labels else ():
        if task.name not in labels:
            why = "numbers get no pseudo-labels; their holes stay masked"
            found.append(Decision(what=f"pseudo-labels of {task.name}", choice="none", why=why))
            continue
        marks = labels[task.name]
        taken = ", ".join(f"{name} {count}" for name, count in marks["taken"].items())
        limits = ", ".join(f"{name} {limit:.2f}" for name, limit in marks["thresholds"].items())
        choice = f"{len(marks['rows'])} of {marks['candidates']} missing ones"
        why = f"{taken}; a prediction had to exceed {limits}" if marks["candidates"] else "none is missing"
        found.append(Decision(what=f"pseudo-labels of {task.name}", choice=choice, why=why))
    return tuple(found)


def pseudo_json(labels: Labels) -> dict[str, Any]:
    """What stands in `run.json`: the counts; which rows they are of stands in `splits.csv`."""
    return {name: {key: marks[key] for key in ("candidates", "taken", "thresholds")} for name, marks in labels.items()}


def pseudo_column(data: Prepared, labels: Labels) -> list[str | None]:
    """By row of the table the labels that it was given, `target=label` joined by `; `; None where there are none."""
    said: list[list[str]] = [[] for _ in range(len(data.table))]
    for task in data.tasks:
        if task.name not in labels:
            continue
        marks = labels[task.name]
        there = marks.get("there") or [True] * len(marks["rows"])
        for row, label, own in zip(marks["rows"], marks["labels"], there, strict=True):
            said[row].append(f"{task.name}={task.classes[label] if own else 'no ' + task.classes[label]}")
    return ["; ".join(each) or None for each in said]
