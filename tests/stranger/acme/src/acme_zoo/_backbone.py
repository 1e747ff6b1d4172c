"""The networks that there are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import UnknownNameError, WeightsError
from zoo.specs import BackboneEntry, BackboneView, Weights

if TYPE_CHECKING:
    from torch import Tensor, nn

PATCHES = {"patch8": 8, "patch16": 16}
FILE = Path(__file__).with_name("patch8.safetensors")


def list_entries() -> Iterator[BackboneEntry]:
    """Two networks; one of them has weights."""
    weights = Weights(
        tag="acme_shapes", origin="wheel:acme-zoo/acme_zoo/patch8.safetensors", licence="CC0-1.0", input_size=32
    )
    yield BackboneEntry(name="patch8", weights=(weights,), input_size=32, features=("mean", "tokens"), family="patch")
    yield BackboneEntry(name="patch16", input_size=32, features=("mean", "tokens"), family="patch")


def build(model: str, tag: str | None) -> BackboneView:
    """One of them."""
    if model not in PATCHES:
        raise UnknownNameError(f"acme has no network {model!r}; it has {', '.join(PATCHES)}")
    if tag is not None and (model, tag) != ("patch8", "acme_shapes"):
        raise WeightsError(f"acme/{model} has no weights {tag!r}")
    from safetensors.torch import load_file

    from acme_zoo._network import PatchNet, view_of

    network = PatchNet(PATCHES[model])
    if tag:
        network.load_state_dict(load_file(FILE))
    return view_of(network, f"acme/{model}", tag)


def convert(module: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our first release called the blocks layers."""
    return {name.replace("layers.", "blocks."): tensor for name, tensor in tensors.items()}
