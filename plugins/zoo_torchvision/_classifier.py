"""Take a torchvision network's classifier off, put another on, and read the features that reach it."""

from __future__ import annotations

from torch import Tensor, nn

from zoo.errors import ZooError
from zoo_torchvision._stages import Family, family_of


def _family(module: nn.Module) -> Family:
    family = family_of(module)
    if family is None:
        raise ZooError(f"{type(module).__name__} is not a classifier of torchvision")
    return family


def classifier_path(module: nn.Module, family: Family) -> str:
    """Path of the classifier; of its parent where the user has replaced that whole.

    Raises:
        ZooError: a user's replacement took pretrained layers away together with the classifier.
    """
    path = family.classifier
    parent = path.rpartition(".")[0]
    held = dict(module.named_modules())
    if family.lone and parent:
        others = [name for name, _ in held[parent].named_parameters(prefix=parent)] if parent in held else []
        pretrained = (f"{path}.", f"{parent}.pre_logits.")
        if path not in held or not all(name.startswith(pretrained) for name in others):
            return parent
    if path not in held:
        raise ZooError(
            f"this {type(module).__name__} has no {path}, where torchvision keeps its classifier; replace that layer "
            f"alone, not the whole of {parent or 'the network'}, which holds pretrained layers too"
        )
    return path


def pooled_width(module: nn.Module, parameters: tuple[str, ...]) -> int:
    """Width of the pooled features; `parameters` are those of the stages, in order."""
    return _family(module).width or int(module.get_parameter(parameters[-1]).shape[0])


def extract(module: nn.Module, images: Tensor, kind: str) -> Tensor:
    """Pooled features (B, width) of `images` (B, C, H, W); `kind` is `pooled`, or `cls`, which is the same in a ViT."""
    family = _family(module)
    if kind not in ("pooled", "cls") or (kind == "cls" and not family.class_token):
        raise ValueError(f"{type(module).__name__} offers no {kind!r} features")
    classifier = module.get_submodule(classifier_path(module, family))
    if isinstance(classifier, nn.Identity):
        output: Tensor = module(images)
        return output
    caught: list[Tensor] = []
    handle = classifier.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    try:
        module(images)
    finally:
        handle.remove()
    return module.get_submodule("classifier.3")(caught[0]).flatten(1) if family.conv else caught[0]


def reset_classifier(module: nn.Module, outputs: int, width: int) -> None:
    """Put a new classifier of `outputs` classes on pooled features of `width`, or take it off where `outputs` is 0.

    Auxiliary classifiers get as many classes, or go with the classifier. SqueezeNet's ReLU on the logits goes too.
    """
    family = _family(module)
    path = classifier_path(module, family)
    module.set_submodule(path, _layer(module, module.get_submodule(path), family, width, outputs))
    if family.conv:
        module.set_submodule("classifier.2", nn.Identity())
    for name, layer in family.auxiliary:
        auxiliary = getattr(module, name, None)
        if isinstance(auxiliary, nn.Module):
            if outputs:
                old = auxiliary.get_submodule(layer)
                auxiliary.set_submodule(layer, _layer(module, old, family, int(old.in_features), outputs))  # type: ignore[arg-type]
            else:
                remove_auxiliary(module)
                return


def remove_auxiliary(module: nn.Module) -> None:
    """Take auxiliary classifiers off, so that the network in training mode gives logits and nothing else."""
    family = _family(module)
    for name, _ in family.auxiliary:
        setattr(module, name, None)
    if family.auxiliary:
        module.aux_logits = False  # type: ignore[assignment]


def _layer(module: nn.Module, old: nn.Module, family: Family, width: int, outputs: int) -> nn.Module:
    if not outputs:
        return nn.Identity()
    like = next(module.parameters())
    if isinstance(old, nn.Conv2d) or family.conv:
        return nn.Conv2d(width, outputs, 1, device=like.device, dtype=like.dtype)
    bias = old.bias is not None if isinstance(old, nn.Linear) else family.bias
    return nn.Linear(width, outputs, bias=bias, device=like.device, dtype=like.dtype)
