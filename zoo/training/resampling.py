"""Training rows as boundary resamplers leave them: features that were never an image's, and targets that fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.model.network import TaskHeads
from zoo.specs import Target
from zoo.training.inputs import Inputs, Tensors
from zoo.training.ledger import verify_shift
from zoo.training.seeds import generator_for
from zoo.training.settings import Data
from zoo.training.strategy import Answer

PART = 1024
"""Rows that are read at once."""


class Extended(Inputs):
    """Inputs with rows behind those of the table.

    Args:
        inputs: of the table's rows.
        features: of rows beyond, (M, D).
        start: the position of the first of them.
    """

    def __init__(self, inputs: Inputs, features: Tensor, start: int) -> None:
        self._inputs, self._features, self._start = inputs, features, start

    def take(self, rows: Tensor, epoch: int | None = None) -> Tensors:
        """Features (B, D); all of `rows` lie on one side of the table's end."""
        if int(rows[0]) < self._start:
            return self._inputs.take(rows, epoch)
        return (self._features[(rows - self._start).to(self._features.device)],)


@torch.no_grad()
def joined_features(data: Data, rows: Tensor, heads: TaskHeads, device: torch.device) -> Tensor:
    """Standardised features of `rows` with encoded covariates behind them, float32 (B, D) on the CPU.

    Raises:
        ZooError: the head takes tokens.
    """
    parts = []
    for own in torch.split(rows, PART):
        (features,) = data.inputs.take(own)
        if features.ndim != 2:
            raise ZooError(f"--head {heads.call} takes tokens; a strategy on features needs one vector an image")
        found = heads.standardise(features.float().to(device)).cpu()
        parts.append(found if data.covariates is None else torch.cat([found, data.covariates[own]], dim=1))
    return torch.cat(parts)


def resampled(
    data: Data, name: str, answer: Answer, heads: TaskHeads, seed: int, one_hot: Sequence[tuple[int, int]]
) -> Data:
    """The data with the rows that the resamplers of one target make of the labelled training rows.

    Args:
        data: its inputs are features (B, D) of a frozen backbone.
        name: of the target.
        answer: with resamplers.
        heads: whose standardisation is learned already.
        seed: of the run.
        one_hot: columns of the covariates, from and up to, that are one category's.

    Raises:
        ZooError: the classes are shifted in another way than declared, or the head takes tokens.
    """
    device = heads.standardise.mean.device
    target = data.targets[name]
    known = data.train[target.mask[data.train]]
    drawn, of = joined_features(data, known, heads, device), target.take(known)
    generator = generator_for(seed, 0, "rows")
    own = tuple((first + heads.width, end + heads.width) for first, end in one_hot)
    for resampler in answer.resamplers:
        drawn, of = resampler(drawn, of, generator, own) if own else resampler(drawn, of, generator)
    verify_shift(answer.name, answer.resampler_shift, target.value[known], of.value, _classes(heads, name))
    features = drawn[:, : heads.width].to(device) * heads.standardise.std + heads.standardise.mean
    start = len(target)
    return Data(
        inputs=Extended(data.inputs, features, start),
        covariates=None if data.covariates is None else torch.cat([data.covariates, drawn[:, heads.width :]]),
        targets={**data.targets, name: _joined(target, of)},
        train=torch.arange(start, start + len(of)),
        val=data.val,
        absence=data.absence,
    )


def _classes(heads: TaskHeads, name: str) -> int:
    return next(len(task.classes) for task in heads.tasks if task.name == name)


def _joined(target: Target, more: Target) -> Target:
    weight = None
    if target.weight is not None:
        weight = torch.cat([target.weight, torch.ones(len(more)) if more.weight is None else more.weight])
    return replace(
        target,
        value=torch.cat([target.value, more.value]),
        mask=torch.cat([target.mask, more.mask]),
        weight=weight,
    )
