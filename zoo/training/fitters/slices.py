"""All rows at once, or as many at a time as memory should hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from zoo.specs import Batch
from zoo.training.loop import Trainer
from zoo.training.losses import task_loss

SLICE_BYTES = 256 * 2**20
"""Of float32 features in one slice."""

Read = Callable[[Sequence[Tensor]], Iterator[Batch]]


class Slices:
    """Batches of `rows` in order, each of at most `SLICE_BYTES`; a table that fits into one is gathered once."""

    def __init__(self, read: Read, rows: Tensor) -> None:
        self._read = read
        width = next(read([rows[:1]])).inputs[0].numel()
        self._parts = torch.split(rows, max(2, SLICE_BYTES // (4 * width)))
        self._only = next(read(self._parts)) if len(self._parts) == 1 else None

    def __iter__(self) -> Iterator[Batch]:
        if self._only is not None:
            yield self._only
        else:
            yield from self._read(self._parts)


class FeatureTrainer(Trainer):
    """A trainer of heads alone, which may look at all rows at once; its kin bring a `fit` of their own."""

    def read(self, parts: Sequence[Tensor], epoch: int | None = None) -> Iterator[Batch]:
        """The batch of each part's rows; without an epoch, of images as they are."""
        for rows, inputs in self._given(parts, epoch):
            yield self._batch(rows, inputs, self.data.covariates)

    def slices(self, rows: Tensor) -> Slices:
        """Those rows, slice by slice."""
        return Slices(self.read, rows)

    def shares(self, slices: Slices) -> Iterator[Tensor]:
        """What each slice of the training rows adds to the loop's loss, were all of them one batch."""
        masks = {task.name: self.data.targets[task.name].mask[self.data.train] for task in self.tasks}
        known = {name: max(1, int(mask.sum())) for name, mask in masks.items()}
        for batch in slices:
            logits = self._forward(batch)
            found = []
            for task in self.tasks:
                target = batch.targets[task.name]
                # A slice's own mean, weighed by its part of the known labels.
                mean = task_loss(logits[task.name], target, self.answers[task.name], kind=task.kind)
                weight = self.settings.task_weights.get(task.name, 1.0)
                found.append(weight * mean * (target.mask.sum() / known[task.name]))
            yield torch.stack(found).sum()
