"""The uniform view of a timm network, read off the network itself."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.specs import BackboneView, FeatureKind
from zoo_timm._classifier import classifier_paths, pooled, reset_classifier, width_of
from zoo_timm._input import input_layers, input_of, resize_of
from zoo_timm._stages import split


def describe(module: nn.Module) -> BackboneView | None:
    """The view of a network that timm built, whatever its number of classes; None for any other module."""
    cfg = getattr(module, "pretrained_cfg", None)
    if not isinstance(cfg, Mapping) or not hasattr(module, "forward_features") or not hasattr(module, "forward_head"):
        return None
    return view_of(module, name=str(cfg.get("architecture") or type(module).__name__), weights="unknown")


def view_of(module: nn.Module, *, name: str, weights: str, notes: tuple[str, ...] = ()) -> BackboneView:
    """The view of `module`, which timm built.

    Raises:
        ZooError: timm says nothing about the network's stages.
    """
    paths = classifier_paths(module)
    prefixes = tuple(f"{path}." for path in paths)
    classifier = tuple(name for name, _ in module.named_parameters() if name.startswith(prefixes))
    try:
        stages = split(module, paths)
    except ValueError as error:
        raise ZooError(f"timm/{name} cannot be divided into stages: {error}") from None
    cfg = module.pretrained_cfg
    spec, said = input_of(module)
    return BackboneView(
        name=f"timm/{name}",
        module=module,
        stages=stages,
        classifier=classifier,
        classifier_modules=paths,
        features=_kinds(module, width_of(module, paths)),
        input=spec,
        extract=extract,
        reset_classifier=reset_classifier,
        resize=resize_of(module),
        input_layers=input_layers(module),
        weights=weights,
        licence=str(cfg.get("license") or "") if weights not in ("none", "unknown") else "",  # type: ignore[union-attr, operator]
        notes=(*notes, *said),
    )


def _prefix(module: nn.Module) -> int | None:
    """Number of tokens before those of the patches; None where the network does not speak in tokens."""
    count = getattr(module, "num_prefix_tokens", None)
    return count if isinstance(count, int) else None


def _has_class_token(module: nn.Module) -> bool:
    owners = (module, getattr(module, "embeds", None))
    return any(isinstance(getattr(owner, "cls_token", None), Tensor) for owner in owners)


def _kinds(module: nn.Module, width: int) -> tuple[FeatureKind, ...]:
    if not classifier_paths(module):  # an encoder, which pools nothing itself
        return (FeatureKind(name="mean", width=width), FeatureKind(name="tokens", width=width))
    channels: int = module.num_features  # type: ignore[assignment]
    kinds = [FeatureKind(name="pooled", width=width)]
    if _prefix(module) is None:
        return tuple(kinds)
    if _has_class_token(module):
        kinds += [FeatureKind(name="cls", width=channels), FeatureKind(name="cls+mean", width=2 * channels)]
    kinds += [FeatureKind(name="mean", width=channels), FeatureKind(name="tokens", width=channels)]
    return tuple(kinds)


def extract(module: nn.Module, images: Tensor, kind: str) -> Tensor:
    """Features of `images` (B, C, H, W): (B, width), or (B, tokens, width) for `tokens`.

    Where the network normalises after it has pooled, features of every kind are normalised by that layer.
    """
    if kind not in [offered.name for offered in _kinds(module, 0)]:
        raise ValueError(f"{type(module).__name__} offers no {kind!r} features")
    if kind == "pooled":
        return pooled(module, images)
    prefix, tokens = _prefix(module) or 0, _tokens(module, images)
    norm = getattr(module, "fc_norm", None)
    if not isinstance(norm, nn.Module):
        norm = nn.Identity()
    if kind == "tokens":
        return torch.as_tensor(norm(tokens))
    parts = [tokens[:, 0]] if "cls" in kind else []
    parts += [tokens[:, prefix:].mean(1)] if "mean" in kind else []
    return torch.cat([norm(part) for part in parts], 1)


def _tokens(module: nn.Module, images: Tensor) -> Tensor:
    """All tokens (B, N, C); a few networks lay them out as a map, with channels last or first."""
    if classifier_paths(module):
        tokens: Tensor = module.forward_features(images)  # type: ignore[operator]
        width = module.num_features
    else:
        tokens, width = module(images), module.head_hidden_size  # an encoder's forward ends in its neck
    if tokens.ndim == 3:
        return tokens
    return tokens.flatten(1, 2) if tokens.shape[-1] == width else tokens.flatten(2).transpose(1, 2)
