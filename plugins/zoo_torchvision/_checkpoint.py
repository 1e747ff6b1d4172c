"""Checkpoints as torchvision published them, under the names that its networks have today."""

from __future__ import annotations

import re

from torch import Tensor, nn

from zoo_torchvision._stages import family_of

# A dot cannot stand in a module's name any more; DenseNet's files are older than that.
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)$")


def convert(module: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename DenseNet's old names, and leave the auxiliary classifiers out, which the network has lost."""
    family = family_of(module)
    lost = tuple(f"{name}." for name, _ in family.auxiliary if getattr(module, name, None) is None) if family else ()
    return {_OLD_DENSENET.sub(r"\1\2", name): tensor for name, tensor in tensors.items() if not name.startswith(lost)}
