"""Activation checkpointing: blocks that train keep their input alone, and compute the rest again when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from zoo.specs import BackboneView, block_modules


@contextmanager
def recomputing(view: BackboneView, trainable: Collection[str]) -> Iterator[int]:
    """Inside, each block with a trainable parameter is computed twice in training (Chen et al. 2016); gives how many.

    Random draws such as dropout are the same the second time. Not for BatchNorm whose statistics move: they would move
    twice.

    Args:
        view: of the backbone.
        trainable: names of its trainable parameters.
    """
    names = [name for name, own in block_modules(view).items() if any(each in trainable for each in own)]
    modules = [view.module.get_submodule(name) for name in names]
    held = [vars(module).get("forward") for module in modules]
    for module in modules:
        module.forward = partial(_twice, module.forward)
    try:
        yield len(modules)
    finally:
        for module, own in zip(modules, held, strict=True):
            if own is None:
                del module.forward
            else:
                module.forward = own


def _twice(forward: Callable[..., Any], *given: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*given, **named)
    return checkpoint(forward, *given, use_reentrant=False, **named)
