"""Tensors of which each process holds some rows alone, and the same tensors whole.

They are torch's `DTensor`, whose module takes half a second to import: it is asked for where somebody has made one.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def is_divided(value: Any) -> TypeGuard[DTensor]:
    """Whether this process holds only some rows of it."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(value, module.DTensor)


def whole(tensor: Tensor) -> Tensor:
    """The tensor with the rows of all processes, each of which calls this; one that is not divided, itself."""
    return tensor.full_tensor() if is_divided(tensor) else tensor


def own_rows(tensor: Tensor) -> Tensor:
    """The rows that this process holds, in the same memory; all of a tensor that is not divided."""
    return tensor.to_local() if is_divided(tensor) else tensor


@torch.no_grad()
def put(into: Tensor, tensor: Tensor) -> None:
    """Copy a whole tensor, the same in every process, into one that may be divided; asks no other process."""
    own_rows(into).copy_(own_rows(divided_as(into, tensor)))


def divided_as(like: Tensor, tensor: Tensor) -> Tensor:
    """A whole tensor, the same in every process, divided as `like` is; itself where that is not divided."""
    if not is_divided(like) or is_divided(tensor):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    # Without a source every process takes its rows of what it has.
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
