"""Pixels read part by part, each while the part before it is computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.data.images import Images


def split_rows(rows: NDArray[np.int64], batch: int) -> list[NDArray[np.int64]]:
    """Parts of so many rows, the last one perhaps of fewer."""
    return np.split(rows, range(batch, len(rows), batch)) if len(rows) else []


def read_ahead(
    images: Images, parts: Sequence[NDArray[np.int64]], device: torch.device
) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
    """Each part's rows and pixels on the device, read while the part before it is computed."""

    def read(rows: NDArray[np.int64]) -> Tensor:
        pixels = images.pixels(rows)
        return pixels.pin_memory() if device.type == "cuda" else pixels

    with ThreadPoolExecutor(1, thread_name_prefix="zoo-read") as pool:
        reading = [pool.submit(read, rows) for rows in parts[:1]]
        for number, rows in enumerate(parts, 1):
            pixels = reading.pop().result()
            reading += [pool.submit(read, later) for later in parts[number : number + 1]]
            yield rows, pixels.to(device, non_blocking=True)
