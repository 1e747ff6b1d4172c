"""Take a timm network's classifier off, put another on, and read the features that reach it.

timm's own `reset_classifier` throws pretrained layers away where the classifier sits behind them in one head (the
BatchNorm of LeViT, the first layer of an MLP head). Here the classifier's layer alone is replaced, wherever it can be.
"""

from __future__ import annotations

from contextlib import ExitStack

from torch import Tensor, nn

from zoo.errors import ZooError


def classifier_paths(module: nn.Module) -> tuple[str, ...]:
    """Paths of the classifier's layers; an ancestor's where timm took that off whole; empty for an encoder."""
    named = getattr(module, "pretrained_cfg", {}).get("classifier")
    paths = (named,) if isinstance(named, str) else tuple(named or ())
    if hasattr(module, "head_dist") and not any(path.startswith("head_dist") for path in paths):
        paths += tuple(path.replace("head", "head_dist", 1) for path in paths)  # timm forgets it for two LeViTs
    held = {name for name, child in module.named_modules() if name}
    found: list[str] = []
    for path in paths:
        while path and path not in held:
            path = path.rpartition(".")[0]
        if path and path not in found:
            found.append(path)
    return tuple(found)


def _parent(module: nn.Module, path: str) -> nn.Module:
    return module.get_submodule(path.rpartition(".")[0])


def _alone(module: nn.Module, path: str, paths: tuple[str, ...]) -> bool:
    """Whether nothing pretrained stands beside the classifier's layers in the parent of `path`."""
    parent = path.rpartition(".")[0]
    layers = tuple(f"{other}." for other in paths)
    return not parent or all(
        name.startswith(layers) for name, _ in module.get_submodule(parent).named_parameters(prefix=parent)
    )


def _in_place(module: nn.Module, paths: tuple[str, ...]) -> bool:
    """Whether the layers are replaced one by one; several without company are joined in ways that only timm knows."""
    return len(paths) == 1 or (len(paths) > 1 and not any(_alone(module, path, paths) for path in paths))


def width_of(module: nn.Module, paths: tuple[str, ...]) -> int:
    """Width of the pooled features."""
    if _in_place(module, paths):
        layer = module.get_submodule(paths[0])
        if isinstance(layer, nn.Linear):
            return layer.in_features
        if isinstance(layer, nn.Conv2d):
            return layer.in_channels
        beside = [] if _alone(module, paths[0], paths) else list(_parent(module, paths[0]).parameters())
        wide = [len(parameter) for parameter in beside if parameter.numel() > 1]  # some scales are single numbers
        if wide:  # the classifier is off; what stands before it tells
            return wide[-1]
    width: int = module.head_hidden_size  # type: ignore[assignment]
    return width


def pooled(module: nn.Module, images: Tensor) -> Tensor:
    """Features (B, width) as the classifier gets them, of images (B, C, H, W)."""
    paths = classifier_paths(module)
    if not paths or not _in_place(module, paths):
        output: Tensor = module.forward_head(module.forward_features(images), pre_logits=True)  # type: ignore[operator]
        return output
    with ExitStack() as stack:
        for path in paths:
            handle = module.get_submodule(path).register_forward_hook(lambda _, inputs, __: inputs[0])
            stack.callback(handle.remove)
        features: Tensor = module(images)
    return features


def reset_classifier(module: nn.Module, outputs: int) -> None:
    """Put a new classifier of `outputs` classes in place, or take it off where `outputs` is 0.

    Raises:
        ZooError: the network is an encoder, which timm gives no place for a classifier.
    """
    paths = classifier_paths(module)
    if not paths:
        if outputs:
            raise ZooError(
                f"timm's {type(module).__name__} is an encoder without a place for a classifier; "
                "take its features and put a head of your own behind them"
            )
        return
    if not _in_place(module, paths) or (outputs and all(_blank(module, path, paths) for path in paths)):
        module.reset_classifier(outputs)  # type: ignore[operator]
        return
    width = width_of(module, paths)
    for path in paths:
        module.set_submodule(path, _layer(module, path, width, outputs))
    if hasattr(module, "num_classes"):
        module.num_classes = outputs  # type: ignore[assignment]


def _blank(module: nn.Module, path: str, paths: tuple[str, ...]) -> bool:
    """Whether the classifier is off and stood alone, so that timm can make it anew and nothing is lost."""
    return isinstance(module.get_submodule(path), nn.Identity) and _alone(module, path, paths)


def _layer(module: nn.Module, path: str, width: int, outputs: int) -> nn.Module:
    if not outputs:
        return nn.Identity()
    old = module.get_submodule(path)
    like = next(module.parameters())
    bias = getattr(old, "bias", True) is not None
    if isinstance(old, nn.Conv2d) or (
        isinstance(old, nn.Identity) and getattr(_parent(module, path), "use_conv", False)
    ):
        return nn.Conv2d(width, outputs, 1, bias=bias, device=like.device, dtype=like.dtype)
    return nn.Linear(width, outputs, bias=bias, device=like.device, dtype=like.dtype)
