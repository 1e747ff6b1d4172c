"""The frozen prefix as fast as it may be: eval mode, BatchNorm folded, a memory layout, a dtype, inference mode."""

from __future__ import annotations

import copy
import functools
import hashlib
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import IntegrityError
from zoo.features.fold import find_foldable, fold
from zoo.model.freeze import digest_tensor, named_tensors
from zoo.registry.digest import package_digest
from zoo.registry.lookup import SOURCES
from zoo.registry.tables import library_version
from zoo.specs import BackboneView, InputSpec

PREFIX_VERSION = 1
"""Raised when the arithmetic of a prefix changes, so that features of older releases are not taken for its own."""

FOLD_TOLERANCE = 1e-3
"""Relative error above which a folded network is not taken for the same as the one it was made from."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a prefix computes.

    Attributes:
        precision: `fp32` or `bf16`, of weights, activations and stored features.
        channels_last: memory layout of convolutions.
        fold: whether BatchNorm is folded where that may be done.
    """

    precision: str = "fp32"
    channels_last: bool = False
    fold: bool = True

    def __str__(self) -> str:
        layout = "channels_last" if self.channels_last else "contiguous"
        return f"{self.precision}, {layout}, {'folded' if self.fold else 'not folded'}"


def normalise(images: Tensor, spec: InputSpec, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 images (B, C, H, W) to normalised ones of `dtype`; computed in float32, on the images' device."""
    mean = torch.tensor(spec.mean, device=images.device).view(1, -1, 1, 1) * 255.0
    std = torch.tensor(spec.std, device=images.device).view(1, -1, 1, 1) * 255.0
    return ((images.float() - mean) / std).to(dtype)


def weights_digest(module: nn.Module) -> str:
    """Hash of every parameter and buffer with its name, those too that are not saved."""
    total = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(named_tensors(module).items()):
        total.update(f"{name}:{digest_tensor(tensor)};".encode())
    return total.hexdigest()


def _code_of(backbone: str) -> dict[str, list[str]]:
    """By plugin that offers the backbone's source: its version, its code, and its library with the library's version.

    Empty for a network that no plugin offers: then its name and its weights are all that is known.
    """
    distribution, _, source = backbone.rpartition("/")[0].rpartition(":")
    return {
        f"{plugin.distribution}:{plugin.name}": [
            plugin.version,
            package_digest(plugin.module.partition(".")[0], without=record.table),
            *library_version(record, plugin.distribution),
        ]
        for plugin, record in SOURCES.items()
        if record.name == source and distribution in ("", plugin.distribution)
    }


class Prefix:
    """A frozen copy of a whole backbone, from uint8 images to features; the original is not touched.

    Attributes:
        recipe: how it computes.
        folded: number of normalisations folded.
        norms: number of normalisations with running statistics that there were.
        width: numbers per image, or per token where the kind is `tokens`.
    """

    def __init__(self, view: BackboneView, kind: str, recipe: Recipe, device: torch.device) -> None:
        self.name = view.name
        self.recipe = recipe
        self.spec = view.input
        self.kind = kind
        self.device = device
        self.width = view.feature(kind).width
        self.dtype = DTYPES[recipe.precision]
        self._extract = view.extract
        self._module = copy.deepcopy(view.module).eval().requires_grad_(False).to(device)
        self.norms = sum(isinstance(getattr(m, "running_mean", None), Tensor) for m in self._module.modules())
        self.folded = self._fold() if recipe.fold and self.norms else 0
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self._layout = layout
        self._module.to(self.dtype).to(memory_format=layout)

    @functools.cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image's features: (width,) or (tokens, width), the number of tokens found by asking."""
        if self.kind != "tokens":
            return (self.width,)
        blank = torch.zeros((1, self.spec.channels, *self.spec.size), dtype=torch.uint8)
        return tuple(self(blank).shape[1:])

    def _example(self) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        shape = (2, self.spec.channels, *self.spec.size)
        return torch.randn(shape, generator=generator).to(self.device)

    def _fold(self) -> int:
        example = self._example()
        # TF32 rounds to three digits, about what the check allows.
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
            before = self._extract(self._module, example, self.kind)
        pairs = find_foldable(self._module, lambda module: self._extract(module, example, self.kind))
        if not pairs:
            return 0
        count = fold(self._module, pairs)
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
            after = self._extract(self._module, example, self.kind)
        error = float((after - before).norm() / before.norm().clamp_min(1e-12))
        if not error <= FOLD_TOLERANCE:
            raise IntegrityError(
                f"folding {count} normalisations changed the features by {error:.1e}; nothing was kept"
            )
        return count

    def __call__(self, images: Tensor) -> Tensor:
        """Features (B, *shape) of the prefix's dtype, on its device, from uint8 images (B, C, H, W)."""
        with torch.inference_mode():
            ready = normalise(images.to(self.device, non_blocking=True), self.spec, self.dtype)
            features = self._extract(self._module, ready.to(memory_format=self._layout), self.kind)
            return features.to(self.dtype)

    def description(self, digest: str) -> dict[str, Any]:
        """Everything that a feature depends on beside the file: the key of its place in the cache."""
        return {
            "prefix": PREFIX_VERSION,
            # The same weights may go through another function: quick GELU, a forward pass of another release.
            "backbone": self.name,
            "versions": {"torch": torch.__version__, "backbone-zoo": version("backbone-zoo")},
            "code": _code_of(self.name),
            "weights": digest,
            "kind": self.kind,
            "mean": self.spec.mean,
            "std": self.spec.std,
            "size": self.spec.size,
            "resize": self.spec.resize,
            "crop": self.spec.crop,
            "interpolation": self.spec.interpolation,
            "precision": self.recipe.precision,
            "channels_last": self.recipe.channels_last,
            "folded": self.folded,
            "device": self.device.type,
        }
