"""How images enter a timm network: their preparation, the convolutions that read them, and other sizes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import timm
import torch
from timm.data import config as data_config
from torch import nn

from zoo.specs import InputSpec
from zoo_timm._checkpoint import convert, quiet

Resize = Callable[[nn.Module, tuple[int, int]], str]

# timm's configurations call these fixed, but nothing in them depends on the size.
_ANY_SIZE = ("Sequencer2d", "SwiftFormer", "Twins", "Xcit")

# Without `set_input_size`; built anew for another size they take the old state through timm's filter, which
# interpolates the positions.
_REBUILT = ("CoaT", "MultiScaleVit", "TNT")


def input_of(module: nn.Module) -> tuple[InputSpec, tuple[str, ...]]:
    """How images are prepared, and what has to be said about it."""
    resolve: Any = data_config.resolve_model_data_config
    cfg: dict[str, Any] = resolve(module)
    channels, height, width = cfg["input_size"]
    # What the user built the network for stands above what its weights were made for.
    channels = getattr(module, "in_chans", channels)
    height, width = getattr(getattr(module, "patch_embed", None), "img_size", None) or (height, width)
    mode = cfg.get("crop_mode") or "center"
    notes = () if mode in ("center", "squash") else (f"timm crops it {mode!r}; here it is cropped to its center",)
    spec = InputSpec(
        size=(height, width),
        resize=max(height, width, math.floor(min(height, width) / (cfg.get("crop_pct") or 1.0))),
        mean=_per_channel(cfg["mean"], channels),
        std=_per_channel(cfg["std"], channels),
        interpolation=cfg["interpolation"],
        crop="squash" if mode == "squash" else "center",
        fixed=_fixed(module),
    )
    return spec, notes


def _per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """One value a channel; the mean of all where the network has another number of channels than timm pretrained."""
    values = tuple(float(value) for value in values)
    return values if len(values) == channels else (sum(values) / len(values),) * channels


def _fixed(module: nn.Module) -> bool:
    """Whether the network as it stands takes images of one size alone."""
    cfg: Any = module.pretrained_cfg
    if not cfg.get("fixed_input_size", False) or getattr(module, "dynamic_img_size", False):
        return False
    strict = getattr(getattr(module, "patch_embed", None), "strict_img_size", True)  # off in SAM, which interpolates
    # CLIP's ResNets interpolate the positions of the attention that pools them.
    pools = isinstance(getattr(getattr(module, "head", None), "pos_embed", None), torch.Tensor)
    return strict and not pools and type(module).__name__ not in _ANY_SIZE


def input_layers(module: nn.Module) -> tuple[str, ...]:
    """Paths of the convolutions that read the image's channels; empty where timm names none, or none that does."""
    cfg: Any = module.pretrained_cfg
    named = cfg.get("first_conv") or ()
    paths = (named,) if isinstance(named, str) else tuple(named)
    held = dict(module.named_modules())
    channels = len(cfg.get("mean") or (0,) * 3)
    channels = getattr(module, "in_chans", channels)
    for path in paths:
        layer = held.get(path)
        # TResNet's first convolution reads 4 x 4 pixels as 48 channels, and others read patches by a linear layer.
        if not isinstance(layer, nn.Conv2d) or layer.groups != 1 or layer.in_channels != channels:
            return ()
    return paths


def resize_of(module: nn.Module) -> Resize | None:
    """The function that gives the network another input size; None where there is none, or where none is needed."""
    if hasattr(module, "set_input_size"):
        return _set_size
    return _rebuild if type(module).__name__ in _REBUILT else None


def _set_size(module: nn.Module, size: tuple[int, int]) -> str:
    before = _shapes(module)
    options: dict[str, Any] = {}
    if type(module).__name__ in ("SwinTransformer", "SwinTransformerV2"):
        # Left to itself timm makes the windows grow with the image and interpolates every table of positions; with the
        # windows that were pretrained, the tables stay, as they do in `timm.create_model(img_size=…)`.
        options["window_size"] = module.layers[0].blocks[0].window_size  # type: ignore[union-attr, index]
    try:
        with quiet():
            module.set_input_size(img_size=size, **options)  # type: ignore[operator]
    except (AssertionError, RuntimeError, TypeError) as error:
        raise ValueError(f"timm says {error}") from None
    return _said(module, size, before)


def _rebuild(module: nn.Module, size: tuple[int, int]) -> str:
    before = _shapes(module)
    cfg: Any = module.pretrained_cfg
    like = next(module.parameters())
    options: dict[str, Any] = {"img_size": size, "num_classes": module.num_classes}
    for path in input_layers(module):
        options["in_chans"] = module.get_submodule(path).in_channels
    try:
        with torch.device(like.device):
            new: nn.Module = timm.create_model(cfg["architecture"], pretrained_cfg=dict(cfg), **options)
        new.load_state_dict(convert(new, module.state_dict()))
    except (AssertionError, RuntimeError, TypeError) as error:
        raise ValueError(f"timm says {str(error).splitlines()[0]}") from None
    new.to(like.dtype).train(module.training)
    # The user holds this module: it becomes the new one, whose class is the same.
    module.__dict__.clear()
    module.__dict__.update(new.__dict__)
    return _said(module, size, before)


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.named_parameters()}


def _said(module: nn.Module, size: tuple[int, int], before: dict[str, tuple[int, ...]]) -> str:
    changed = [(name, before[name], shape) for name, shape in _shapes(module).items() if shape != before[name]]
    said = f"images of {size[0]} x {size[1]} pixels"
    if not changed:
        return f"{said}: no table of positions had to change"
    name, old, new = changed[0]
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return f"{said}: positions were interpolated, {name} from {old} to {new}{more}"
