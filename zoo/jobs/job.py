"""What the fitting of one run starts from and what it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.config import TrainConfig
from zoo.data.augment import Augmenter, by_class
from zoo.data.labels import label_strata
from zoo.features.choose import Decision
from zoo.features.prefix import Prefix, Recipe
from zoo.group import ALONE, Group
from zoo.jobs.data import Prepared
from zoo.jobs.parent import Parent
from zoo.jobs.progress import Reporter
from zoo.model.batchnorm import BatchNormMode
from zoo.model.freeze import Frozen
from zoo.model.network import FineTuneModel
from zoo.specs import FreezePolicy, Interval, Lora
from zoo.training.afterwards import Afterwards
from zoo.training.mixing import hard_labels
from zoo.training.optimiser import Rates
from zoo.training.settings import Fit
from zoo.training.strategy import Answer


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the fitting of one run starts from.

    Attributes:
        intervals: of the run, in order.
        answered: to imbalance in each of them, by task.
        augmenter: what `--augment` does to every training image.
        interval: the one that is under way; the model is frozen by its policy.
        parent: the finished run that this one goes on from.
        group: the processes that train it together.
        batch_size: rows that pass at once.
        found: decisions about the run as a whole.
        chosen: what `--imbalance auto` chose and why, JSON values for each target.
    """

    config: TrainConfig
    intervals: tuple[Interval, ...]
    data: Prepared
    answered: tuple[Mapping[str, Answer], ...]
    model: FineTuneModel
    device: torch.device
    cache: Path
    reporter: Reporter
    batchnorm: BatchNormMode
    augmenter: Augmenter | None = None
    interval: int = 0
    parent: Parent | None = None
    group: Group = ALONE
    batch_size: int = 32
    found: tuple[Decision, ...] = ()
    chosen: tuple[Mapping[str, Any], ...] = ()

    @property
    def answers(self) -> Mapping[str, Answer]:
        """To imbalance in the interval that is under way, by task."""
        return self.answered[self.interval]

    @cached_property
    def shows(self) -> Augmenter | None:
        """How training images are shown in that interval: as `--augment` says, or as a strategy does for a class."""
        for name, answer in self.answers.items():
            if answer.class_transforms:
                common, labels = self.augmenter.steps if self.augmenter else (), hard_labels(self.data.targets[name])
                spec = self.data.images.spec
                return by_class(common, answer.class_transforms, labels.numpy(), self.config.seed, spec)
        return self.augmenter

    @property
    def policy(self) -> FreezePolicy:
        """What trains in the interval that is under way."""
        return self.intervals[self.interval].policy

    @property
    def epochs(self) -> int:
        """How many epochs that interval has."""
        return self.intervals[self.interval].stop - self.intervals[self.interval].start

    @property
    def keeps_features(self) -> bool:
        """Whether features of the whole backbone are kept: they are the same in the next run where it is frozen."""
        return self.config.cache and all(each.policy.head_alone for each in self.intervals)

    @property
    def labels(self) -> NDArray[np.int64]:
        """Classes of the first target on training rows, or what rows are drawn by where it has none; -1: unknown."""
        task, train = self.data.tasks[0], self.data.splits.train
        if not task.hard:
            texts, names = label_strata(self.data.table, task.name)
            return np.array([names.index(text) if (text := texts[row]) is not None else -1 for row in train])
        target = self.data.targets[task.name]
        found: NDArray[np.int64] = torch.where(target.mask, target.value, -1).numpy()[train]
        return found


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What fitting gave; the model has the best epoch's weights.

    Attributes:
        recipe: how features are computed at inference.
        rates: as used.
        computed: rows that went through the frozen part in this run.
        plan: what was predicted, for each way, and what it really took; JSON values.
        problems: sentences about the cache for the report.
        lora: how the adapters were that are merged into the weights now; None where there were none.
        prefix: of the whole backbone, where that is how it computed.
        frozen: by the last interval.
        verified: how often a frozen tensor was compared with what it was when its interval began.
        trained: of each interval, how many numbers trained and at which rates; JSON values.
        afterwards: what strategies did to the trained model.
        pseudo: pseudo-labels by target, see `zoo.jobs.pseudo`; empty for none.
        task_weights: factors on the targets' losses that were learned, of the epoch that was kept; empty for none.
    """

    fit: Fit
    recipe: Recipe
    decisions: tuple[Decision, ...]
    rates: Rates
    seconds: Mapping[str, float]
    frozen: Frozen
    verified: int
    trained: tuple[Mapping[str, Any], ...]
    afterwards: Afterwards = field(default_factory=Afterwards)
    computed: int = 0
    plan: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    lora: Lora | None = None
    prefix: Prefix | None = None
    task_weights: Mapping[str, float] = field(default_factory=dict)
    pseudo: Mapping[str, Any] = field(default_factory=dict)
