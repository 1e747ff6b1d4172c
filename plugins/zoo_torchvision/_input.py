"""How images enter a torchvision network: their preparation, the convolution that reads them, and other sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import nn
from torchvision.models.vision_transformer import interpolate_embeddings

from zoo.specs import InputSpec

Resize = Callable[[nn.Module, tuple[int, int]], str]

_HALF = (0.5, 0.5, 0.5)


def take_transform_out(module: nn.Module) -> None:
    """Turn the renormalisation inside GoogLeNet and Inception off; `prepared` says the same in the input.

    Their pretrained weights come with it, random ones without: a run's network, built anew, would be another function.
    """
    if hasattr(module, "transform_input"):
        module.transform_input = False  # type: ignore[assignment]


def prepared(module: nn.Module, spec: InputSpec) -> InputSpec:
    """The input of `module`, given that of its weights.

    GoogLeNet and Inception were trained on images scaled to [-1, 1]; torchvision takes them normalised as for every
    other network and renormalises them inside, unless that is turned off.
    """
    off = not getattr(module, "transform_input", True)
    return replace(spec, mean=_HALF, std=_HALF) if off else spec


def input_layers(module: nn.Module) -> tuple[str, ...]:
    """Path of the first convolution, which in every family reads the image; none where the image is renormalised."""
    if getattr(module, "transform_input", False):
        return ()
    return next(((name,) for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d)), ())


def resize_of(module: nn.Module) -> Resize | None:
    """The function that gives the network another input size; None where none is needed."""
    return {"VisionTransformer": _resize_vit, "MaxVit": _resize_maxvit}.get(type(module).__name__)


def _resize_vit(module: nn.Module, size: tuple[int, int]) -> str:
    vit: Any = module
    patch = vit.patch_size
    if size[0] != size[1] or size[0] % patch:
        near = sorted({max(patch, size[0] // patch * patch), -(-size[0] // patch) * patch})
        raise ValueError(
            f"torchvision's ViT takes squares of whole patches of {patch} pixels; "
            f"near are {' and '.join(str(side) for side in near)}"
        )
    old = vit.encoder.pos_embedding
    state = interpolate_embeddings(size[0], patch, {"encoder.pos_embedding": old.detach()})
    new = state["encoder.pos_embedding"]
    vit.encoder.pos_embedding = nn.Parameter(new.clone(), requires_grad=old.requires_grad)
    vit.image_size, vit.seq_length = size[0], new.shape[1]
    return (
        f"images of {size[0]} x {size[1]} pixels: positions were interpolated, "
        f"encoder.pos_embedding from {tuple(old.shape)} to {tuple(new.shape)}"
    )


def _resize_maxvit(module: nn.Module, size: tuple[int, int]) -> str:
    net: Any = module
    step = 32 * net.partition_size  # the last stage is a 32nd of the image and is cut into this many windows a side
    if size[0] != size[1] or size[0] % step:
        raise ValueError(
            f"torchvision's MaxViT takes squares of {step} pixels or a multiple: windows keep the "
            f"{net.partition_size} x {net.partition_size} positions they were pretrained with, and all must be whole"
        )
    for stage, block in enumerate(net.blocks):
        side = size[0] // (4 * 2**stage)
        block.grid_size = (side, side)
        for layer in block.layers:
            for part in (layer.layers.window_attention, layer.layers.grid_attention):
                part.grid_size, part.n_partitions = (side, side), side // net.partition_size
                window = part.partition_type == "window"
                part.p, part.g = (
                    (net.partition_size, part.n_partitions) if window else (part.n_partitions, net.partition_size)
                )
    return f"images of {size[0]} x {size[1]} pixels: more windows, each with the positions that it was pretrained with"
