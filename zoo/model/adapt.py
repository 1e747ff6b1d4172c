"""Images of another size or with other channels than those that a backbone was pretrained on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from zoo.errors import ZooError
from zoo.model.channels import with_channels
from zoo.specs import BackboneView, InputSpec

_STEP = 32  # pixels: most networks halve the image five times
_PATCH = 8  # a first convolution with a stride this long cuts the image into patches

Size = int | tuple[int, int]


def adapt_input(
    view: BackboneView, *, size: Size | None = None, channels: int | Sequence[str] | None = None
) -> BackboneView:
    """Make a backbone take images of another size or with other channels, in place; one forward pass proves it.

    Args:
        view: a view whose module may be changed.
        size: height and width in pixels, or one number for both; None leaves them as they are.
        channels: how many there are, or their names in the order of the images' bands, of which red, green and blue (or
            r, g, b) get the kernels that were pretrained for them; None leaves them as they are.

    Returns:
        The view with its new input, and notes that say what was done.

    Raises:
        ZooError: the network cannot take such images; says why, and which sizes are near.
    """
    adapted = view if size is None else _with_size(view, _pair(size))
    if channels is not None:
        adapted = with_channels(adapted, channels)
    if adapted.input != view.input:
        _prove(adapted, view.input)
    return adapted


def read_input(text: str) -> InputSpec:
    """The input that a run states in JSON."""
    stated: dict[str, Any] = json.loads(text)
    return InputSpec(**stated | {key: tuple(value) for key, value in stated.items() if isinstance(value, list)})


def _pair(size: Size) -> tuple[int, int]:
    sides = (size, size) if isinstance(size, int) else size
    whole = isinstance(sides, list | tuple) and all(isinstance(side, int) and side is not True for side in sides)
    if not whole or len(sides) != 2:
        raise ZooError(f"a size is a number of pixels or (height, width), not {size!r}")
    height, width = sides
    if height < 1 or width < 1:
        raise ZooError(f"images of {height} x {width} pixels: a size is at least 1")
    return height, width


def _with_size(view: BackboneView, size: tuple[int, int]) -> BackboneView:
    old = view.input
    if size == old.size:
        return view
    said = f"images of {_pixels(size)}"
    if view.resize is not None:
        try:
            said = view.resize(view.module, size)
        except ValueError as error:
            raise ZooError(f"{view.name} cannot take images of {_pixels(size)}: {error}") from None
    elif old.fixed:
        raise ZooError(f"{view.name} takes images of {_pixels(old.size)} and of no other size")
    # The share of the resized image that the crop keeps stays what it was; a crop is never larger than the image.
    resize = max(*size, round(old.resize * min(size) / min(old.size)))
    note = f"{said}; it was made for {_pixels(old.size)}"
    return replace(view, input=replace(old, size=size, resize=resize), notes=(*view.notes, note))


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} pixels"


@torch.no_grad()
def _prove(view: BackboneView, old: InputSpec) -> None:
    """Two different images go through and give different features, or the error says so."""
    modes = [(module, module.training) for module in view.module.modules()]
    like = next(view.module.parameters())
    spec, feature = view.input, view.features[0]
    images = torch.linspace(-2, 2, 2 * spec.channels * spec.size[0] * spec.size[1]).reshape(2, -1, *spec.size)
    try:
        view.module.eval()
        features = view.extract(view.module, images.to(like), feature.name)
    except (RuntimeError, AssertionError, ValueError, IndexError, TypeError) as error:
        reason = str(error).split("\n")[0] or f"a check inside the network failed ({type(error).__name__})"
        raise ZooError(
            f"{view.name} cannot take images of {_pixels(spec.size)} with {spec.channels} channels: {reason}"
            f"{_near(view, old)}"
        ) from None
    finally:
        for module, mode in modes:
            module.training = mode
    if features.shape[0] != 2 or features.shape[-1] != feature.width:
        shape = tuple(features.shape)
        raise ZooError(f"{view.name} turns two images of {_pixels(spec.size)} into features of shape {shape}")
    if not features.is_meta and torch.equal(features[0], features[1]):
        raise ZooError(
            f"{view.name} gives two different images of {_pixels(spec.size)} the same features: nothing is left of so "
            f"small an image{_near(view, old)}"
        )


def _near(view: BackboneView, old: InputSpec) -> str:
    """Sizes close to the one asked for that are whole numbers of patches, where that was the trouble."""
    strides = [getattr(view.module.get_submodule(path), "stride", (1,))[0] for path in view.input_layers]
    step = max(strides) if strides and min(strides) >= _PATCH else _STEP
    if all(side % step == 0 for side in view.input.size):
        return f"; it was made for {_pixels(old.size)}"
    lower = tuple(max(step, side // step * step) for side in view.input.size)
    upper = tuple(-(-side // step) * step for side in view.input.size)
    near = " or ".join(dict.fromkeys((_pixels((lower[0], lower[1])), _pixels((upper[0], upper[1])))))
    return f"; try {near} (multiples of {step}); it was made for {_pixels(old.size)}"
