"""The frozen prefix as fast as it may be: eval mode, BatchNorm folded, a memory layout, a dtype, inference mode."""

from __future__ import annotations

import copy
import functools
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from zoo.data.decode import DECODE_VERSION
from zoo.errors import IntegrityError
from zoo.features.calls import Run
from zoo.features.cut import Cut, capture
from zoo.features.digests import code_of
from zoo.features.fold import find_foldable, fold
from zoo.features.fuse import find_fusable, fuse, fuses
from zoo.features.packing import Packing
from zoo.features.suffix import Suffix
from zoo.model.network import require_width
from zoo.specs import BackboneView, InputSpec

PREFIX_VERSION = 1
"""Raised when the arithmetic of a prefix changes, so that features of older releases are not taken for its own."""

FOLD_TOLERANCE = 1e-3
"""Relative error above which a folded network is not taken for the same as the one it was made from."""

BATCH = {"cpu": 32, "cuda": 64}
"""Rows of one forward pass. On a CPU 64 are 3 % faster in the long run, and twice the memory to touch first costs more
than that on a few thousand images."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a prefix computes.

    Attributes:
        precision: `fp32`, `bf16` or `fp16`, of weights, activations and stored features.
        channels_last: memory layout of convolutions.
        fold: whether BatchNorm is folded, and activations are computed by convolutions, where that may be done.
        compiled: whether torch.compile has translated it, with its weights frozen into the code.
    """

    precision: str = "fp32"
    channels_last: bool = False
    fold: bool = True
    compiled: bool = False

    def __str__(self) -> str:
        layout = "channels_last" if self.channels_last else "contiguous"
        return f"{self.precision}, {layout}, {'folded' if self.fold else 'not folded'}" + (
            ", compiled" if self.compiled else ""
        )


def normalise(images: Tensor, spec: InputSpec, dtype: torch.dtype = torch.float32) -> Tensor:
    """Images (B, C, H, W) in raw units to normalised ones of `dtype`; computed in float32, on the images' device."""
    mean = torch.tensor(spec.zero, device=images.device).view(1, -1, 1, 1)
    std = torch.tensor(spec.spread, device=images.device).view(1, -1, 1, 1)
    return images.float().sub_(mean).div_(std).to(dtype)


def _layout_of(recipe: Recipe) -> torch.memory_format:
    return torch.channels_last if recipe.channels_last else torch.contiguous_format


@contextmanager
def silent() -> Iterator[None]:
    """Inside, torch.compile is silent about what it does itself: graphs in several parts, no GPU, few of its cores."""
    logger = logging.getLogger("torch")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"torch\.")
            yield
    finally:
        logger.setLevel(before)


class Prefix:
    """A frozen copy of a backbone up to a boundary, from uint8 images to rows; the original is not touched.

    Attributes:
        recipe: how it computes.
        cut: the boundary; None for the features of the whole backbone.
        folded: number of normalisations folded.
        norms: number of normalisations with running statistics that run before the boundary.
        fused: number of activations that are computed by the convolution before them.
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
        self.folded, self.fused = self._simplified() if recipe.fold else (0, 0)
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
        for own in ("packing", "_translated"):
            vars(other).pop(own, None)
        vars(other).update(recipe=recipe, dtype=dtype, _layout=layout, _module=module)
        return other

    def compiled(self) -> Prefix:
        """The same prefix, translated by torch.compile when it is first called; it shares its weights with this one."""
        other = copy.copy(self)
        other.recipe = replace(self.recipe, compiled=True)
        return other

    @property
    def batch(self) -> int:
        """Rows of one forward pass; a compiled prefix takes no other number."""
        return BATCH[self.device.type]

    @functools.cached_property
    def _translated(self) -> Callable[[Tensor], tuple[Tensor, ...]]:
        torch.compiler.reset()  # it translates one function eight times at most, whosever method it is
        return torch.compile(self._compute, dynamic=False, options={"freezing": True})

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

    def beyond(self, earlier: Prefix, rows: Tensor) -> Tensor:
        """Rows of this prefix from rows (B, *shape) of one that ends earlier in the same network.

        Only what lies between the two boundaries computes. See `zoo.features.onward`, which says whether it may.

        Raises:
            ValueError: the other ends behind the whole network.
        """
        if earlier.cut is None:
            raise ValueError("nothing lies beyond the features of the whole backbone")
        image = (self.spec.channels, *self.spec.size)
        with torch.inference_mode(), Suffix(earlier.cut, self._module, self._run, image) as suffix:
            given = earlier.packing.unpack(rows.to(self.device, non_blocking=True))
            found = self._compute(given[0], lambda *_: suffix(given))
            return self.packing.pack([tensor.to(self.dtype) for tensor in found])

    def _compute(self, ready: Tensor, run: Run | None = None) -> tuple[Tensor, ...]:
        run = run or self._run
        if self.cut is None:
            return (require_width(self._view, self.kind, run(self._module, ready)),)
        return capture(self.cut, self._module, run, ready)

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

    def _simplified(self) -> tuple[int, int]:
        """Fold normalisations and fuse activations; returns how many of each."""
        example = self._example()
        before = self._exactly(example)
        folded = fold(self._module, find_foldable(self._module, lambda _: self._compute(example))) if self.norms else 0
        fused = 0
        if fuses(self.device.type, torch.float32):
            fused = fuse(self._module, find_fusable(self._module, lambda _: self._compute(example)))
        if not folded and not fused:
            return 0, 0
        after = self._exactly(example)
        moved = [float((a - b).norm() / b.norm().clamp_min(1e-12)) for a, b in zip(after, before, strict=True)]
        if not max(moved) <= FOLD_TOLERANCE:
            raise IntegrityError(
                f"folding {folded} normalisations and fusing {fused} activations changed the features by "
                f"{max(moved):.1e}; nothing was kept"
            )
        return folded, fused

    def _exactly(self, example: Tensor) -> tuple[Tensor, ...]:
        # TF32 rounds to three digits, about what the check allows.
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
            return self._compute(example)

    def __call__(self, images: Tensor) -> Tensor:
        """Rows (B, *shape) of the prefix's dtype, on its device, from images (B, C, H, W) in raw units."""
        if not self.recipe.compiled:
            return self._rows(images, self._compute)
        with silent():
            return torch.cat([self._filled(part) for part in torch.split(images, self.batch)])

    def _rows(self, images: Tensor, compute: Callable[[Tensor], tuple[Tensor, ...]]) -> Tensor:
        with torch.inference_mode():
            ready = normalise(images.to(self.device, non_blocking=True), self.spec, self.dtype)
            found = compute(ready.to(memory_format=self._layout))
            return self.packing.pack([tensor.to(self.dtype) for tensor in found])

    def _filled(self, images: Tensor) -> Tensor:
        """Rows of at most a batch, filled up to one: another number of images would be translated anew."""
        missing = self.batch - len(images)
        full = torch.cat([images, images[:1].expand(missing, *images.shape[1:])]) if missing else images
        return self._rows(full, self._translated)[: len(images)]

    def description(self, digest: str) -> dict[str, Any]:
        """Everything that a feature depends on beside the file: the key of its place in the cache."""
        return {
            "prefix": PREFIX_VERSION,
            # The same weights may go through another function: quick GELU, a forward pass of another release.
            "backbone": self.name,
            "versions": {"torch": torch.__version__, "backbone-zoo": version("backbone-zoo")},
            "code": code_of(self.name),
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
            **({"fused": self.fused} if self.fused else {}),
            **({"compiled": True} if self.recipe.compiled else {}),
            "device": self.device.type,
            **({"deterministic": True} if torch.are_deterministic_algorithms_enabled() else {}),
            **({"boundary": list(self.cut.names), **asdict(self.packing)} if self.cut else {}),
        }
