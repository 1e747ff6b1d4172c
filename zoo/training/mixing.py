"""Rows of a batch mixed with one another: mixup and cutmix of images, by torchvision, and by a strategy's mixer."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torchvision.transforms import v2

from zoo.specs import Batch, Target
from zoo.specs.plans import BatchMixer


class Mixer:
    """Mixes each batch with itself, moved on by one row.

    Args:
        mixup: alpha of the Beta distribution that the share is drawn from (Zhang et al. 2018, "mixup"); 0 for never.
        cutmix: the same, where a box is pasted instead (Yun et al. 2019, "CutMix"); 0 for never. With both, each batch
            is mixed by one of them, by equal chances.
    """

    def __init__(self, mixup: float, cutmix: float) -> None:
        ways = [v2.MixUp(alpha=mixup)] if mixup else []
        self._ways = [*ways, *([v2.CutMix(alpha=cutmix)] if cutmix else [])]

    def __call__(self, images: Tensor) -> tuple[Tensor, float]:
        """Images (B, C, H, W) mixed, and the share in (0, 1] of each that is its own; the rest is of the row before.

        Draws from torch's own generator on the CPU.
        """
        if len(images) < 2:
            return images, 1.0
        way = self._ways[int(torch.randint(len(self._ways), ())) if len(self._ways) > 1 else 0]
        mixed, shares = way(images, torch.eye(len(images)))  # what it does to labels says which share is whose
        return mixed, float(shares[0, 0])


def moved_on(target: Target) -> Target:
    """The target of the row before each, as the images were mixed."""
    weight = None if target.weight is None else target.weight.roll(1, 0)
    return replace(target, value=target.value.roll(1, 0), mask=target.mask.roll(1, 0), weight=weight)


def hard_labels(target: Target) -> Tensor:
    """Classes int64 (N,) of hard labels, -1 where unknown."""
    return torch.where(target.mask, target.value, -1)


def mixed(batch: Batch, task: str, mixer: BatchMixer) -> Batch:
    """The batch as a strategy's mixer leaves it: inputs, covariates and the target of `task`.

    Rows without a label are mixed with nothing and stay without. Draws the mixer's seed from torch's own generator.
    """
    target = batch.targets[task]
    known = torch.nonzero(target.mask)[:, 0]
    if not len(known):
        return batch
    generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
    beside = () if batch.covariates is None else (batch.covariates,)
    given = tuple(part[known] for part in (*batch.inputs, *beside))
    changed, soft = mixer(given, target.take(known), generator)
    whole = [
        part.index_copy(0, known, own.to(part.dtype))
        for part, own in zip((*batch.inputs, *beside), changed, strict=True)
    ]
    value = soft.value.new_zeros((len(target), soft.value.shape[1])).index_copy(0, known, soft.value)
    weight = None if target.weight is None or soft.weight is None else target.weight.index_copy(0, known, soft.weight)
    count = len(batch.inputs)
    return replace(
        batch,
        inputs=tuple(whole[:count]),
        covariates=whole[count] if beside else None,
        targets={**batch.targets, task: Target(value=value, mask=target.mask, weight=weight)},
    )
