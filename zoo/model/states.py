"""Tensors that go back into a network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn


def with_versions(module: nn.Module, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors as a state of `module`, with the versions of its layers, which neither files nor mappings keep.

    Without them a layer takes its state for one of an early release: torchvision's MNASNet refuses it, and BatchNorm
    sets its counter to zero.
    """
    state = OrderedDict(tensors)
    own = module.state_dict()
    state._metadata = own._metadata  # type: ignore[attr-defined]  # noqa: SLF001  where `state_dict` puts them
    return state
