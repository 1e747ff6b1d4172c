"""Every classifier of torchvision as a backbone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from zoo.hooks import hookimpl
from zoo.specs import BackboneEntry, BackboneSource, BackboneView

if TYPE_CHECKING:
    from torch import Tensor, nn


def _entries() -> Iterable[BackboneEntry]:
    from zoo_torchvision._source import list_entries

    return list_entries()


def _build(model: str, tag: str | None) -> BackboneView:
    from zoo_torchvision._source import build

    return build(model, tag)


def _describe(module: nn.Module) -> BackboneView | None:
    # Without torchvision in this process the module cannot be one of its networks.
    if not any(cls.__module__.startswith("torchvision.models.") for cls in type(module).__mro__):
        return None
    from zoo_torchvision._source import describe

    return describe(module)


def _convert(module: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    from zoo_torchvision._checkpoint import convert

    return convert(module, tensors)


@hookimpl
def zoo_backbones() -> Iterable[BackboneSource]:
    """Image classifiers of torchvision."""
    yield BackboneSource(
        name="torchvision",
        entries=_entries,
        build=_build,
        describe=_describe,
        convert=_convert,
        summary="every image classifier of torchvision, with its ImageNet weights",
    )
