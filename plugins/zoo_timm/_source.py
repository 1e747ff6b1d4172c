"""What timm offers, and one network with the weights of a tag."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import timm
from safetensors import safe_open
from timm.models import get_pretrained_cfg
from torch import nn

from zoo.errors import UnknownNameError, WeightsError, ZooError
from zoo.specs import BackboneEntry, BackboneView, Weights
from zoo_timm._accuracy import published
from zoo_timm._hub import fetch
from zoo_timm._view import view_of


@cache
def _names() -> tuple[str, ...]:
    return tuple(timm.list_models())


@cache
def _tags() -> dict[str, tuple[str, ...]]:
    """Pretrained tags of each architecture, the default first."""
    found: dict[str, list[str]] = {}
    for name in timm.list_pretrained():
        model, _, tag = name.partition(".")
        if tag:
            found.setdefault(model, []).append(tag)
    for model, tags in found.items():
        default = getattr(get_pretrained_cfg(model), "tag", None)
        tags.sort(key=lambda tag: tag != default)
    return {model: tuple(tags) for model, tags in found.items()}


def list_entries() -> Iterator[BackboneEntry]:
    """Every architecture, with what the configuration of its default weights says; builds none."""
    for name in _names():
        tags = _tags().get(name, ())
        cfg = get_pretrained_cfg(f"{name}.{tags[0]}" if tags else name)
        yield BackboneEntry(
            name=name,
            weights=tuple(_tagged(name, tag) for tag in tags),
            input_size=cfg.input_size[1] if cfg else None,
            family=timm.model_entrypoint(name).__module__.rpartition(".")[2],
        )


def _tagged(model: str, tag: str) -> Weights:
    cfg = get_pretrained_cfg(f"{model}.{tag}", allow_unregistered=False)
    assert cfg is not None  # noqa: S101  not with allow_unregistered=False; for the type checker
    url = cfg.url if isinstance(cfg.url, str | None) else cfg.url[0]
    return Weights(
        tag=tag,
        origin=f"hf-hub:{cfg.hf_hub_id}" if cfg.hf_hub_id else url or "",
        licence=cfg.license or "",
        input_size=cfg.input_size[1],
        top1=published().get(f"{model}.{tag}"),
    )


def build(model: str, tag: str | None) -> BackboneView:
    """The architecture `model` with the weights `tag`, or with random ones.

    Raises:
        UnknownNameError: timm has no such architecture.
        WeightsError: there is no such tag, or its file cannot be fetched or does not fit.
    """
    if model not in _names():
        raise UnknownNameError(f"timm has no architecture {model!r}")
    if tag is None:
        return view_of(_create(model, pretrained=False), name=model, weights="none")
    offered = _tags().get(model, ())
    if tag not in offered:
        listed = f"there are {', '.join(offered)}, and none for random ones" if offered else "there are none"
        raise WeightsError(f"timm/{model} has no weights {tag!r}; {listed}")
    file = fetch(model, tag)
    overlay: dict[str, Any] = {"file": str(file), "custom_load": False} if file else {}
    try:
        module = _create(f"{model}.{tag}", pretrained=True, pretrained_cfg_overlay=overlay)
    except ZooError:
        raise
    except Exception as error:  # a damaged file fails in as many ways as there are formats
        origin = file or getattr(get_pretrained_cfg(f"{model}.{tag}"), "url", None)
        raise WeightsError(
            f"the weights {tag} of timm/{model} could not be loaded from {origin}: {type(error).__name__}: {error}. "
            "Is there a network? Delete a damaged file, or start from random weights with --weights none"
        ) from error
    return view_of(module, name=model, weights=tag, notes=_untrained(module, file, tag))


def _create(name: str, **options: Any) -> nn.Module:
    module: nn.Module = timm.create_model(name, **options)
    return module


def _untrained(module: nn.Module, file: Path | None, tag: str) -> tuple[str, ...]:
    """A note of the parameters that the file lacks, for the networks that timm loads without strictness.

    timm loads every other network strictly as long as its number of classes stays, as it does here.
    """
    lenient = type(module).__module__ in ("timm.models.dla", "timm.models.mobilenetv5") or "fcmae" in tag
    if not lenient or file is None or file.suffix != ".safetensors":
        return ()
    with safe_open(file, framework="pt") as opened:
        held = set(opened.keys())
    missing = [name for name, _ in module.named_parameters() if name not in held]
    return (f"not among the weights, so untrained: {', '.join(missing)}",) if missing else ()
