"""Every architecture of timm as a backbone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.hooks import hookimpl
from zoo.specs import BackboneEntry, BackboneSource, BackboneView

if TYPE_CHECKING:
    from torch import Tensor, nn

_MIXED = "`weights` mixes the logits of four classifiers, and they are off when a head takes their place"
_SHARED = "its parallel blocks use the position encodings of the stages before them once more"
EXCLUSIONS = {
    **{
        f"efficientvim_m{size}{kind}": {"under-none-a-gradient-reaches-every-parameter": _MIXED}
        for size in (1, 2, 3, 4)
        for kind in ("", "_dist")
    },
    **{
        f"coat_{size}": {
            "under-last-1-the-last-stage-alone-trains": _SHARED,
            "under-last-2-the-two-last-stages-alone-train": _SHARED,
        }
        for size in ("tiny", "mini", "small")
    },
}
"""Where a network's own making keeps a check from holding; at most fifteen networks."""


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


def _convert(module: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    from zoo_timm._checkpoint import convert

    return convert(module, tensors)


@hookimpl
def zoo_backbones() -> Iterable[BackboneSource]:
    """Every architecture of timm."""
    yield BackboneSource(
        name="timm",
        entries=_entries,
        build=_build,
        describe=_describe,
        convert=_convert,
        library="timm",
        exclusions=EXCLUSIONS,
        table=Path(__file__).with_name("table.json"),
        summary="every architecture of timm, with its pretrained tags",
    )
