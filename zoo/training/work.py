"""What a computation has to do at least: floating-point operations and bytes of each operation, and its roofline.

The bound of a step is the sum over its operations of max(FLOPs / peak, bytes / bandwidth): the roofline of Williams,
Waterman and Patterson (2009), operation by operation. Pointwise operations, casts and views are taken to be fused into
their neighbours and cost nothing; so does BatchNorm whose statistics stand still. The bound is therefore lower than
what any eager program reaches.

Formulas are torch's (`torch.utils.flop_counter`), but for two: its backward of a convolution ignores `groups`, which
overstates depthwise networks many times, and its backward of attention counts the scores that flash kernels compute a
second time, which is a choice of the kernel and no part of the task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten

FUSED = frozenset(
    {"_to_copy", "_unsafe_view", "clone", "copy_", "detach", "empty_like", "fill_", "ones_like", "zero_", "zeros_like"}
)
"""Operations without the tag of pointwise ones that move data only because nothing was fused."""

GATHERS = {"index_select", "index", "embedding", "gather"}
"""Of these only the rows that are taken are read."""

OPAQUE = {"_native_multi_head_attention", "_transformer_encoder_layer_fwd"}
"""torch's fast path of inference, whose work no formula knows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Peaks:
    """What a machine reaches at most.

    Attributes:
        flops: floating-point operations a second of a matrix product, by dtype (`fp32`, `bf16`, …).
        bandwidth: bytes a second of a copy, read and written bytes added.
    """

    flops: Mapping[str, float]
    bandwidth: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One operation that was seen.

    Attributes:
        name: as torch names it.
        flops: floating-point operations; two to a multiply-accumulate.
        nbytes: read and written.
        dtype: of what went in, as `Peaks` names it.
    """

    name: str
    flops: int
    nbytes: int
    dtype: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """Operations of a computation, those left out that count as fused."""

    operations: tuple[Operation, ...]

    @property
    def flops(self) -> int:
        """Floating-point operations."""
        return sum(each.flops for each in self.operations)

    @property
    def nbytes(self) -> int:
        """Bytes read and written."""
        return sum(each.nbytes for each in self.operations)

    @property
    def whole(self) -> bool:
        """Whether every operation's FLOPs could be counted."""
        return not any(each.name in OPAQUE for each in self.operations)

    def seconds(self, peaks: Peaks) -> float:
        """The roofline's bound."""
        slowest = min(peaks.flops.values())
        return sum(
            max(each.flops / peaks.flops.get(each.dtype, slowest), each.nbytes / peaks.bandwidth)
            for each in self.operations
        )

    def flop_seconds(self, peaks: Peaks) -> float:
        """The bound by arithmetic alone."""
        slowest = min(peaks.flops.values())
        return sum(each.flops / peaks.flops.get(each.dtype, slowest) for each in self.operations)


_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.float64: "fp64"}


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation while it is entered, backward passes included; `work` says what they were.

    Nothing compiled may run in it: what a compiled graph does cannot be seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seen: list[Operation] = []

    @property
    def work(self) -> Work:
        """What was seen so far."""
        return Work(operations=tuple(self._seen))

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the operation, broken up where it is made of others, and note it."""
        kwargs = kwargs or {}
        if func.overloadpacket not in flop_registry:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        result = func(*args, **kwargs)
        if not _is_fused(func, args, kwargs):
            self._seen.append(_operation(func, args, kwargs, result))
        return result


def _is_fused(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    name = func.overloadpacket.__name__
    if name in FUSED or name.startswith("_foreach") or func.is_view or torch.Tag.pointwise in func.tags:
        return True
    if not any(True for _ in _tensors([*args, *kwargs.values()])):
        return True  # it makes something out of nothing
    if "batch_norm" in name:
        return not _argument(func, args, kwargs, ("training", "train"))
    return False


def _argument(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], names: tuple[str, ...]) -> bool:
    """The value of the argument that has one of these names; False where there is none."""
    for place, argument in enumerate(func._schema.arguments):  # noqa: SLF001  torch has no public way to ask
        if argument.name in names:
            return bool(args[place] if place < len(args) else kwargs.get(argument.name, argument.default_value))
    return "no_training" not in func.overloadpacket.__name__ and "update" in func.overloadpacket.__name__


def _operation(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Operation:
    packet = func.overloadpacket
    formula = FORMULAS.get(packet) or flop_registry.get(packet)
    flops = int(formula(*args, **kwargs, out_val=result)) if formula else 0
    given, made = list(_tensors([*args, *kwargs.values()])), list(_tensors([result]))
    out = sum(map(_size, made))
    read = out if packet.__name__ in GATHERS else sum(map(_size, given))
    # What is written in place is read and written.
    written = sum(_written(func, args, kwargs))
    dtype = next((_NAMES[each.dtype] for each in given if each.dtype in _NAMES), "fp32")
    return Operation(name=packet.__name__, flops=flops, nbytes=read + out + written, dtype=dtype)


def _written(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterable[int]:
    for place, argument in enumerate(func._schema.arguments):  # noqa: SLF001  torch has no public way to ask
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[place] if place < len(args) else kwargs.get(argument.name)
            yield sum(map(_size, _tensors([value])))


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _tensors(values: Iterable[Any]) -> Iterable[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _convolution_backward(
    grad: Tensor, given: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any, turned: bool,
    *rest: Any, out_val: Any = None,
) -> int:  # fmt: skip
    """Each gradient that is asked for costs what the forward pass did, whatever the groups: (M, N / groups, k, k)."""
    del bias, stride, padding, dilation, out_val
    places = (given if turned else grad).shape[2:].numel() * given.shape[0]
    mask = rest[-1]
    return 2 * places * weight.numel() * (int(mask[0]) + int(mask[1]))


def _attention_backward(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **options: Any) -> int:
    """Twice the forward pass: two products became four."""
    del grad, rest, options
    rows = query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2]
    return 4 * rows * (query.shape[3] + value.shape[3])


def _attention(query: Tensor, key: Tensor, value: Tensor, *rest: Any, **options: Any) -> int:
    """Two products: of queries and keys, and of what comes of them and the values."""
    del rest, options
    rows = query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2]
    return 2 * rows * (query.shape[3] + value.shape[3])


FORMULAS: dict[Any, Callable[..., int]] = {
    # Not every torch has a formula for the CPU's kernel (2.14 has none), and one without counts nothing.
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,  # noqa: SLF001
    aten.convolution_backward: _convolution_backward,
    aten._scaled_dot_product_efficient_attention_backward: _attention_backward,  # noqa: SLF001
    aten._scaled_dot_product_flash_attention_backward: _attention_backward,  # noqa: SLF001
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,  # noqa: SLF001
    aten._scaled_dot_product_cudnn_attention_backward: _attention_backward,  # noqa: SLF001
}
"""Instead of torch's."""
