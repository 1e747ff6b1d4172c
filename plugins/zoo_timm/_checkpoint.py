"""Checkpoints as the authors of an architecture published them, under timm's names."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from inspect import signature
from typing import Any

import timm
from torch import Tensor, nn

from zoo_timm._classifier import classifier_paths

_FILTERS = ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained", "pretrained_filter_fn")


def convert(module: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with the names and shapes of `module`, by timm's own filter for its architecture.

    Where the architecture has no filter they stay as they are.
    """
    architecture = str(module.pretrained_cfg["architecture"])  # type: ignore[index]
    # Where the architecture is defined, not its class: a hybrid is a VisionTransformer with a filter of its own.
    home = import_module(timm.model_entrypoint(architecture).__module__)
    kind = "classifier" if classifier_paths(module) else "encoder"
    names = (*_FILTERS, f"checkpoint_filter_fn_{kind}")
    function: Any = next((getattr(home, name) for name in names if hasattr(home, name)), None)
    if function is None:
        return tensors
    known = signature(function).parameters
    options: dict[str, Any] = {}
    if "adapt_layer_scale" in known:  # DeiT-III calls gamma_1 what others call ls1.gamma
        options["adapt_layer_scale"] = any(".gamma_" in name for name in tensors)
    with quiet():
        return dict(function(tensors, module, **options) if len(known) > 1 else function(tensors))


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings of torch about how timm interpolates its tables; the user can do nothing about them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield
