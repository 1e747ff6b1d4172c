"""Strategies tried on the training rows: heads on features of the backbone as it is, trained on folds and scored."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.data.labels import group_codes
from zoo.data.splits import training_view
from zoo.errors import DataError
from zoo.group import ALONE
from zoo.jobs.drawing import drawn
from zoo.jobs.feeding import inputs_of
from zoo.jobs.interval import data_of
from zoo.jobs.job import Job
from zoo.jobs.planning import make_plan
from zoo.jobs.settings import rates_of, settings_of
from zoo.jobs.strategies import option_for, with_strategies
from zoo.metrics.choice import epoch_score
from zoo.metrics.probing import make_folds
from zoo.model.freeze import freeze_parts
from zoo.model.network import STATISTICS_ROWS, FineTuneModel
from zoo.specs import Interval, Task, parse_policy
from zoo.training.afterwards import finish
from zoo.training.fitters.choose import fit_on_features
from zoo.training.loop import Trainer
from zoo.training.settings import Data

FOLDS, REPEATS = 5, 2
FEWEST = 3
"""Training rows of the rarest class; fewer cannot stand in as many folds."""

MANY_ROWS = 5000
"""Training rows from which one division into folds is enough."""

Fold = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Rows of the table to train on, and those to score."""


class Trials:
    """Trains and scores strategies for one target of a run.

    Features are computed when this is made, and kept in the cache, where a run with `--freeze head` finds them.

    Args:
        job: the run; nothing of it has been trained, and nothing will have.
        target: whose strategies are tried.
        others: strategies of other targets, as of `--imbalance`.

    Raises:
        DataError: a class has too few training rows, or groups are too large, to be cross-validated.
    """

    def __init__(self, job: Job, target: str, others: Sequence[str]) -> None:
        self.target, self._others = target, tuple(others)
        self.folds = _folds(job, self.task_of(job))
        self._base = _on_features(job)
        model = self._base.model
        freeze_parts(model, model.view, self._base.policy, "backbone.", digest=False)
        self._plan = replace(make_plan(self._base), mode="cached", views=None, resident=True)
        self._inputs, _ = inputs_of(self._base, self._plan)
        model.heads.to(job.device)

    def task_of(self, job: Job) -> Task:
        """The task of the target."""
        return next(task for task in job.data.tasks if task.name == self.target)

    @property
    def overlap(self) -> float:
        """Scored rows over training rows."""
        train, held = self.folds[0]
        return len(held) / len(train)

    def score(self, text: str, fold: Fold, metric: str) -> float:
        """The metric on the scored rows of a fold, of heads trained on its others with a strategy, or `none`.

        Raises:
            ZooError: the strategy cannot be tried on these rows.
        """
        base = self._job(fold)
        job = with_strategies(base, (*self._others, option_for(base, self.target, text)))
        heads, tasks, answer = job.model.heads, job.data.tasks, job.answers[self.target]
        data = drawn(job, data_of(job, self._inputs))
        settings = settings_of(job, self._plan, rates_of(job, cached=True))
        config = job.config
        fit_on_features(heads, data, tasks, job.answers, settings, fitter=config.fitter, head_l2=config.head_l2)

        def suffix(given: tuple[Tensor, ...], covariates: Tensor | None) -> dict[str, Tensor]:
            logits: dict[str, Tensor] = heads(given[0], covariates)
            return logits

        def trainer(own: Data) -> Trainer:
            return Trainer(heads, heads, suffix, own, tasks, job.answers, settings)

        after = finish(trainer(data)) if answer.head_edit or answer.tuned_bias else None
        held = torch.from_numpy(fold[1])
        logits = trainer(replace(data, val=held)).predict()[self.target]
        for bias in (answer.logit_bias, after.bias.get(self.target) if after else None):
            logits = logits + torch.tensor(bias) if bias else logits
        labels = data.targets[self.target].value[held]
        return epoch_score(logits, labels, metric, self.task_of(job).classes)

    def _job(self, fold: Fold) -> Job:
        """The run on the training rows of a fold, its heads as they begin."""
        base, data = self._base, self._base.data
        splits = replace(data.splits, train=fold[0], test=fold[1])
        counted = [data.view.statistics(task.name).task for task in data.tasks]
        view = training_view(data.table, splits, counted, None)
        heads = copy.deepcopy(base.model.heads)
        if base.parent is None:
            rows = torch.split(torch.from_numpy(fold[0]), STATISTICS_ROWS)
            heads.standardise.fit_parts(self._inputs.take(part)[0].float() for part in rows)
        model = FineTuneModel(base.model.view, heads, base.model.kind)
        return replace(base, data=replace(data, splits=splits, view=view), model=model)


def _on_features(job: Job) -> Job:
    """The run with its head alone training, on features of images as they are."""
    config = replace(
        job.config,
        freeze="head",
        missing_labels="mask",
        augment="none",
        views=None,
        mixup=0.0,
        cutmix=0.0,
        compile=False,
        recompute=False,
        sweep=False,
        sweep_lr=(),
        sweep_l2=(),
    )
    nobody = np.empty(0, dtype=np.int64)
    return replace(
        job,
        config=config,
        intervals=(Interval(policy=parse_policy("head"), start=0, stop=config.epochs),),
        answered=job.answered[:1],
        data=replace(job.data, splits=replace(job.data.splits, test=nobody)),
        augmenter=None,
        group=ALONE,
    )


def _folds(job: Job, task: Task) -> list[Fold]:
    data, seed = job.data, job.config.seed
    target, train = data.targets[task.name], data.splits.train
    known = train[target.mask.numpy()[train]]
    unlabelled = np.setdiff1d(train, known)
    labels = target.value.numpy()[known]
    names, counts = np.unique(labels, return_counts=True)
    few = [f"{task.classes[name]} has {count}" for name, count in zip(names, counts, strict=True) if count < FEWEST]
    if few or len(names) < 2:
        raise DataError(
            f"--imbalance auto cross-validates on the training rows and needs {FEWEST} of each class of {task.name}; "
            f"{', '.join(few) or 'there is one class'}. Name a strategy, or bring more rows"
        )
    count, groups = min(FOLDS, int(counts.min())), group_codes(data.table, known)
    found: list[Fold] = []
    for repeat in range(1 if len(train) > MANY_ROWS else REPEATS):
        try:
            divided = make_folds(labels, count, seed + 1000 * repeat, groups)
        except DataError as error:
            raise DataError(f"--imbalance auto cannot cross-validate: {error}; name a strategy") from None
        found += [(np.sort(np.concatenate([known[own], unlabelled])), known[held]) for own, held in divided]
    lacking = [own for own, _ in found if len(np.unique(target.value.numpy()[np.intersect1d(own, known)])) < len(names)]
    if lacking:
        raise DataError(
            "--imbalance auto cannot cross-validate: the groups are so large that folds lack a class; name a strategy"
        )
    return found
