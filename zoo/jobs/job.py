"""What the fitting of one run starts from and what it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.config import TrainConfig
from zoo.data.augment import Augmenter
from zoo.features.choose import Decision
from zoo.features.prefix import Recipe
from zoo.jobs.data import Prepared
from zoo.jobs.progress import Reporter
from zoo.model.batchnorm import BatchNormMode
from zoo.model.network import FineTuneModel
from zoo.specs import FreezePolicy
from zoo.training.loop import Fit
from zoo.training.optimiser import Rates
from zoo.training.strategy import Answer


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the fitting of one run starts from; the model is frozen by the policy."""

    config: TrainConfig
    policy: FreezePolicy
    data: Prepared
    answers: Mapping[str, Answer]
    model: FineTuneModel
    device: torch.device
    cache: Path
    reporter: Reporter
    batchnorm: BatchNormMode
    augmenter: Augmenter | None = None

    @property
    def keeps_features(self) -> bool:
        """Whether features of the whole backbone are kept: they are the same in the next run where it is frozen."""
        return self.config.cache and self.policy.head_alone

    @property
    def labels(self) -> NDArray[np.int64]:
        """Classes of the first target on the training rows, -1 where unknown."""
        target = self.data.targets[self.data.tasks[0].name]
        found: NDArray[np.int64] = torch.where(target.mask, target.value, -1).numpy()[self.data.splits.train]
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
    """

    fit: Fit
    recipe: Recipe
    decisions: tuple[Decision, ...]
    rates: Rates
    seconds: Mapping[str, float]
    computed: int = 0
    plan: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
