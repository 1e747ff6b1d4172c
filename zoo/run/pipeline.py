"""The one inference pipeline: decode, impute, normalise, model, correct. Behind train, evaluate and predict alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.data.images import Images
from zoo.data.label_sets import predicted_sets
from zoo.data.table import Table
from zoo.features.digests import weights_digest
from zoo.features.extract import extract, prefix_features
from zoo.features.prefix import Prefix
from zoo.metrics.predictions import THRESHOLD, predicted_ranks, predictions_of
from zoo.run.artifact import Artifact
from zoo.run.covariates import Covariates
from zoo.specs import Task

Progress = Callable[[int, int], None]

HELD_NUMBERS = 2**25
"""Numbers of features that are held and go through the heads at once, 128 MiB: tokens of some hundred images."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Predicted:
    """What is predicted of N rows.

    Attributes:
        by_task: float64, as `zoo.metrics.predictions.predictions_of` gives it: probabilities (N, K), or numbers (N, 1).
        spread: float64 (N,) by task, where covariates are imputed several times: the deviation over a row's completions
            of what is predicted of it (the probability of the class, a number, the most uncertain label's probability);
            0 of a row without holes. Empty where each hole is filled once.
        said: sentences about surprises in the covariates.
    """

    by_task: dict[str, Tensor]
    spread: Mapping[str, Tensor] = field(default_factory=dict)
    said: tuple[str, ...] = ()


class Pipeline:
    """A fine-tuned model ready to predict on this machine.

    Attributes:
        artifact: the model and what belongs to it.

    Args:
        artifact: the same.
        device: where it computes.
        cache: folder in which features are kept; None where they are not.
        prefix: of this backbone by the artifact's recipe, where one is made already.
    """

    def __init__(
        self, artifact: Artifact, device: torch.device, cache: Path | None, prefix: Prefix | None = None
    ) -> None:
        self.artifact = artifact
        self._device = device
        self._cache = cache
        model = artifact.model
        self._prefix = prefix or Prefix(model.view, model.kind, artifact.recipe, device)
        self._digest = weights_digest(model.backbone)
        self._covariates = (
            Covariates.load(artifact.covariates, artifact.imputers) if artifact.covariates is not None else None
        )

    def features(self, images: Images, rows: NDArray[np.int64], progress: Progress | None = None) -> Tensor:
        """Features of `rows`, computed once and kept where there is a cache."""
        if self._cache is None:
            return prefix_features(self._prefix, images, rows, progress)
        return extract(self._prefix, images, rows, digest=self._digest, cache=self._cache, progress=progress)

    @torch.no_grad()
    def predictions(
        self, table: Table, images: Images, rows: NDArray[np.int64], progress: Progress | None = None
    ) -> Predicted:
        """What is predicted of `rows`: of multiple imputation the mean over the completions of each row.

        Args:
            table: the rows' table.
            images: its decoded images; `rows` holds none that is bad.
            rows: int64 (N,), positions in the table.
            progress: called with rows done and rows to do.
        """
        covariates: list[Tensor] = []
        said: tuple[str, ...] = ()
        if self._covariates is not None:
            own = table.take(rows)
            once, said, _ = self._covariates.encode(own)
            drawn = self._covariates.completions(own, once)
            covariates = [once] if drawn is None else list(drawn)
        logits = self._logits(images, rows, covariates, progress)
        found = {task.name: self._pooled(task, logits[task.name]) for task in self.artifact.tasks}
        spread = {name: _spread(task, found[name]) for task in self.artifact.tasks if len(found[name := task.name]) > 1}
        return Predicted(by_task={name: own.mean(dim=0) for name, own in found.items()}, spread=spread, said=said)

    def _pooled(self, task: Task, logits: Sequence[Tensor]) -> Tensor:
        """What is predicted, (completions, N, K), from logits of each completion."""
        bias = self.artifact.logit_bias.get(task.name)
        correction = torch.tensor(bias) if bias else 0.0
        return torch.stack([predictions_of(task, own + correction) for own in logits])

    def _logits(
        self, images: Images, rows: NDArray[np.int64], covariates: Sequence[Tensor], progress: Progress | None
    ) -> dict[str, list[Tensor]]:
        """Logits (N, outputs) by task, one for each of the covariates (N, C), or one where there are none.

        Features are held for so many rows at once as fill a part of the memory.
        """
        heads = self.artifact.model.heads.cpu().eval()
        size = max(self._prefix.batch, HELD_NUMBERS // math.prod(self._prefix.shape))
        several: list[Tensor | None] = list(covariates) or [None]
        parts: dict[str, list[list[Tensor]]] = {task.name: [[] for _ in several] for task in self.artifact.tasks}
        for at in range(0, max(1, len(rows)), size):
            shown = _shifted(progress, at, len(rows)) if len(rows) > size else progress
            features = self.features(images, rows[at : at + size], shown).float()
            for place, own in enumerate(several):
                beside = None if own is None else own[at : at + size]
                for name, logits in heads(features, beside).items():
                    parts[name][place].append(logits)
        return {name: [torch.cat(own) for own in held] for name, held in parts.items()}


def _spread(task: Task, found: Tensor) -> Tensor:
    """Of what is predicted of each completion, (m, N, K), the deviation (N,) of what is predicted of the row."""
    around = found.std(dim=0)
    if task.kind in ("regression", "multilabel"):
        return around.amax(dim=1)
    return around.gather(1, _best(task, found.mean(dim=0))[:, None])[:, 0]


def _best(task: Task, predicted: Tensor) -> Tensor:
    """The class (N,) that is predicted."""
    return predicted_ranks(predicted) if task.kind == "ordinal" else predicted.argmax(dim=1)


def _shifted(progress: Progress | None, start: int, total: int) -> Progress | None:
    """Progress of a part as progress of the whole, of which `start` rows are done."""
    return None if progress is None else lambda done, _: progress(start + done, total)


def prediction_frame(
    table: Table,
    rows: NDArray[np.int64],
    predictions: Mapping[str, Tensor],
    tasks: Sequence[Task],
    *,
    spread: Mapping[str, Tensor] | None = None,
    splits: Sequence[str] | None = None,
    labels: Mapping[str, Sequence[str | None]] | None = None,
) -> pl.DataFrame:
    """Predictions as a table: image, split, and for each task its label, its prediction and what that comes from.

    Of classes and ranks these are the confidence and the probability of each; of labels, of which those with a
    probability of one half are predicted, the probability of each; of numbers nothing more. Of multiple imputation the
    spread too.

    Args:
        table: the table that the rows are of.
        rows: int64 (N,).
        predictions: by task, as `Predicted` has them.
        tasks: in the order of the columns.
        spread: by task, as `Predicted` has it.
        splits: name of the split of each row, where there are splits.
        labels: label of each row by task, None where unknown; a task without labels has no such column.
    """
    data: dict[str, Sequence[object]] = {"image": table.frame[table.roles.image][rows].to_list()}
    if splits is not None:
        data["split"] = list(splits)
    for task in tasks:
        if labels is not None and task.name in labels:
            data[task.name] = list(labels[task.name])
        data |= _columns(task, predictions[task.name])
        if spread and task.name in spread:
            data[f"{task.name}.spread"] = spread[task.name].tolist()
    return pl.DataFrame(data, strict=False)


def _columns(task: Task, predicted: Tensor) -> dict[str, Sequence[object]]:
    """The columns of one task's predictions."""
    name = task.name
    if task.kind == "regression":
        return {f"{name}.predicted": predicted[:, 0].tolist()}
    shares: dict[str, Sequence[object]] = {
        f"{name}.p({own})": predicted[:, index].tolist() for index, own in enumerate(task.classes)
    }
    if task.kind == "multilabel":
        return {f"{name}.predicted": predicted_sets((predicted >= THRESHOLD).numpy(), task.classes), **shares}
    best = _best(task, predicted)
    sure = predicted.gather(1, best[:, None])[:, 0].tolist()
    return {f"{name}.predicted": [task.classes[index] for index in best.tolist()], f"{name}.confidence": sure, **shares}
