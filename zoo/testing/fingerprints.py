"""What a thing is made of, as a value that can be compared: shows whether a parameter changed it."""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Iterable, Mapping, Set
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_PLAIN = (bool, int, float, complex, str, bytes, type(None), type, torch.dtype, torch.device, PurePath)
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_OF_TORCH = frozenset(vars(nn.Module()))
"""Attributes that every module has; the rest are its author's."""


def fingerprint(value: object, _inside: frozenset[int] = frozenset()) -> Any:
    """Nested tuples that are equal where two values are made alike, down to arrays, modules and closures."""
    if isinstance(value, _PLAIN):
        return (type(value).__name__, repr(value))  # the text, because NaN is not equal to itself
    if id(value) in _inside:
        return "(itself)"

    def part(inner: object) -> Any:
        return fingerprint(inner, _inside | {id(value)})

    if isinstance(value, Tensor):
        return _tensor(value)
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        content = part(array.tolist()) if array.dtype.hasobject else np.ascontiguousarray(array).tobytes()
        return ("array", str(array.dtype), array.shape, content)
    if isinstance(value, nn.Module):
        return _module(value, part)
    if isinstance(value, functools.partial):
        return ("partial", part(value.func), part(value.args), part(value.keywords))
    if isinstance(value, types.FunctionType | types.MethodType):
        return _function(value, part)
    return _container(value, part)


def _container(value: object, part: Any) -> Any:
    kind = type(value).__qualname__
    if isinstance(value, Mapping):
        return (kind, tuple((part(key), part(inner)) for key, inner in value.items()))
    if isinstance(value, Set):
        return (kind, tuple(sorted(repr(inner) for inner in value)))
    if isinstance(value, list | tuple | range):
        return (kind, tuple(part(inner) for inner in value))
    if isinstance(value, torch.Generator):
        return (kind, _tensor(value.get_state()))
    if isinstance(value, np.random.Generator):
        return (kind, part(value.bit_generator.state))
    held = dict(_attributes(value))
    return (kind, part(held) if held else _ADDRESS.sub("", repr(value)))


def _attributes(value: object) -> Iterable[tuple[str, object]]:
    yield from getattr(value, "__dict__", {}).items()
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                yield name, getattr(value, name)


def _tensor(tensor: Tensor) -> Any:
    content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return ("tensor", str(tensor.dtype), tuple(tensor.shape), content.numpy().tobytes())


def _module(module: nn.Module, part: Any) -> Any:
    """Its printed form, what its author stored in each submodule, and every parameter and buffer with its values."""
    stored = [
        (name, key, part(inner))
        for name, child in module.named_modules()
        for key, inner in vars(child).items()
        if key not in _OF_TORCH
    ]
    tensors = [(name, _tensor(tensor)) for name, tensor in (*module.named_parameters(), *module.named_buffers())]
    return ("module", _ADDRESS.sub("", repr(module)), tuple(stored), tuple(tensors))


def _function(function: types.FunctionType | types.MethodType, part: Any) -> Any:
    if isinstance(function, types.MethodType):
        return ("method", part(function.__func__), part(function.__self__))
    code = function.__code__
    where = (code.co_filename, code.co_firstlineno, code.co_qualname, code.co_code, code.co_names)
    cells = tuple(part(cell.cell_contents) for cell in function.__closure__ or ())
    return ("function", where, cells, part(function.__defaults__), part(function.__kwdefaults__))
