"""What torchvision offers, one network with the weights of a tag, and the view of a network."""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
import torchvision.models
from torch import nn

from zoo.errors import UnknownNameError, WeightsError, ZooError
from zoo.specs import BackboneEntry, BackboneView, FeatureKind, InputSpec, Weights, partition
from zoo_torchvision._classifier import classifier_path, extract, pooled_width, remove_auxiliary, reset_classifier
from zoo_torchvision._input import input_layers, prepared, resize_of, take_transform_out
from zoo_torchvision._stages import Family, family_of

# torchvision counts the auxiliary classifier, which is taken off here.
_WITHOUT_AUXILIARY = {"inception_v3": 23_834_568}


def _names() -> list[str]:
    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


def _weights(model: str) -> list[Any]:
    """Weights of a whole classifier, the default first; vgg16's IMAGENET1K_FEATURES lack the classifier's layers."""
    offered = torchvision.models.get_model_weights(model)
    whole = [weights for weights in offered if weights.meta.get("categories")]
    return sorted(whole, key=lambda weights: weights is not offered.DEFAULT)


def _top1(weights: Any) -> float | None:
    value = weights.meta["_metrics"].get("ImageNet-1K", {}).get("acc@1")
    return None if value is None or math.isnan(value) else float(value)


def list_entries() -> Iterator[BackboneEntry]:
    """Every classifier, with what the metadata of its default weights say; builds none."""
    for name in _names():
        weights = _weights(name)
        default = weights[0]
        family = torchvision.models.get_model_builder(name).__module__.rpartition(".")[2]
        yield BackboneEntry(
            name=name,
            weights=tuple(_tagged(each) for each in weights),
            parameters=_WITHOUT_AUXILIARY.get(name, default.meta["num_params"]),
            gmacs=default.meta.get("_ops"),
            input_size=_input(default, fixed=False).size[0],
            features=("pooled", "cls") if family == "vision_transformer" else ("pooled",),
            family=family,
        )


def _tagged(weights: Any) -> Weights:
    return Weights(
        tag=weights.name,
        origin=weights.url,
        licence=weights.meta.get("license", ""),
        input_size=_input(weights, fixed=False).size[0],
        top1=_top1(weights),
    )


def _input(weights: Any, *, fixed: bool) -> InputSpec:
    transforms = weights.transforms()
    crop = int(transforms.crop_size[0])
    return InputSpec(
        size=(crop, crop),
        resize=int(transforms.resize_size[0]),
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        interpolation=transforms.interpolation.value,
        fixed=fixed,
    )


def build(model: str, tag: str | None) -> BackboneView:
    """The network `model` with the weights `tag`, or with random ones.

    Raises:
        UnknownNameError: torchvision has no such classifier.
        WeightsError: there is no such tag, or its file cannot be fetched.
    """
    if model not in _names():
        raise UnknownNameError(f"torchvision has no classifier {model!r}")
    offered = _weights(model)
    weights = next((each for each in offered if each.name == tag), None)
    if tag is not None and weights is None:
        listed = ", ".join(each.name for each in offered)
        raise WeightsError(f"torchvision/{model} has no weights {tag!r}; there are {listed}, and none for random ones")
    module = _random(model) if weights is None else _load(model, weights)
    family = _family(module)
    take_transform_out(module)
    notes: tuple[str, ...] = ()
    if family.auxiliary:
        remove_auxiliary(module)
        notes = ("auxiliary classifiers were removed: torchvision's are not meant for other classes",)
    if weights is None:
        return replace(_described(module, family), name=f"torchvision/{model}", weights="none", notes=notes)
    return _view(
        module,
        name=f"torchvision/{model}",
        input=_input(weights, fixed=family.fixed),
        weights=weights.name,
        licence=weights.meta.get("license", ""),
        notes=notes,
    )


def _random(model: str) -> nn.Module:
    # These two warn about their initialisation unless it is chosen; True is what they do by default.
    options: dict[str, Any] = {}
    if model in ("googlenet", "inception_v3"):
        options = {"init_weights": True, "aux_logits": False}
    if model.startswith("vit_"):  # as large as the default weights are; torchvision's own default is 224
        options = {"image_size": _input(_weights(model)[0], fixed=True).size[0]}
    module: nn.Module = torchvision.models.get_model(model, weights=None, **options)
    return module


def _load(model: str, weights: Any) -> nn.Module:
    try:
        module: nn.Module = torchvision.models.get_model(model, weights=weights)
    except (OSError, RuntimeError, HTTPException, EOFError, pickle.UnpicklingError) as error:
        place = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
        raise WeightsError(
            f"the weights {weights.name} of torchvision/{model} could not be loaded from {weights.url}: {error}. "
            f"Without a network, put that file at {place} (a broken one there is to be deleted), "
            "or start from random weights with --weights none"
        ) from error
    return module


def _family(module: nn.Module) -> Family:
    family = family_of(module)
    if family is None:  # a class that this version of torchvision has and FAMILIES does not know
        raise ZooError(f"torchvision's {type(module).__name__} is not known to zoo_torchvision; please report it")
    return family


def _view(module: nn.Module, *, name: str, input: InputSpec, **fields: Any) -> BackboneView:  # noqa: A002
    family = _family(module)
    path = classifier_path(module, family)
    auxiliary = [name for name, _ in family.auxiliary if isinstance(getattr(module, name, None), nn.Module)]
    try:
        parts = partition(module, family.groups(module), classifier=[path], auxiliary=auxiliary)
    except ValueError as error:
        raise ZooError(
            f"this {type(module).__name__} is not built as torchvision builds it ({error}); "
            f"its classifier is expected at {path}"
        ) from None
    width = pooled_width(module, tuple(name for stage in parts["stages"] for name in stage.parameters))
    pooled = FeatureKind(name="pooled", width=width)
    kinds = (pooled, FeatureKind(name="cls", width=width)) if family.class_token else (pooled,)
    return BackboneView(
        name=name,
        module=module,
        features=kinds,
        input=prepared(module, input),
        resize=resize_of(module),
        input_layers=input_layers(module),
        extract=extract,
        reset_classifier=partial(_reset, width),
        **parts,
        **fields,
    )


def _reset(width: int, module: nn.Module, outputs: int) -> None:
    reset_classifier(module, outputs, width)


def describe(module: nn.Module) -> BackboneView | None:
    """The view of a network that the user built with torchvision, whatever its classes; None for any other module.

    The name and the input are those of the weights that fit its number of parameters, where exactly one network fits.
    """
    family = family_of(module)
    return None if family is None else _described(module, family)


def _described(module: nn.Module, family: Family) -> BackboneView:
    side = getattr(module, "image_size", family.size)
    view = _view(
        module,
        name=f"torchvision/{type(module).__name__}",
        input=InputSpec(size=(side, side), resize=max(side, family.resize), fixed=family.fixed),
        weights="unknown",
    )
    found = _recognise(view, family)
    if found is None:
        return view
    name, weights = found
    spec = prepared(view.module, _input(weights, fixed=family.fixed))
    return replace(view, name=f"torchvision/{name}", input=spec)


def _recognise(view: BackboneView, family: Family) -> tuple[str, Any] | None:
    """Name and weights whose backbone has as many parameters as this one, if they are those of one network alone."""
    file = type(view.module).__module__
    names = [name for name in _names() if torchvision.models.get_model_builder(name).__module__ == file]
    if family.auxiliary:  # counted by torchvision in one of the two and not in the other; each is alone in its file
        return (names[0], _weights(names[0])[0]) if len(names) == 1 else None
    backbone = sum(view.module.get_parameter(name).numel() for stage in view.stages for name in stage.parameters)
    row = view.features[0].width + family.bias  # of the classifier: parameters a class
    found = {
        name: weights
        for name in names
        for weights in reversed(_weights(name))
        if weights.meta["num_params"] - row * len(weights.meta["categories"]) == backbone
    }
    return next(iter(found.items())) if len(found) == 1 else None
