"""How what crosses a boundary is kept: one tensor a row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Packing:
    """One tensor keeps its shape, several are laid end to end.

    Images whose channels lie last in memory are kept so, because the network goes on in that layout.

    Attributes:
        shapes: of one row of each.
        turned: of each, whether (C, H, W) is kept as (H, W, C).
    """

    shapes: tuple[tuple[int, ...], ...]
    turned: tuple[bool, ...]

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> Packing:
        """For tensors (B, …) like these."""
        return cls(shapes=tuple(tuple(each.shape[1:]) for each in tensors), turned=tuple(map(_last, tensors)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one row as it is kept."""
        if len(self.shapes) > 1:
            return (sum(math.prod(shape) for shape in self.shapes),)
        return _kept(self.shapes[0], turned=self.turned[0])

    def pack(self, tensors: Sequence[Tensor]) -> Tensor:
        """Tensors (B, *shape) to rows."""
        kept = [
            each.movedim(1, -1).contiguous() if turned else each
            for each, turned in zip(tensors, self.turned, strict=True)
        ]
        return kept[0] if len(kept) == 1 else torch.cat([each.flatten(1) for each in kept], dim=1)

    def unpack(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Rows to tensors (B, *shape), without a copy."""
        parts: Sequence[Tensor] = [rows]
        if len(self.shapes) > 1:
            parts = torch.split(rows, [math.prod(shape) for shape in self.shapes], dim=1)
        found = []
        for part, shape, turned in zip(parts, self.shapes, self.turned, strict=True):
            whole = part.reshape(len(part), *_kept(shape, turned=turned))
            found.append(whole.movedim(-1, 1) if turned else whole)
        return tuple(found)


def _last(tensor: Tensor) -> bool:
    return tensor.ndim == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)


def _kept(shape: tuple[int, ...], *, turned: bool) -> tuple[int, ...]:
    return (*shape[1:], shape[0]) if turned else shape
