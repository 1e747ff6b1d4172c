"""Which rows an epoch visits, in which order, and how they are divided into steps and batches."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from zoo.training.mixing import hard_labels
from zoo.training.seeds import generator_for
from zoo.training.settings import Data, Settings
from zoo.training.strategy import Answer


def order_of(data: Data, answers: Mapping[str, Answer], seed: int, epoch: int) -> Tensor:
    """Rows of one epoch, int64 positions in the table, shuffled, or as the strategy's sampler draws them."""
    generator = generator_for(seed, epoch, "order")
    train = data.train
    name = next((name for name, answer in answers.items() if answer.sampler is not None), None)
    if name is None:
        return train[torch.randperm(len(train), generator=generator)]
    sampler, labels = answers[name].sampler, hard_labels(data.targets[name].take(train))
    assert sampler is not None  # noqa: S101  it was looked for
    drawn, others = sampler(labels, epoch, generator), torch.nonzero(labels < 0)[:, 0]
    if len(others):  # what has no label to be drawn by still teaches the other targets
        drawn = torch.cat([drawn, others])
        drawn = drawn[torch.randperm(len(drawn), generator=generator)]
    return train[drawn]


def steps_of(order: Tensor, settings: Settings) -> list[list[Tensor]]:
    """The batches of each step of the optimiser."""
    size, least = settings.batch_size, 2 * settings.group.size
    return [_split(step, size, least) for step in _split(order, size * settings.accumulate, least)]


def _split(rows: Tensor, size: int, least: int) -> list[Tensor]:
    """Parts of `size` rows; a last one of less than `least` joins the part before: BatchNorm needs two a process."""
    parts = list(torch.split(rows, size))
    if len(parts) > 1 and len(parts[-1]) < least:
        parts[-2:] = [torch.cat(parts[-2:])]
    return parts
