"""Small networks for generative imputers: plain weights, drawn from a generator, kept as arrays."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Layers = list[tuple[Tensor, Tensor]]
"""Weight (in, out) and bias (out,) of each layer."""


def draw_layers(widths: Sequence[int], generator: torch.Generator) -> Layers:
    """Layers from width to width: weights normal with deviation sqrt(2 / in), biases 0; both learn."""
    return [
        (
            (torch.randn(before, after, generator=generator) * math.sqrt(2.0 / before)).requires_grad_(),
            torch.zeros(after, requires_grad=True),
        )
        for before, after in itertools.pairwise(widths)
    ]


def forward(layers: Layers, given: Tensor, between: Callable[[Tensor], Tensor]) -> Tensor:
    """From (..., in) to (..., out); `between` comes after every layer but the last."""
    for weight, bias in layers[:-1]:
        given = between(given @ weight + bias)
    weight, bias = layers[-1]
    return given @ weight + bias


def parameters(*networks: Layers) -> list[Tensor]:
    """Every weight and bias."""
    return [tensor for layers in networks for layer in layers for tensor in layer]


def frozen(layers: Layers) -> Layers:
    """The same in double precision and without gradients: fills are then equal alone and among others."""
    return [(weight.detach().double(), bias.detach().double()) for weight, bias in layers]


def to_arrays(name: str, layers: Layers) -> dict[str, NDArray[np.generic]]:
    """Arrays that `from_arrays` takes back."""
    pairs = [(f"{name}.{place}", layer) for place, layer in enumerate(layers)]
    return {
        f"{key}.{part}": tensor.numpy()
        for key, layer in pairs
        for part, tensor in zip(("weight", "bias"), layer, strict=True)
    }


def from_arrays(name: str, arrays: Mapping[str, NDArray[np.generic]]) -> Layers:
    """The inverse of `to_arrays`."""
    count = sum(key.startswith(f"{name}.") and key.endswith(".weight") for key in arrays)
    return [
        (_tensor(arrays[f"{name}.{place}.weight"]), _tensor(arrays[f"{name}.{place}.bias"])) for place in range(count)
    ]


def _tensor(array: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float64))


def torch_generator(generator: np.random.Generator) -> torch.Generator:
    """A generator of torch that depends on the one given alone."""
    return torch.Generator().manual_seed(int(generator.integers(2**62)))
