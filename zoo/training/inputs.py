"""What the loop feeds on: rows of features that are there already, or images on their way through a prefix."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.data.hashing import hashed, salt
from zoo.features.extract import Kept

Tensors = tuple[Tensor, ...]


class Inputs(Protocol):
    """Gives what crosses the boundary, for any rows of the table. Inherit from it to get `batches`."""

    def take(self, rows: Tensor, epoch: int | None = None) -> Tensors:
        """Tensors (B, …) on the training device for int64 positions (B,) in the table.

        In training `epoch` counts from 0 and chooses the augmented view of each row; None means the image as it is.
        """
        ...

    def batches(self, parts: Sequence[Tensor], epoch: int | None = None) -> Generator[Tensors, None, None]:
        """What `take` gives for each part, in order; whoever stops early closes it."""
        for rows in parts:
            yield self.take(rows, epoch)


class Staged(Inputs, Protocol):
    """Inputs taken in two steps, of which the first may run ahead in another thread."""

    @property
    def device(self) -> torch.device:
        """Where `finish` works."""
        ...

    def gather(self, rows: Tensor, epoch: int | None) -> Tensors:
        """What is read for `rows`, tensors (B, …) on the CPU; touches neither the device nor any random state."""
        ...

    def finish(self, gathered: Tensors, rows: Tensor, epoch: int | None) -> Tensors:
        """What `take` promises, from what `gather` gave for the same rows, on the CPU still or on the device."""
        ...

    def take(self, rows: Tensor, epoch: int | None = None) -> Tensors:
        """Both steps."""
        return self.finish(self.gather(rows, epoch), rows, epoch)


def views_of(rows: Tensor, epoch: int, count: int | None, seed: int) -> NDArray[np.int64]:
    """Which view each row shows in this epoch, int64 (B,).

    With `count` views a row starts at one that depends on (seed, row) and goes round, so that in each `count` epochs
    it shows each of its views once; without, every epoch is a view of its own.
    """
    numbers = rows.cpu().numpy().astype(np.int64)
    if count is None:
        return np.full(len(numbers), epoch, dtype=np.int64)
    first = hashed(salt(seed, "first view"), numbers.astype(np.uint64)) % np.uint64(count)
    return (first.astype(np.int64) + epoch) % count


class CachedFeatures(Inputs):
    """Features computed before training, as images are and, where there is augmentation, of several views.

    They stay in the precision in which they were computed; each batch is converted when it is taken.

    Args:
        features: of images as they are, what crosses the boundary, each (N, …).
        positions: int64, one for each row of the table: where its features are, -1 where there are none.
        device: where they are kept.
        views: the same of each view, M rows each; all in one block of memory, so that let go of them afterwards.
            Without them training sees images as they are.
        view_positions: as `positions`, in the views; by default the same.
        seed: decides which view a row starts with.
        dtype: what floating-point features are converted to.

    Raises:
        ValueError: views that differ in shape.
    """

    def __init__(
        self,
        features: Tensor | Tensors,
        positions: Tensor,
        device: torch.device,
        *,
        views: Sequence[Tensor | Tensors] = (),
        view_positions: Tensor | None = None,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._plain = tuple(part.to(device) for part in _tuple(features))
        self._views = _joined([_tuple(view) for view in views], device)
        # On the CPU, where rows are chosen: finding out that a row is missing must not wait for the device.
        self._positions = positions.cpu()
        self._view_positions = self._positions if view_positions is None else view_positions.cpu()
        self._rows = len(_tuple(views[0])[0]) if views else 0
        self._count, self._seed, self._dtype, self._device = len(views), seed, dtype, device

    def take(self, rows: Tensor, epoch: int | None = None) -> Tensors:
        """Features, each (B, …), floating-point ones in the dtype asked for.

        Raises:
            ValueError: a row without features, or without views in training.
        """
        rows = rows.cpu()
        if epoch is None or not self._count:
            at = _at(rows, self._positions, "features").to(self._device)
            return tuple(self._taken(part, at) for part in self._plain)
        at = _at(rows, self._view_positions, "views")
        at += torch.from_numpy(views_of(rows, epoch, self._count, self._seed)) * self._rows
        at = at.to(self._device)
        return tuple(self._taken(part, at) for part in self._views)

    def _taken(self, part: Tensor, at: Tensor) -> Tensor:
        found = part.index_select(0, at)
        return found.to(self._dtype) if found.is_floating_point() else found


def _at(rows: Tensor, positions: Tensor, kind: str) -> Tensor:
    """Where the features of rows of the table are.

    Raises:
        ValueError: a row has none.
    """
    at = positions[rows]
    if (at < 0).any():
        raise ValueError(f"row {int(rows[at < 0][0])} has no {kind}")
    return at


def _tuple(features: Tensor | Tensors) -> Tensors:
    return (features,) if isinstance(features, Tensor) else features


def _joined(views: Sequence[Tensors], device: torch.device) -> Tensors:
    """For each tensor of a view, those of all views one behind the other, (V * M, …) on `device`."""
    shapes = {tuple(tuple(part.shape) for part in view) for view in views}
    if len(shapes) > 1:
        raise ValueError(f"views differ in shape: {' and '.join(str(list(shape)) for shape in sorted(shapes))}")
    blocks: list[Tensor] = []
    for parts in zip(*views, strict=True):
        rows = len(parts[0])
        block = torch.empty((len(views) * rows, *parts[0].shape[1:]), dtype=parts[0].dtype, device=device)
        for number, part in enumerate(parts):  # not `cat`, which needs all of them on the device beside the block
            block[number * rows : (number + 1) * rows].copy_(part)
        blocks.append(block)
    return tuple(blocks)


class StoredFeatures(Staged):
    """Features that stay on disk, mapped into memory, for data larger than it; as `CachedFeatures` otherwise.

    Args:
        features: of images as they are.
        positions: int64, one for each row of the table: where its features are, -1 where there are none.
        device: where training is.
        views: the same of each view. Without them training sees images as they are.
        view_positions: as `positions`, in the views.
        seed: decides which view a row starts with.
        dtype: what floating-point features are converted to.
    """

    def __init__(
        self,
        features: Kept,
        positions: Tensor,
        device: torch.device,
        *,
        views: Sequence[Kept] = (),
        view_positions: Tensor | None = None,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._plain, self._views = features, tuple(views)
        self._positions = positions.cpu()
        self._view_positions = self._positions if view_positions is None else view_positions.cpu()
        self._device, self._seed, self._dtype = device, seed, dtype

    @property
    def device(self) -> torch.device:
        """Where training is."""
        return self._device

    def gather(self, rows: Tensor, epoch: int | None) -> Tensors:
        """Features of `rows`, (B, …) on the CPU, page-locked where they go to a GPU."""
        if epoch is None or not self._views:
            found = self._plain.gather(_at(rows, self._positions, "features").numpy())
        else:
            at = _at(rows, self._view_positions, "views").numpy()
            chosen = views_of(rows, epoch, len(self._views), self._seed)
            found = torch.empty((len(at), *self._plain.store.shape), dtype=self._plain.store.dtype)
            for number in np.unique(chosen):
                own = np.flatnonzero(chosen == number)
                found[torch.from_numpy(own)] = self._views[number].gather(at[own])
        return (found.pin_memory() if self._device.type == "cuda" else found,)

    def finish(self, gathered: Tensors, rows: Tensor, epoch: int | None) -> Tensors:
        """Features (B, …) on the device, floating-point ones in the dtype asked for."""
        del rows, epoch
        moved = gathered[0].to(self._device, non_blocking=True)
        return (moved.to(self._dtype) if moved.is_floating_point() else moved,)
