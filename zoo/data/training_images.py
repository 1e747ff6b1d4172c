"""The images of the training rows, for what learns from them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.data.images import Images
from zoo.specs import ImageRows


class TrainingImages:
    """Images of the training rows with their holes, read a few at a time; see `zoo.specs.TrainImages`.

    `zoo.data.splits.training_view` makes it; it gives no other rows.
    """

    def __init__(self, images: Images, rows: NDArray[np.int64]) -> None:
        self._images, self._rows = images, rows
        self.channels = images.spec.names
        self.size = images.spec.size
        self.dtype = "uint8" if images.store.dtype == torch.uint8 else "float32"
        self.zero = np.array(images.spec.zero, dtype=np.float64)

    def __len__(self) -> int:
        return len(self._rows)

    def batches(self, rows: int = 64) -> Iterator[ImageRows]:
        """All of them in the order of the rows, at most `rows` at a time."""
        for at in range(0, len(self._rows), rows):
            yield self._images.as_read(self._rows[at : at + rows])
