"""What chooses the best epoch: a metric of one target, or the mean of each target's own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zoo.errors import DataError, UnknownNameError
from zoo.metrics.choice import is_better
from zoo.metrics.kinds import DEFAULTS, check_defined, check_metric
from zoo.registry.near import suggest
from zoo.specs import Target, Task

DEFAULT = "log_loss"
"""The name under which each target's own default metric is asked for; of most kinds it is just that."""

MEAN = "mean"
"""In the history, the mean that chooses where several targets count."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chooser:
    """What is computed on validation rows after each epoch, and which of it chooses the best one.

    Attributes:
        metrics: by target, the metric that is computed of it.
        counts: the targets whose metrics choose, in the mean; they are all better when larger, or all when smaller.
        said: sentences about targets that cannot count.
    """

    metrics: Mapping[str, str]
    counts: tuple[str, ...]
    said: tuple[str, ...] = ()

    @property
    def metric(self) -> str:
        """The metric of the first target that counts; it says in which direction all of them are better."""
        return self.metrics[self.counts[0]]

    @property
    def key(self) -> str:
        """Of the value that chooses, in a row of the history."""
        return self.column(self.counts[0]) if len(self.counts) == 1 else MEAN

    def column(self, target: str) -> str:
        """Of a target's metric, in a row of the history."""
        return f"{target}/{self.metrics[target]}"

    def with_mean(self, found: Mapping[str, float]) -> dict[str, float]:
        """Metrics by `column`, and with them the mean where several targets count."""
        if len(self.counts) == 1:
            return dict(found)
        return {**found, MEAN: math.fsum(found[self.column(name)] for name in self.counts) / len(self.counts)}

    def better(self, new: float, best: float) -> bool:
        """Whether `new` beats `best`; a tie does not."""
        return is_better(self.metric, new, best)

    def __str__(self) -> str:
        if len(self.metrics) == 1:
            return self.metric
        parts = [f"{name}:{self.metrics[name]}" for name in self.counts]
        return parts[0] if len(parts) == 1 else f"the mean of {', '.join(parts[:-1])} and {parts[-1]}"


def split_option(option: str, names: Sequence[str] | None = None) -> tuple[str | None, str]:
    """The target that `TARGET:METRIC` names, None where the option names none, and the metric.

    Raises:
        UnknownNameError: there is no such target; `names` are those that there are, None as long as nobody knows.
    """
    for name in names or ():
        if option.startswith(f"{name}:"):
            return name, option.removeprefix(f"{name}:")
    target, colon, metric = option.partition(":")
    if not colon or "(" in target:  # the name of a class may hold a colon
        return None, option
    if names is not None:
        raise UnknownNameError(
            f"--metric {option}: no target {target!r}; the targets are {', '.join(names)}{suggest(target, names)}"
        )
    return target, metric


def make_chooser(
    option: str | None, tasks: Sequence[Task], held: Mapping[str, Target], rows: str = "the validation rows"
) -> Chooser:
    """What `--metric` comes to on these rows.

    By default, which `log_loss` stands for, each target's own metric counts, and the mean of them chooses; `METRIC` is
    that of every target that has it, `TARGET:METRIC` of one. A target that the rows leave undefined does not count
    where others do.

    Args:
        option: as the user wrote it, or None for the default.
        tasks: all targets.
        held: their labels on the rows that choose.
        rows: what messages call them.

    Raises:
        UnknownNameError: no such target or metric, or a class that no target has.
        DataError: the rows leave it undefined; the message says why.
    """
    names = [task.name for task in tasks]
    target, metric = split_option(option, names) if option not in (None, DEFAULT) else (None, None)
    own = {task.name: metric or DEFAULTS[task.kind] for task in tasks}
    asked = [task for task in tasks if target in (None, task.name) and _has(task, own[task.name])]
    if not asked:
        named = next((task for task in tasks if task.name == target), tasks[0])
        check_metric(named, own[named.name])
    metrics = {task.name: own[task.name] if _has(task, own[task.name]) else DEFAULTS[task.kind] for task in tasks}
    why = {task.name: _undefined(task, own[task.name], held[task.name], rows) for task in asked}
    counts = tuple(name for name, reason in why.items() if reason is None)
    if not counts:
        raise DataError(next(iter(why.values())))
    said = [f"{name} has no part in choosing the best epoch: {reason}" for name, reason in why.items() if reason]
    return Chooser(metrics=metrics, counts=counts, said=tuple(said))


def _has(task: Task, metric: str) -> bool:
    try:
        check_metric(task, metric)
    except UnknownNameError:
        return False
    return True


def _undefined(task: Task, metric: str, target: Target, rows: str) -> str | None:
    if not bool(target.mask.any()):
        return f"none of {rows} has a label of {task.name!r}"
    try:
        check_defined(task, metric, target, rows)
    except DataError as error:
        return str(error)
    return None
