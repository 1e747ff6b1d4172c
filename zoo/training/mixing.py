"""Images mixed with one another in a batch: mixup and cutmix, by torchvision, and the loss of what was mixed."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torchvision.transforms import v2

from zoo.specs import Target


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
