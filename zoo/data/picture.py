"""Images of any bands and units as pictures for people."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.specs import InputSpec

_COLOURS = ("red", "green", "blue")


def picture_of(pixels: Tensor, spec: InputSpec) -> Tensor:
    """Red, green and blue where they are all among the channels, else the first one as grey; uint8 (3, H, W).

    Raw units are stretched so that black is the mean less two deviations of the channel, and white the mean plus two.

    Args:
        pixels: of one image in raw units, (C, H, W).
        spec: of the images.
    """
    names = spec.names
    chosen = [names.index(name) for name in _COLOURS] if set(_COLOURS) <= set(names) else [0, 0, 0]
    shown = pixels[chosen].float()
    if spec.full != 255.0:
        mean, std = (torch.tensor(each)[chosen].view(-1, 1, 1) for each in (spec.zero, spec.spread))
        shown = (shown - mean) / (4 * std) * 255.0 + 127.5
    return shown.round().clamp(0, 255).to(torch.uint8)
