"""Every architecture of timm as a backbone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from zoo.hooks import hookimpl
from zoo.specs import BackboneEntry, BackboneSource, BackboneView

if TYPE_CHECKING:
    from torch import nn


def _entries() -> Iterable[BackboneEntry]:
    from zoo_timm._source import list_entries

    return list_entries()


def _build(model: str, tag: str | None) -> BackboneView:
    from zoo_timm._source import build

    return build(model, tag)


def _describe(module: nn.Module) -> BackboneView | None:
    # Without timm in this process the module cannot be one of its networks.
    if not type(module).__module__.startswith("timm.models."):
        return None
    from zoo_timm._view import describe

    return describe(module)


@hookimpl
def zoo_backbones() -> Iterable[BackboneSource]:
    """Every architecture of timm."""
    yield BackboneSource(
        name="timm",
        entries=_entries,
        build=_build,
        describe=_describe,
        summary="every architecture of timm, with its pretrained tags",
    )
