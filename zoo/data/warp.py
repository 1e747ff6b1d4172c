"""What augmentation does to a batch of pixels, each image as it would be in a batch of any other size."""

from __future__ import annotations

import functools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

WINDOWS = 2**20
"""Places at which an image's noise may start in the bank; exact in float32."""


def warp(values: Tensor, maps: Tensor) -> Tensor:
    """Values (B, C, H, W) float32 from where `maps` say: bilinear, reflected at the border.

    Args:
        values: of any range.
        maps: float32 (B, 6), the two rows of an affine map of (x, y, 1), from where a pixel comes to lie to where it
            comes from; x and y run over [-1, 1] from border to border.
    """
    return F.grid_sample(
        values, _grid(maps, *values.shape[2:]), mode="bilinear", padding_mode="reflection", align_corners=False
    )


def means(values: Tensor) -> Tensor:
    """The mean of each image (B, C, H, W) of whole numbers, float32 (B,).

    The sums are exact, so that their order, which changes with the batch, does not matter: rows in float32, which is
    fast and holds whole numbers up to 2^24, all of them in float64.
    """
    rows = values.sum(dim=3)
    return (rows.double().sum(dim=(1, 2)) / values[0].numel()).float()


def _grid(maps: Tensor, height: int, width: int) -> Tensor:
    """Where each pixel comes from, float32 (B, H, W, 2), by maps (B, 6).

    Not `affine_grid`, whose matrix product rounds otherwise in a batch of another size.
    """
    x = (torch.arange(width, device=maps.device) * 2 + 1 - width) / width
    y = (torch.arange(height, device=maps.device) * 2 + 1 - height) / height
    by_x = maps[:, 0:6:3].view(-1, 1, 1, 2) * x.view(1, 1, -1, 1)
    by_y = maps[:, 1:6:3].view(-1, 1, 1, 2) * y.view(1, -1, 1, 1) + maps[:, 2:6:3].view(-1, 1, 1, 2)
    return by_x + by_y


def noise(windows: Tensor, shape: torch.Size) -> Tensor:
    """Standard normal float32 (B, C, H, W), on the device of `windows`, float32 (B,), which say where each starts.

    The numbers come from a bank that is always the same: taking them costs a copy, where a hash costs many operations
    on each pixel, and a generator of the device would give each device other pixels.
    """
    return _bank(shape[1:].numel(), windows.device)[windows.long()].view(shape)


@functools.lru_cache(maxsize=4)
def _bank(count: int, device: torch.device) -> Tensor:
    """Every `count` neighbours of one row of standard normal numbers, (WINDOWS, count) in the memory of the row."""
    numbers = np.random.Generator(np.random.Philox(0)).standard_normal(count + WINDOWS - 1, dtype=np.float32)
    return torch.from_numpy(numbers).to(device).unfold(0, count, 1)
