"""The loss of a batch, whose rows may be mixed by mixup, cutmix or a strategy before they pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from zoo.specs import Batch, Target, Task
from zoo.training.losses import total_loss
from zoo.training.mixing import Mixer, mixed, moved_on
from zoo.training.strategy import Answer


def known_labels(targets: Mapping[str, Target], tasks: Sequence[Task], parts: Sequence[Tensor]) -> dict[str, float]:
    """How many labels the batches of one step have, by task: what each of their sums is divided by."""
    rows = torch.cat(list(parts))
    return {task.name: float(targets[task.name].mask[rows].sum()) for task in tasks}


def mixed_loss(
    batch: Batch,
    forward: Callable[[Batch], Mapping[str, Tensor]],
    tasks: tuple[Task, ...],
    answers: Mapping[str, Answer],
    mixer: Mixer | None,
    weights: Callable[[], Mapping[str, Tensor | float]],
    **options: Any,
) -> Tensor:
    """The loss of a batch as it passes.

    Args:
        batch: as it was read.
        forward: from a batch to logits by task.
        tasks: in the order of the heads.
        answers: to imbalance, by task.
        mixer: of `--mixup` and `--cutmix`, or None.
        weights: gives the factors on the losses of the tasks; asked after the batch has passed, because while it does
            what is divided among processes is gathered.
        options: further ones of `zoo.training.losses.total_loss`.
    """
    share = 1.0
    if mixer:
        images, share = mixer(batch.inputs[0])
        beside = batch.covariates
        if beside is not None:
            beside = share * beside + (1 - share) * beside.roll(1, 0)
        batch = replace(batch, inputs=(images,), covariates=beside)
    for name, answer in answers.items():
        if answer.mixer is not None:
            batch = mixed(batch, name, answer.mixer)
    logits = forward(batch)
    options["weights"] = weights()
    loss = total_loss(logits, batch.targets, tasks, answers, **options)
    if share < 1:
        moved = {name: moved_on(target) for name, target in batch.targets.items()}
        loss = share * loss + (1 - share) * total_loss(logits, moved, tasks, answers, **options)
    return loss
