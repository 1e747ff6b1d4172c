"""The one inference pipeline: decode, impute, normalise, model, correct. Behind train, evaluate and predict alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.data.images import Images
from zoo.data.label_sets import predicted_sets
from zoo.data.table import Table
from zoo.features.extract import extract, prefix_features
from zoo.features.prefix import Prefix, weights_digest
from zoo.metrics.predictions import THRESHOLD, predicted_ranks, predictions_of
from zoo.run.artifact import Artifact
from zoo.run.covariates import Covariates
from zoo.specs import Task

Progress = Callable[[int, int], None]

HELD_NUMBERS = 2**25
"""Numbers of features that are held and go through the heads at once, 128 MiB: tokens of some hundred images."""


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
    ) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        """What is predicted of `rows` by task, and sentences about surprises in their covariates.

        Float64, as `zoo.metrics.predictions.predictions_of` gives it: probabilities (N, K), or numbers (N, 1).

        Args:
            table: the rows' table.
            images: its decoded images; `rows` holds none that is bad.
            rows: int64 (N,), positions in the table.
            progress: called with rows done and rows to do.
        """
        covariates: Tensor | None = None
        said: tuple[str, ...] = ()
        if self._covariates is not None:
            covariates, said, _ = self._covariates.encode(table.take(rows))
        logits = self._logits(images, rows, covariates, progress)
        found = {}
        for task in self.artifact.tasks:
            bias = self.artifact.logit_bias.get(task.name)
            corrected = logits[task.name] + torch.tensor(bias) if bias else logits[task.name]
            found[task.name] = predictions_of(task, corrected)
        return found, said

    def _logits(
        self, images: Images, rows: NDArray[np.int64], covariates: Tensor | None, progress: Progress | None
    ) -> dict[str, Tensor]:
        """Logits (N, outputs) by task; features are held for so many rows at once as fill a part of the memory."""
        heads = self.artifact.model.heads.cpu().eval()
        size = max(self._prefix.batch, HELD_NUMBERS // math.prod(self._prefix.shape))
        parts: dict[str, list[Tensor]] = {task.name: [] for task in self.artifact.tasks}
        for at in range(0, max(1, len(rows)), size):
            shown = _shifted(progress, at, len(rows)) if len(rows) > size else progress
            features = self.features(images, rows[at : at + size], shown).float()
            beside = None if covariates is None else covariates[at : at + size]
            for name, logits in heads(features, beside).items():
                parts[name].append(logits)
        return {name: torch.cat(held) for name, held in parts.items()}


def _shifted(progress: Progress | None, start: int, total: int) -> Progress | None:
    """Progress of a part as progress of the whole, of which `start` rows are done."""
    return None if progress is None else lambda done, _: progress(start + done, total)


def prediction_frame(
    table: Table,
    rows: NDArray[np.int64],
    predictions: Mapping[str, Tensor],
    tasks: Sequence[Task],
    *,
    splits: Sequence[str] | None = None,
    labels: Mapping[str, Sequence[str | None]] | None = None,
) -> pl.DataFrame:
    """Predictions as a table: image, split, and for each task its label, its prediction and what that comes from.

    Of classes and ranks these are the confidence and the probability of each; of labels, of which those with a
    probability of one half are predicted, the probability of each; of numbers nothing more.

    Args:
        table: the table that the rows are of.
        rows: int64 (N,).
        predictions: by task, as `Pipeline.predictions` gives them.
        tasks: in the order of the columns.
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
    best = predicted_ranks(predicted) if task.kind == "ordinal" else predicted.argmax(dim=1)
    sure = predicted.gather(1, best[:, None])[:, 0].tolist()
    return {f"{name}.predicted": [task.classes[index] for index in best.tolist()], f"{name}.confidence": sure, **shares}
