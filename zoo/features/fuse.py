"""Activations computed by the convolution before them, as oneDNN does on a CPU: one pass over memory instead of two.

torch offers this to what it compiles (`torch._inductor.fx_passes.mkldnn_fusion`); called from the network as it is, it
costs nothing to set up. EfficientNet-Lite0 in bf16 with folded normalisations goes from 448 to 507 images a second on
two cores of an AMD EPYC, torchvision's MobileNetV2 from 551 to 650 (`benchmarks/prefix.py`).

Which activations may be computed so is observed on one forward pass, as what may be folded is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from zoo.features.fold import Watch
from zoo.probe import computes_bf16

POST_OPS: dict[type[nn.Module], Callable[[Any], tuple[str, list[float]]]] = {
    nn.ReLU: lambda act: ("relu", []),
    nn.ReLU6: lambda act: ("hardtanh", [0.0, 6.0]),
    nn.Hardtanh: lambda act: ("hardtanh", [act.min_val, act.max_val]),
    nn.LeakyReLU: lambda act: ("leaky_relu", [act.negative_slope]),
    nn.SiLU: lambda act: ("swish", []),
    nn.Hardswish: lambda act: ("hardswish", []),
    nn.Hardsigmoid: lambda act: ("hardsigmoid", []),
    nn.Sigmoid: lambda act: ("sigmoid", []),
}
"""By layer: what oneDNN calls it, and its numbers."""


@cache
def fuses(device: str, dtype: torch.dtype) -> bool:
    """Whether convolutions compute activations there: on a CPU whose oneDNN knows the dtype."""
    known: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if device != "cpu" or not known or not torch.backends.mkldnn.enabled:
        return False
    if not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return False
    if dtype == torch.bfloat16:
        return computes_bf16(device)
    return dtype == torch.float32


class ConvAct(nn.Conv2d):
    """A convolution and the activation behind it, in one operation where the device has one for the dtype.

    Made by `of`; to code that looks at it it is the convolution that it was.
    """

    act: nn.Module

    @classmethod
    def of(cls, conv: nn.Conv2d, act: nn.Module) -> ConvAct:
        """One that shares the convolution's parameters; `act` is a module of `POST_OPS`."""
        fused = cls.__new__(cls)
        vars(fused).update({**vars(conv), "_modules": {}, "_post_op": POST_OPS[type(act)](act)})
        fused.act = act
        return fused

    def forward(self, images: Tensor) -> Tensor:
        """From (B, C, H, W) to the activated output (B, D, H', W')."""
        # What is compiled is fused by the compiler.
        if torch.compiler.is_compiling() or not fuses(images.device.type, images.dtype):
            plain: Tensor = self.act(super().forward(images))
            return plain
        name, numbers = vars(self)["_post_op"]
        fused: Tensor = torch.ops.mkldnn._convolution_pointwise(  # noqa: SLF001  torch has no public name for it
            images, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups, name, numbers, ""
        )
        return fused


def find_fusable(module: nn.Module, run: Callable[[nn.Module], object]) -> list[tuple[str, str]]:
    """Paths of (convolution, activation) pairs of `module` that may be one operation.

    Args:
        module: in eval mode; not changed.
        run: calls the module on an example batch.
    """
    watch, calls, made, read = Watch(), Counter[str](), dict[int, str](), list[tuple[int, str]]()
    acts = {path: part for path, part in module.named_modules() if type(part) in POST_OPS}
    inplace = {path: part.inplace for path, part in acts.items() if hasattr(part, "inplace")}

    def reads(path: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(_: nn.Module, given: tuple[Any, ...]) -> None:
            calls[path] += 1
            if given and id(given[0]) in made:  # asked now: the id of a tensor that has died may be used again
                read.append((id(given[0]), path))

        return hook

    def makes(path: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(_: nn.Module, given: tuple[Any, ...], output: Any) -> None:
            del given
            made[id(output)] = path  # a convolution whose weight others use by hand is not called

        return hook

    with ExitStack() as stack:
        for path, part in acts.items():
            stack.callback(part.register_forward_pre_hook(reads(path)).remove)
        for path, part in module.named_modules():
            if _is_plain(part):
                stack.callback(part.register_forward_hook(makes(path)).remove)
        for path, was in inplace.items():  # else the output of the activation would be the convolution's
            acts[path].inplace = False
            stack.callback(setattr, acts[path], "inplace", was)
        stack.enter_context(torch.no_grad())
        stack.enter_context(watch)
        run(module)
    return [
        (made[output], path)
        for output, path in read
        if calls[path] == watch.reads[output] == watch.weight_uses[watch.made[output]] == 1
    ]


def fuse(module: nn.Module, pairs: Iterable[tuple[str, str]]) -> int:
    """Make each pair one operation, in place; returns how many. The module computes without gradients from then on."""
    count = 0
    for conv_path, act_path in pairs:
        conv, act = module.get_submodule(conv_path), module.get_submodule(act_path)
        assert isinstance(conv, nn.Conv2d)  # noqa: S101  found as one
        _put(module, conv_path, ConvAct.of(conv, act))
        _put(module, act_path, nn.Identity())
        count += 1
    return count


def _is_plain(part: nn.Module) -> bool:
    """Whether it is torch's own convolution, with zeros around the image: a subclass may do more than it."""
    return type(part) is nn.Conv2d and part.padding_mode == "zeros" and not isinstance(part.padding, str)


def _put(module: nn.Module, path: str, part: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, part)
