"""Which library's network a backbone is, and how that library itself builds it, so that a file can be meant for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from zoo.model.adapt import adapt_input
from zoo.model.view import build_view, split_name
from zoo.specs import BackboneView


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """How somebody without backbone-zoo builds the network.

    Attributes:
        library: `timm`, `torchvision`, or an empty string where only the backbone's source knows.
        architecture: the library's name of the network.
        arguments: that its constructor needs beside the number of classes.
    """

    library: str
    architecture: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


def origin_of(view: BackboneView) -> Origin:
    """Read off the network itself: sources other than these two may offer their networks too."""
    name, size, resized = split_name(view.name)[1], view.input.size, _resized(view)
    cfg = getattr(view.module, "pretrained_cfg", None)
    if isinstance(cfg, Mapping) and cfg.get("architecture"):
        arguments = {"img_size": list(size)} if resized else {}
        return Origin(library="timm", architecture=str(cfg["architecture"]), arguments=arguments)
    if type(view.module).__module__.startswith("torchvision."):
        return Origin(library="torchvision", architecture=name, arguments={"image_size": size[0]} if resized else {})
    return Origin(library="", architecture=name)


def _resized(view: BackboneView) -> bool:
    """Whether the network's tensors are those of another size than its library's own."""
    return view.resize is not None and build_view(view.name, "none").input.size != view.input.size


def build_own(origin: Origin, view: BackboneView, outputs: int) -> nn.Module:
    """The library's network with its own classifier of `outputs` classes, weights random."""
    module: nn.Module
    if origin.library == "timm":
        import timm

        module = timm.create_model(origin.architecture, pretrained=False, num_classes=outputs, **origin.arguments)
    elif origin.library == "torchvision":
        import torchvision.models

        module = torchvision.models.get_model(
            origin.architecture, weights=None, num_classes=outputs, **origin.arguments
        )
    else:
        fresh = adapt_input(build_view(view.name, "none"), size=view.input.size, channels=view.input.channels)
        fresh.reset_classifier(fresh.module, outputs)
        module = fresh.module
    return module.eval()
