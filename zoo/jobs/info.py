"""One backbone in detail: built with random weights, without memory where that works, beside what its source states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from zoo.errors import PluginError, UnknownNameError
from zoo.jobs.filters import gmacs_of
from zoo.model.adapt import adapt_input
from zoo.model.view import build_view, find_entry, split_name
from zoo.registry.catalogue import CatalogueRow
from zoo.registry.licences import licence_class
from zoo.registry.lookup import SOURCES
from zoo.registry.near import suggest
from zoo.registry.origins import Disk, describe_origin, how_to_fetch
from zoo.specs import BackboneView, FreezePolicy, Weights, adapter_size, parse_policy


@dataclass(frozen=True, kw_only=True)
class StageInfo:
    """One stage of a backbone, for people; `share` is of the parameters of all stages."""

    name: str
    role: str
    parameters: int
    share: float
    trainable: int


@dataclass(frozen=True, kw_only=True)
class WeightsInfo:
    """One set of weights; see `zoo.specs.Weights`."""

    tag: str
    licence: str
    licence_class: str
    input_size: int | None
    top1: float | None
    on_disk: bool
    origin: str
    comes_from: str
    without_network: str


@dataclass(frozen=True, kw_only=True)
class Info:
    """What is known of one backbone.

    Attributes:
        tag: of the weights that are shown, named or default; None where there are none.
        distribution, version: what offers it; `library` and `library_version` say whose networks they are.
        gmacs: 1e9 multiply-accumulates at the input of these weights, None where nobody states it.
        input: as in `zoo.specs.InputSpec`; `of` says whose it is, `sizes` which other sizes the network takes.
        features: width of each kind, the default first.
        trainable_parameters: of the stages under `freeze`, without the head.
    """

    name: str
    source: str
    family: str
    distribution: str
    version: str
    library: str
    library_version: str
    tag: str | None
    tags: tuple[str, ...]
    licence: str
    licence_class: str
    weights: tuple[WeightsInfo, ...]
    parameters: int
    gmacs: float | None
    classifier: tuple[str, ...]
    classifier_parameters: int
    auxiliary_parameters: int
    input: dict[str, Any]
    features: dict[str, int]
    freeze: str
    trainable_parameters: int
    stages: tuple[StageInfo, ...]
    notes: tuple[str, ...]


def info(name: str, policy: str = "head", size: int | None = None) -> Info:
    """Describe a backbone.

    Args:
        name: `source/model` or `source/model.tag`.
        policy: the freeze policy that says what trains.
        size: height and width in pixels of the images that it is to take; None for those of the weights.

    Raises:
        ZooError: unknown name, tag or policy, or a size that the backbone cannot take.
    """
    parsed, row = parse_policy(policy), find_entry(name)
    named = split_name(name)[2]
    shown = _weights(row, named)
    view = _built(row.name) if size is None else _sized(row, shown, size)
    sizes = {key: parameter.numel() for key, parameter in view.module.named_parameters()}
    stages = _stages(view, parsed, sizes)
    weights = _weights_infos(row)
    own = next((each for each in weights if shown is not None and each.tag == shown.tag), None)
    return Info(
        name=f"{row.name}.{named}" if named else row.name,
        family=row.entry.family,
        **_offered_by(row),
        tag=own.tag if own else None,
        tags=row.entry.tags,
        licence=own.licence if own else "",
        licence_class=own.licence_class if own else "unstated",
        weights=weights,
        parameters=sum(sizes.values()),
        gmacs=gmacs_of(row, shown) if size in (None, row.entry.input_size) else None,
        classifier=view.classifier_modules,
        classifier_parameters=sum(sizes[parameter] for parameter in view.classifier),
        auxiliary_parameters=sum(sizes[parameter] for parameter in view.auxiliary),
        input=_input(view, row, shown if size is None else None),
        features={kind.name: kind.width for kind in view.features},
        freeze=policy,
        trainable_parameters=sum(stage.trainable for stage in stages),
        stages=stages,
        notes=view.notes,
    )


def _stages(view: BackboneView, policy: FreezePolicy, sizes: Mapping[str, int]) -> tuple[StageInfo, ...]:
    training = policy.select(view).parameters
    if policy.lora is not None:  # not of the weights, but of the matrices beside them
        own = {name: adapter_size(view.module.get_parameter(name), policy.lora.r) for name in training}
        trainable: Mapping[str, int] = own
    else:
        trainable = sizes
    counts = [sum(sizes[parameter] for parameter in stage.parameters) for stage in view.stages]
    return tuple(
        StageInfo(
            name=stage.name,
            role=stage.role,
            parameters=count,
            share=count / max(1, sum(counts)),
            trainable=sum(trainable[name] for name in stage.parameters if name in training),
        )
        for stage, count in zip(view.stages, counts, strict=True)
    )


def _weights(row: CatalogueRow, tag: str | None) -> Weights | None:
    """The weights of this tag, or the default ones where it is None."""
    for each in row.entry.weights:
        if tag in (None, each.tag):
            return each
    if tag is None:
        return None
    offered = ", ".join(row.entry.tags) or "none at all"
    raise UnknownNameError(f"{row.name} has no weights {tag!r}; it has {offered}{suggest(tag, row.entry.tags)}")


def _built(name: str) -> BackboneView:
    try:
        with torch.device("meta"):
            return build_view(name, "none")
    except PluginError:
        return build_view(name, "none")  # reads a tensor's value while it is built


def _sized(row: CatalogueRow, weights: Weights | None, size: int) -> BackboneView:
    """The backbone for images of this size, asked as loading asks: of its weights where they are at hand."""
    if weights is None or not Disk().holds(weights.origin):
        view = adapt_input(build_view(row.name, "none"), size=size)
        note = f"the size was tried on random weights; with those of {weights.tag} it may be refused" if weights else ""
        return replace(view, notes=(*view.notes, *([note] if note else [])))
    return adapt_input(build_view(row.name, weights.tag), size=size)


def _weights_infos(row: CatalogueRow) -> tuple[WeightsInfo, ...]:
    disk = Disk()
    return tuple(_weights_info(each, disk) for each in row.entry.weights)


def _weights_info(weights: Weights, disk: Disk) -> WeightsInfo:
    return WeightsInfo(
        tag=weights.tag,
        licence=weights.licence,
        licence_class=licence_class(weights.licence),
        input_size=weights.input_size,
        top1=weights.top1,
        on_disk=disk.holds(weights.origin),
        origin=weights.origin,
        comes_from=describe_origin(weights.origin),
        without_network=how_to_fetch(weights.origin),
    )


def _offered_by(row: CatalogueRow) -> dict[str, str]:
    library = SOURCES.get(row.source).library or row.distribution
    return {
        "source": row.source,
        "distribution": row.distribution,
        "version": _version(row.distribution),
        "library": library,
        "library_version": _version(library),
    }


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "(unknown)"


def _input(view: BackboneView, row: CatalogueRow, weights: Weights | None) -> dict[str, Any]:
    """The default input; where weights take another size, that size, with the rest marked as the default's."""
    spec = view.input
    stated: dict[str, Any] = {name: getattr(spec, name) for name in spec.__slots__}
    default = row.entry.tags[0] if row.entry.tags else "none"
    stated["of"] = default
    if weights is not None and weights.input_size not in (None, spec.size[0]):
        stated |= {"size": (weights.input_size, weights.input_size), "resize": None}
    # That it takes others is proved by a forward pass for one that is asked for, and never for all.
    sizes = "other sizes, --size tries one" if not spec.fixed else "no other size"
    stated["sizes"] = sizes if view.resize is None else "other sizes once its positions are interpolated"
    return stated
