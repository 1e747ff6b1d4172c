"""The finished run that a run goes on from (`--from`): what data, classes and heads take over from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from zoo.config import TrainConfig
from zoo.data.labels import natural_order
from zoo.data.table import Table, with_targets
from zoo.errors import DataError, ZooError
from zoo.features.choose import Decision
from zoo.jobs.inference import image_column, target_kinds
from zoo.model.grow import grow_heads
from zoo.model.network import FineTuneModel
from zoo.run.covariates import Covariates
from zoo.run.filling import Filling
from zoo.run.uses import uses_of
from zoo.specs import Call, TargetKind, Task, TrainView, parse_kinds
from zoo.training.strategy import Answer


@dataclass(frozen=True, kw_only=True)
class Parent:
    """A finished run that another goes on from.

    Attributes:
        folder: of the run.
        digest: SHA-256 of its `model.safetensors`, hexadecimal.
        model: its backbone and heads, with the input of the run that goes on.
        covariates: its imputer and encoder, or None.
        filling: what it learned about missing pixels and channels.
        splits: what it used each image file for, see `zoo.run.uses`.
        tag: of the weights that it started from.
        data: what its `run.json` says about its data.
        said: decisions about what is not taken over as it was.
    """

    folder: Path
    digest: str
    model: FineTuneModel
    covariates: Covariates | None
    filling: Filling
    splits: pl.DataFrame
    tag: str
    data: Mapping[str, Any]
    said: tuple[Decision, ...]

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Its tasks, with its own classes."""
        return self.model.heads.tasks

    @property
    def record(self) -> dict[str, str]:
        """What stands about it in `run.json`."""
        own = {"run": str(self.folder.resolve()), "digest": self.digest, "weights": self.tag}
        return own | {"data": self.data["name"], "licence_of_data": self.data["licence"]}

    def roles(self, config: TrainConfig) -> dict[str, Any]:
        """Image and target columns of the data: as named, else those of the run; covariates come later."""
        folder = Path(config.data).expanduser().is_dir()
        return {
            "image": image_column(self.folder, config.data, config.image),
            "targets": config.target or (() if folder else tuple(task.name for task in self.tasks)),
        }

    def kinds(self, config: TrainConfig) -> dict[str, TargetKind]:
        """What the targets are: what the run learned them as.

        Raises:
            ZooError: `--task` says otherwise.
        """
        found = target_kinds(self.tasks, config.data, config.target)
        for name, kind in parse_kinds(config.task).items():
            own = found.get(name, TargetKind())
            if kind.kind != own.kind or kind.names not in ((), own.names):
                raise ZooError(f"--task {name}={kind}: {self.folder} learned it as {own}; leave it out")
        return found

    def fitted(self, table: Table) -> Table:
        """The table with the run's targets in their order and with its covariates alone; its notes say what is other.

        One target may stand in a column of another name; of several each has to bear its own.

        Raises:
            DataError: other targets, or a covariate that is not there.
        """
        own, given = [task.name for task in self.tasks], table.roles.targets
        table = self._with_covariates(table)
        if sorted(given) == sorted(own):
            return replace(table, roles=replace(table.roles, targets=tuple(own)))
        if len(given) != 1 or len(own) != 1:
            raise DataError(
                f"{self.folder} has the targets {', '.join(own)}, and {table.name} {', '.join(given)}; name the run's "
                "with --target, or put new heads on its backbone with --backbone and --weights"
            )
        note = f"Column {given[0]!r} holds the run's target {own[0]!r}."
        return with_targets(replace(table, notes=(*table.notes, note)), own)

    def _with_covariates(self, table: Table) -> Table:
        covariates, notes = self.covariates.encoder.schema.names if self.covariates else (), list(table.notes)
        if lost := [name for name in covariates if name not in table.frame.columns]:
            raise DataError(
                f"the head of {self.folder} reads the covariates {', '.join(covariates)}, and {table.name} has no "
                f"column {', '.join(lost)}; add it (cells may be empty), or put a new head on the run's backbone with "
                "--backbone and --weights"
            )
        if unread := [name for name in table.roles.covariates if name not in covariates]:
            notes.append(f"The head of {self.folder} does not read {', '.join(unread)}; it is left out.")
        if (group := self.data["roles"]["group"]) and table.roles.group is None:
            notes.append(f"{self.folder} kept groups of {group!r} whole; without --group this run does not.")
        return replace(table, notes=tuple(notes), roles=replace(table.roles, covariates=covariates))

    def known(self, digests: NDArray[np.uint8]) -> list[str]:
        """By row the split in which the run had the image of this digest (N, 16), or an empty text."""
        uses = {digest: split for digest, split in uses_of(self.splits).items() if split != "unused"}
        return [uses.get(bytes(digest).hex(), "") for digest in digests]

    def extended(self, seen: Sequence[Task]) -> tuple[tuple[Task, ...], tuple[str, ...]]:
        """The tasks to learn, and sentences about classes of the run that training lacks.

        Args:
            seen: the tasks with the classes of the training rows.

        Returns:
            Of each task the run's classes in their order, then new ones by name.

        Raises:
            DataError: a target of another kind, or without any class that the run knows.
        """
        tasks, lacking = [], []
        for own, found in zip(self.tasks, seen, strict=True):
            if own.kind == found.kind and own.kind in ("regression", "ordinal"):
                # Numbers keep the units in which the head speaks, and between ranks there is no room for others.
                tasks.append(replace(own, low=_least(own.low, found.low), high=_most(own.high, found.high)))
                continue
            if own.kind != found.kind or not set(own.classes) & set(found.classes):
                raise DataError(
                    f"{self.folder} learned {own.name} = {', '.join(own.classes)} ({own.kind}), and the training rows "
                    f"have {', '.join(found.classes)} ({found.kind}): nothing goes on; put a new head on its "
                    "backbone with --backbone and --weights"
                )
            tasks.append(replace(own, classes=(*own.classes, *natural_order(set(found.classes) - set(own.classes)))))
            if absent := [name for name in own.classes if name not in found.classes]:
                lacking.append(
                    f"no training row has {own.name} = {', '.join(absent)}, which {self.folder} knows; the class keeps "
                    "its place, and becomes less probable the longer the others train"
                )
        return tuple(tasks), tuple(lacking)

    def grown(self, tasks: Sequence[Task], seed: int) -> FineTuneModel:
        """The model, its heads extended by the new classes of `tasks`.

        Raises:
            ZooError: a head that cannot be extended.
        """
        grow_heads(self.model, tasks, seed)
        return self.model

    def check_counted(self, tasks: Sequence[Task], view: TrainView, answers: Mapping[str, Answer]) -> None:
        """Strategies see the classes that training has; where the model has more, they would speak of other ones.

        Raises:
            ZooError: a target with a strategy and without training rows of one of its classes.
        """
        for task in tasks:
            named, counted = answers[task.name].strategies, view.statistics(task.name).task.classes
            if named and counted != task.classes:
                absent = ", ".join(name for name in task.classes if name not in counted)
                raise ZooError(
                    f"--imbalance {'+'.join(named)} counts the rows of every class, and no training row has "
                    f"{task.name} = {absent}, which {self.folder} knows; add rows of it, or leave out --imbalance"
                )

    def check_head(self, head: Call) -> None:
        """A strategy may bring a head; the run has one that goes on.

        Raises:
            ZooError: they differ.
        """
        if str(head) != str(self.model.heads.call):
            raise ZooError(
                f"--imbalance brings the head {head}, and {self.folder} has {self.model.heads.call}, which goes on; "
                "leave out that strategy, or begin a new run"
            )

    def decisions(self, tasks: Sequence[Task]) -> tuple[Decision, ...]:
        """What the run that goes on with `tasks` says about it."""
        taken = "its backbone, weights, heads, classes and image preparation are taken over"
        licence = f"; its data are licensed {self.data['licence']}" if self.data["licence"] else ""
        found = [Decision(what="going on from", choice=str(self.folder), why=taken + licence)]
        known = {task["name"]: set(task["classes"]) for task in self.data["tasks"]}
        for task in tasks:
            if new := [name for name in task.classes if name not in known[task.name]]:
                why = "they stand behind the run's own, and their part of the head begins as in a new one"
                found.append(Decision(what=f"new classes of {task.name}", choice=", ".join(new), why=why))
        return (*found, *self.said)


def _least(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else min(one, other)


def _most(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else max(one, other)
