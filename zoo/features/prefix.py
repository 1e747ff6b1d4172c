"""The frozen prefix as fast as it may be: eval mode, BatchNorm folded, a memory layout, a dtype, inference mode."""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Collection
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from zoo.data.decode import DECODE_VERSION
from zoo.errors import IntegrityError
from zoo.features.cut import Cut, capture
from zoo.features.fold import find_foldable, fold
from zoo.features.packing import Packing
from zoo.model.freeze import digest_tensor, named_tensors
from zoo.model.network import require_width
from zoo.registry.digest import package_digest
from zoo.registry.lookup import SOURCES
from zoo.registry.tables import library_version
from zoo.specs import BackboneView, InputSpec

PREFIX_VERSION = 1
"""Raised when the arithmetic of a prefix changes, so that features of older releases are not taken for its own."""

FOLD_TOLERANCE = 1e-3
"""Relative error above which a folded network is not taken for the same as the one it was made from."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a prefix computes.

    Attributes:
        precision: `fp32`, `bf16` or `fp16`, of weights, activations and stored features.
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
    """Images (B, C, H, W) in raw units to normalised ones of `dtype`; computed in float32, on the images' device."""
    mean = torch.tensor(spec.zero, device=images.device).view(1, -1, 1, 1)
    std = torch.tensor(spec.spread, device=images.device).view(1, -1, 1, 1)
    return images.float().sub_(mean).div_(std).to(dtype)


def weights_digest(module: nn.Module, without: Collection[str] = ()) -> str:
    """Hash of every parameter and buffer with its name, those too that are not saved.

    Args:
        module: the network.
        without: names of tensors that do not count, because what is computed does not depend on them.
    """
    total = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(named_tensors(module).items()):
        if name not in without:
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


def _layout_of(recipe: Recipe) -> torch.memory_format:
    return torch.channels_last if recipe.channels_last else torch.contiguous_format


class Prefix:
    """A frozen copy of a backbone up to a boundary, from uint8 images to rows; the original is not touched.

    Attributes:
        recipe: how it computes.
        cut: the boundary; None for the features of the whole backbone.
        folded: number of normalisations folded.
        norms: number of normalisations with running statistics that run before the boundary.
    """

    def __init__(
        self, view: BackboneView, kind: str, recipe: Recipe, device: torch.device, cut: Cut | None = None
    ) -> None:
        self.name = view.name
        self.recipe = recipe
        self.spec = view.input
        self.kind = kind
        self.device = device
        self.cut = cut
        self.dtype = DTYPES[recipe.precision]
        self._view = view
        self._extract = view.extract
        self._module = copy.deepcopy(view.module).eval().requires_grad_(False).to(device)
        self.norms = self._count_norms()
        self.folded = self._fold() if recipe.fold and self.norms else 0
        self._layout = _layout_of(recipe)
        self._module.to(self.dtype).to(memory_format=self._layout)

    def like(self, recipe: Recipe) -> Prefix:
        """The same prefix in another precision or layout, without folding anew; this one computes in float32.

        Raises:
            ValueError: it does not, or the other is folded otherwise.
        """
        if self.recipe.precision != "fp32" or self.recipe.fold != recipe.fold:
            raise ValueError(f"a prefix ({self.recipe}) cannot be made into another ({recipe})")
        other, layout, dtype = copy.copy(self), _layout_of(recipe), DTYPES[recipe.precision]
        module = copy.deepcopy(self._module).to(dtype).to(memory_format=layout)
        vars(other).pop("packing", None)
        vars(other).update(recipe=recipe, dtype=dtype, _layout=layout, _module=module)
        return other

    @functools.cached_property
    def packing(self) -> Packing:
        """How what it computes is kept as one tensor a row."""
        if self.cut is None and self.kind != "tokens":
            return Packing(shapes=((self._view.feature(self.kind).width,),), turned=(False,))
        # How many tokens there are, and in which layout a tensor comes, is found by asking.
        with torch.inference_mode():
            return Packing.of(self._compute(self._example().to(self.dtype).to(memory_format=self._layout)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one row: (width,) or (tokens, width) of features, else what crosses the boundary."""
        return self.packing.shape

    def _compute(self, ready: Tensor) -> tuple[Tensor, ...]:
        if self.cut is None:
            return (require_width(self._view, self.kind, self._extract(self._module, ready, self.kind)),)
        return capture(self.cut, self._module, self._run, ready)

    def _run(self, module: nn.Module, images: Tensor) -> Tensor:
        return self._extract(module, images, self.kind)

    def _example(self) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        shape = (2, self.spec.channels, *self.spec.size)
        return torch.randn(shape, generator=generator).to(self.device)

    def _count_norms(self) -> int:
        """Of the normalisations with running statistics, those that run."""
        norms = [part for part in self._module.modules() if isinstance(getattr(part, "running_mean", None), Tensor)]
        if self.cut is None or not norms:
            return len(norms)
        ran: set[int] = set()
        handles = [part.register_forward_hook(lambda part, *_: ran.add(id(part))) for part in norms]
        with torch.inference_mode():
            self._compute(self._example()[:1])
        for handle in handles:
            handle.remove()
        return len(ran)

    def _fold(self) -> int:
        example = self._example()
        # TF32 rounds to three digits, about what the check allows.
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
            before = self._compute(example)
        pairs = find_foldable(self._module, lambda module: self._compute(example))
        if not pairs:
            return 0
        count = fold(self._module, pairs)
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
            after = self._compute(example)
        moved = [float((a - b).norm() / b.norm().clamp_min(1e-12)) for a, b in zip(after, before, strict=True)]
        if not max(moved) <= FOLD_TOLERANCE:
            raise IntegrityError(
                f"folding {count} normalisations changed the features by {max(moved):.1e}; nothing was kept"
            )
        return count

    def __call__(self, images: Tensor) -> Tensor:
        """Rows (B, *shape) of the prefix's dtype, on its device, from images (B, C, H, W) in raw units."""
        with torch.inference_mode():
            ready = normalise(images.to(self.device, non_blocking=True), self.spec, self.dtype)
            found = self._compute(ready.to(memory_format=self._layout))
            return self.packing.pack([tensor.to(self.dtype) for tensor in found])

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
            "decode": DECODE_VERSION,
            **{name: getattr(self.spec, name) for name in ("full", "nodata", "bands", "file_bands", "dtype", "layout")},
            "precision": self.recipe.precision,
            "channels_last": self.recipe.channels_last,
            "folded": self.folded,
            "device": self.device.type,
            **({"deterministic": True} if torch.are_deterministic_algorithms_enabled() else {}),
            **({"boundary": list(self.cut.names), **asdict(self.packing)} if self.cut else {}),
        }
