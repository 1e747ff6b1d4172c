"""What the loop feeds on: rows of features that are there already, or images on their way through a prefix."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from zoo.data.ingest import Images
from zoo.features.prefix import Prefix, normalise


class Inputs(Protocol):
    """Gives what crosses the boundary, for any rows of the table."""

    def take(self, rows: Tensor, epoch: int | None = None) -> tuple[Tensor, ...]:
        """Tensors (B, …) on the training device for int64 positions (B,) in the table.

        In training `epoch` counts from 0 and chooses the augmented view of each row; None means the image as it is.
        """
        ...


class CachedFeatures:
    """Features (N, width) or (N, tokens, width) computed before training; `positions` maps rows of the table to them.

    They stay in the precision in which they were computed; each batch is converted when it is taken.
    """

    def __init__(self, features: Tensor, positions: Tensor, device: torch.device) -> None:
        self._features = features.to(device)
        self._positions = positions.to(device)

    def take(self, rows: Tensor, epoch: int | None = None) -> tuple[Tensor, ...]:
        """Features (B, width) or (B, tokens, width), float32."""
        return (self._features[self._positions[rows.to(self._features.device)]].float(),)


class LiveFeatures:
    """Features computed again each time a row is seen: what training without the cache does."""

    def __init__(self, prefix: Prefix, images: Images) -> None:
        self._prefix = prefix
        self._images = images

    def take(self, rows: Tensor, epoch: int | None = None) -> tuple[Tensor, ...]:
        """Features (B, width) or (B, tokens, width), float32."""
        # Cloned, because what inference mode makes cannot be saved for a backward pass.
        return (self._prefix(self._images.pixels(rows)).float().clone(),)


class Pixels:
    """Normalised images, for a backbone of which a part trains."""

    def __init__(self, images: Images, device: torch.device, *, channels_last: bool) -> None:
        self._images = images
        self._device = device
        self._layout = torch.channels_last if channels_last else torch.contiguous_format

    def take(self, rows: Tensor, epoch: int | None = None) -> tuple[Tensor, ...]:
        """Images (B, C, H, W), float32."""
        pixels = self._images.pixels(rows)
        if self._device.type == "cuda":
            pixels = pixels.pin_memory()
        pixels = pixels.to(self._device, non_blocking=True)
        return (normalise(pixels, self._images.spec).to(memory_format=self._layout),)
