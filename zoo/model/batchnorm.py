"""BatchNorm in a network that is fine-tuned: which layers there are, and statistics learned anew from one's own images.

What is frozen keeps its statistics in any case. Where something trains there are three ways, by name:

    frozen        statistics stand still there too, and normalise in training as they will at inference
    train         they follow the batches, as in training from scratch
    recalibrate   one pass over the training rows, without gradients, replaces those of the whole backbone before the
                  first step (AdaBN: Li, Wang, Shi, Hou and Liu 2018); then they stand still
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

BatchNormMode = Literal["frozen", "train", "recalibrate"]


def batch_norms(module: nn.Module) -> dict[str, _BatchNorm]:
    """The layers with running statistics, by path; those of timm that add an activation are among them."""
    return {
        path: part
        for path, part in module.named_modules()
        if isinstance(part, _BatchNorm) and part.running_mean is not None
    }


def default_mode(weights: str) -> BatchNormMode:
    """The mode for weights of this tag: random ones come with statistics of nothing, so that they have to move."""
    return "train" if weights == "none" else "frozen"


@torch.no_grad()
def recalibrate(
    module: nn.Module, run: Callable[[Tensor], object], layers: Iterable[_BatchNorm], batches: Iterable[Tensor]
) -> int:
    """Replace the statistics of `layers` by the mean over batches of what they see, all else as in eval mode.

    Args:
        module: holds the layers; its modes are put back.
        run: its forward pass, called with each batch.
        layers: the BatchNorms; one that `run` does not reach, as in an auxiliary classifier, keeps what it has.
        batches: of equal size and each of all classes, because what differs between batches is in no variance.

    Returns:
        How many layers were reached.
    """
    held = list(layers)
    modes = {part: part.training for part in module.modules()}
    before = [({name: own.clone() for name, own in layer.named_buffers()}, layer.momentum) for layer in held]
    reached = 0
    module.eval()
    for layer in held:
        layer.reset_running_stats()
        layer.momentum = None  # the mean of all batches, each as much as the others
        layer.training = True
    try:
        for batch in batches:
            run(batch)
    finally:
        for layer, (buffers, momentum) in zip(held, before, strict=True):
            layer.momentum = momentum
            if layer.num_batches_tracked:
                reached += 1
            else:
                layer.load_state_dict(buffers, strict=False)
        for part, mode in modes.items():
            part.training = mode
    return reached
