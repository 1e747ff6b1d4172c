"""Fold BatchNorm in eval mode into the convolution or linear layer before it.

Which layers may be folded is *observed*, not guessed from names: one forward pass is watched, and a normalisation is
folded when its input is the output of one convolution or linear layer that nothing else reads. That finds timm's
`BatchNormAct2d` too, whose activation stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_PRODUCERS = {F.conv2d, torch.conv2d, F.conv1d, torch.conv1d, F.linear}
_NORMS = {F.batch_norm, torch.batch_norm}
_LOOKS = {"__get__", "size", "dim", "stride", "is_contiguous", "numel", "__len__", "storage_offset"}


class Watch(TorchFunctionMode):
    """While entered, records which weights made which tensors, which normalisations read them, and how often."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[int, int] = {}  # id of output -> id of the weight that made it
        self.reads: Counter[int] = Counter()  # id of output -> number of operations that read it
        self.weight_uses: Counter[int] = Counter()
        self.norm_uses: Counter[int] = Counter()
        self.pairs: list[tuple[int, int]] = []  # (id of output, id of the running mean)
        self.alive: list[Tensor] = []  # keeps every tensor, so that ids stay unique

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if getattr(func, "__name__", "") in _LOOKS:
            return result
        for value in _tensors([*args, *kwargs.values()]):
            if id(value) in self.made:
                self.reads[id(value)] += 1
        if func in _PRODUCERS and isinstance(result, Tensor):
            weight = args[1] if len(args) > 1 else kwargs["weight"]
            self.made[id(result)] = id(weight)
            self.weight_uses[id(weight)] += 1
            self.alive.append(result)
        elif func in _NORMS:
            source = args[0] if args else kwargs["input"]
            mean = args[1] if func is F.batch_norm and len(args) > 1 else kwargs.get("running_mean")
            mean = args[3] if func is torch.batch_norm else mean
            self.norm_uses[id(mean)] += 1
            if id(source) in self.made:  # asked now: the id of a tensor that has died may be used again
                self.pairs.append((id(source), id(mean)))
        return result


def _tensors(values: Iterable[Any]) -> Iterable[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def find_foldable(module: nn.Module, run: Callable[[nn.Module], object]) -> list[tuple[str, str]]:
    """Paths of (layer, BatchNorm) pairs of `module` that may be folded, from watching `run(module)` once in eval mode.

    Args:
        module: in eval mode; not changed.
        run: calls the module on an example batch.
    """
    watch = Watch()
    with torch.no_grad(), watch:
        run(module)
    layers = {id(part.weight): path for path, part in module.named_modules() if _is_layer(part)}
    norms = {id(part.running_mean): path for path, part in module.named_modules() if _is_norm(part)}
    pairs = []
    for output, mean in watch.pairs:
        weight = watch.made[output]
        if weight not in layers or mean not in norms:
            continue  # a weight that is computed (standardised, reparametrised) is no parameter of a layer
        if watch.reads[output] == watch.weight_uses[weight] == watch.norm_uses[mean] == 1:
            pairs.append((layers[weight], norms[mean]))
    return pairs


def _is_layer(part: nn.Module) -> bool:
    return isinstance(part, nn.Conv1d | nn.Conv2d | nn.Linear)


def _is_norm(part: nn.Module) -> bool:
    return isinstance(getattr(part, "running_mean", None), Tensor)


@torch.no_grad()
def fold(module: nn.Module, pairs: Iterable[tuple[str, str]]) -> int:
    """Fold the pairs in place; returns how many were folded. The module must stay in eval mode from then on."""
    count = 0
    for layer_path, norm_path in pairs:
        layer, norm = module.get_submodule(layer_path), module.get_submodule(norm_path)
        _fold_pair(layer, norm)
        parent, _, name = norm_path.rpartition(".")
        # timm's BatchNormAct2d goes on with dropout and activation; a plain BatchNorm does nothing more.
        rest = [getattr(norm, part) for part in ("drop", "act") if isinstance(getattr(norm, part, None), nn.Module)]
        rest = [part for part in rest if not isinstance(part, nn.Identity)]
        setattr(module.get_submodule(parent), name, rest[0] if len(rest) == 1 else nn.Sequential(*rest))
        count += 1
    return count


def _fold_pair(layer: nn.Module, norm: nn.Module) -> None:
    fields: Mapping[str, Any] = vars(norm)["_parameters"] | vars(norm)["_buffers"]
    scale = torch.rsqrt(fields["running_var"].double() + float(getattr(norm, "eps", 1e-5)))
    if fields.get("weight") is not None:
        scale = scale * fields["weight"].double()
    shift = -fields["running_mean"].double() * scale
    if fields.get("bias") is not None:
        shift = shift + fields["bias"].double()
    weight, bias = layer.get_parameter("weight"), vars(layer)["_parameters"].get("bias")
    if bias is not None:
        shift = shift + bias.double() * scale
    weight.copy_(weight.double() * scale.reshape(-1, *[1] * (weight.ndim - 1)))
    layer.register_parameter("bias", nn.Parameter(shift.to(weight.dtype), requires_grad=False))
