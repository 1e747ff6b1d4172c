"""Images with other channels than red, green and blue: the pretrained kernels of the first convolutions, mixed anew.

timm alone tiles the kernels R, G, B, R, … over the channels whatever these are, so that bands in the order blue, green,
red are read with red and blue swapped, and a fourth band as a second red one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from zoo.errors import ZooError
from zoo.specs import BackboneView, Stage

_COLOURS = {"red": 0, "r": 0, "green": 1, "g": 1, "blue": 2, "b": 2}
_NAMES = ("red", "green", "blue")
PLAIN = "plain_convolutions"
"""Under this name the header of a run states what `plain_convolutions` gives."""

_COUNTS = ("in_chans", "in_channels", "in_chs")  # where libraries keep the number of channels beside the convolution


def with_channels(view: BackboneView, channels: int | Sequence[str]) -> BackboneView:
    """The view with `channels` input channels; its convolutions are changed in place.

    Red, green and blue channels keep their own pretrained kernels, mean and deviation; any other channel gets the mean
    of the three. Unless the channels are red, green and blue in some order, all kernels are scaled by 3 / channels. An
    image with one value in every channel then gives the response that it gave before, where red, green and blue are all
    among the channels or none of them is; with one or two of them it does not, because their own kernels weigh more.

    Raises:
        ZooError: the number or the names make no sense, or the network has no convolution that reads three channels.
    """
    slots, said = _slots(channels)
    old, count = view.input.channels, _channels(len(slots))
    if len(slots) == old and (isinstance(channels, int) or slots == (0, 1, 2)):
        return view
    if old != len(_NAMES):
        raise ZooError(f"{view.name} reads {_channels(old)}; only networks of red, green and blue can be given others")
    if not view.input_layers:
        raise ZooError(
            f"{view.name} reads its image by no convolution that is known, so it takes red, green and blue alone"
        )
    # Rows are the new channels, columns the colours.
    rows = [[1 / 3] * 3 if slot is None else [float(slot == colour) for colour in range(3)] for slot in slots]
    mixing = torch.tensor(rows, dtype=torch.float64)
    reordered = sorted(slots, key=str) == [0, 1, 2]
    scale = 1.0 if reordered else 3 / len(slots)
    for path in view.input_layers:
        _mix(view, path, mixing * scale, reordered=reordered)
        _tell_owners(view.module, path, len(slots))
    mean, std = (
        tuple(math.fsum(part * value for part, value in zip(row, values, strict=True)) for row in rows)
        for values in (view.input.mean, view.input.std)
    )
    scaled = "" if scale == 1 else f"; kernels scaled by 3/{len(slots)}"
    note = f"{', '.join(view.input_layers)} reads {count}: {said}{scaled}"
    spec = replace(view.input, mean=mean, std=std)
    return replace(view, input=spec, stages=_stages(view), notes=(*view.notes, note))


def _channels(count: int) -> str:
    return f"{count} channel{'' if count == 1 else 's'}"


def _slots(channels: int | Sequence[str]) -> tuple[tuple[int | None, ...], str]:
    """By channel, the colour that it is or None, and what is done in words."""
    if isinstance(channels, int) and not isinstance(channels, bool):
        if channels < 1:
            raise ZooError(f"an image with {channels} channels: there is at least one")
        return (None,) * channels, "each by the mean of the pretrained red, green and blue kernels"
    if not isinstance(channels, list | tuple) or not all(isinstance(name, str) for name in channels):
        raise ZooError(f"channels are a number or a list of names, such as ['red', 'nir'], not {channels!r}")
    names = [str(name).lower() for name in channels]
    slots = tuple(_COLOURS.get(name) for name in names)
    same = [_NAMES[slot] if slot is not None else name for slot, name in zip(slots, names, strict=True)]
    if not names or "" in names:
        raise ZooError("channels: name at least one, and leave no name empty")
    if len(set(same)) != len(same):
        raise ZooError(f"a channel is named twice: {', '.join(names)}")
    own = ", ".join(name for name, slot in zip(names, slots, strict=True) if slot is not None)
    other = ", ".join(name for name, slot in zip(names, slots, strict=True) if slot is None)
    parts = [f"{own} by the pretrained kernels of that colour"] if own else []
    parts += [f"{other} by the mean of the three"] if other else []
    return slots, ", ".join(parts)


@torch.no_grad()
def _mix(view: BackboneView, path: str, mixing: Tensor, *, reordered: bool) -> None:
    layer = view.module.get_submodule(path)
    if not isinstance(layer, nn.Conv2d) or layer.groups != 1 or layer.in_channels != mixing.shape[1]:
        raise ZooError(f"{view.name}: {path} is no convolution of three channels, so it cannot be given others")
    used = _used(layer)
    # A kernel whose channels only change places is standardised to the same as before.
    if used.kernel is not layer.weight and not reordered:
        view.module.set_submodule(path, _plain(layer, used, mixing))
        return
    # In place, so that whatever else the convolution's own class does, such as padding, stays.
    layer.weight = nn.Parameter(_mixed(layer.weight, mixing), requires_grad=layer.weight.requires_grad)
    layer.in_channels = len(mixing)


def _mixed(kernel: Tensor, mixing: Tensor) -> Tensor:
    mixed = torch.einsum("cj,ojhw->ochw", mixing.to(kernel.device), kernel.double())
    return mixed.to(kernel.dtype).contiguous()  # einsum gives a view of another order, which torch.export warns of


class _Used(TorchFunctionMode):
    """What a convolution layer hands to torch: it may have padded the image and computed its kernel."""

    kernel: Tensor
    image: Tensor

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.conv2d:
            self.image, self.kernel = args[:2]
        return func(*args, **(kwargs or {}))


def _used(layer: nn.Conv2d) -> _Used:
    # At an odd side larger than the kernel every way of padding to the same size has something to pad.
    image = torch.zeros(1, layer.in_channels, 65, 65, device=layer.weight.device, dtype=layer.weight.dtype)
    used = _Used()
    with used:
        layer(image)
    return used


class SameConv2d(nn.Conv2d):
    """A convolution that pads as TensorFlow's SAME does: as many outputs as inputs over stride, rounded up."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  torch's name
        """(B, C, H, W) to (B, out, ceil(H / stride), ceil(W / stride))."""
        pads: list[int] = []
        for axis in (1, 0):
            side, kernel, stride = input.shape[2 + axis], self.kernel_size[axis], self.stride[axis]
            pad = max(0, (math.ceil(side / stride) - 1) * stride + (kernel - 1) * self.dilation[axis] + 1 - side)
            pads += [pad // 2, pad - pad // 2]
        return super().forward(F.pad(input, pads))


def _plain(layer: nn.Conv2d, used: _Used, mixing: Tensor) -> nn.Conv2d:
    """A convolution with a kernel of its own, in place of one that standardises its kernel at every step.

    Standardised anew, the mixed kernel would lose its scale: one that tells red from green mixes to almost nothing, and
    would come back as large as any other.
    """
    like = layer.weight
    kind = nn.Conv2d if used.image.shape[-1] == 65 else SameConv2d
    plain = kind(
        len(mixing),
        layer.out_channels,
        layer.kernel_size,  # type: ignore[arg-type]
        stride=layer.stride,  # type: ignore[arg-type]
        padding=layer.padding,  # type: ignore[arg-type]
        dilation=layer.dilation,  # type: ignore[arg-type]
        bias=layer.bias is not None,
        device=like.device,
        dtype=like.dtype,
    )
    plain.weight.copy_(_mixed(used.kernel, mixing))
    plain.weight.requires_grad_(like.requires_grad)
    if layer.bias is not None:
        plain.bias = layer.bias
    return plain.train(layer.training)


def plain_convolutions(view: BackboneView) -> list[str]:
    """Those input layers that compute with their own kernel as it is; a run states them, for `with_plain`."""
    return [path for path in view.input_layers if type(view.module.get_submodule(path)) in (nn.Conv2d, SameConv2d)]


def plain_in(path: Path) -> list[str]:
    """What the run whose file or folder this is states of its plain convolutions; nothing where it is no run's."""
    path = path.expanduser()
    try:
        with safe_open(path / "model.safetensors" if path.is_dir() else path, framework="pt") as file:
            return stated_plain(file.metadata() or {})
    except (SafetensorError, OSError):
        return []  # whoever reads the tensors says what is wrong with it


def stated_plain(header: Mapping[str, str]) -> list[str]:
    """What the header of a run states of its plain convolutions; the first releases state nothing."""
    stated: list[str] = json.loads(header.get(PLAIN, "[]"))
    return stated


@torch.no_grad()
def with_plain(view: BackboneView, paths: Sequence[str]) -> BackboneView:
    """The view with a plain convolution in the place of each of these that standardises its kernel, changed in place.

    A network that was made for three other channels than red, green and blue has them, and its file alone does not show
    it: a standardising convolution holds tensors of the same names and shapes.
    """
    for path in paths:
        layer = view.module.get_submodule(path) if path in view.input_layers else None
        if isinstance(layer, nn.Conv2d) and (used := _used(layer)).kernel is not layer.weight:
            same = torch.eye(layer.in_channels, dtype=torch.float64)
            view.module.set_submodule(path, _plain(layer, used, same))
    return replace(view, stages=_stages(view))


def _tell_owners(module: nn.Module, path: str, count: int) -> None:
    while path:
        path = path.rpartition(".")[0]
        owner = module.get_submodule(path)
        for name in _COUNTS:
            if getattr(owner, name, None) == len(_NAMES):
                setattr(owner, name, count)


def _stages(view: BackboneView) -> tuple[Stage, ...]:
    """The stages without parameters that a plain convolution has no use for."""
    held = {name for name, _ in view.module.named_parameters()}
    return tuple(
        replace(stage, parameters=tuple(name for name in stage.parameters if name in held)) for stage in view.stages
    )
