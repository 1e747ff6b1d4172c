"""From a name to a built network and its uniform view, and from a network to the view that its source has of it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

from torch import nn

from zoo.errors import UnknownNameError, WeightsError, ZooError
from zoo.model.channels import plain_in, with_plain
from zoo.model.checkpoint import is_file
from zoo.model.weights import load_weights
from zoo.registry.catalogue import CatalogueRow, catalogue
from zoo.registry.guard import fault, guarded, view_fault
from zoo.registry.lookup import SOURCES
from zoo.registry.near import suggest, suggest_models
from zoo.registry.plugins import Plugin
from zoo.specs import BackboneSource, BackboneView


def split_name(name: str) -> tuple[str, str, str | None]:
    """`source/model.tag` as source (empty where there is none), model, and tag or None."""
    source, _, rest = name.rpartition("/")
    model, _, tag = rest.partition(".")
    return source, model, tag or None


def find_entry(name: str) -> CatalogueRow:
    """The catalogue's row for `source/model` or `source/model.tag`.

    Raises:
        UnknownNameError: no source of that name, or no such model; suggests close names.
        NameClashError: two distributions claim the source.
    """
    source, model, _ = split_name(name)
    rows = catalogue().rows
    if not source:
        homes = [row.name for row in rows if row.entry.name == model]
        hint = suggest_models(model, homes or [row.name for row in rows])
        raise UnknownNameError(f"backbone {name!r} names no source; say source/model, as in timm/resnet50{hint}")
    SOURCES.get(source)
    bare = source.rpartition(":")[2]
    for row in rows:
        # In the catalogue a source that two distributions claim bears its distribution's name before its own.
        if row.source in (source, bare) and row.entry.name == model:
            return row
    own = [row.name for row in rows if row.source in (source, bare)]
    hint = suggest(f"{bare}/{model}", own or [row.name for row in rows])
    raise UnknownNameError(f"{bare} has no backbone {model!r}; `zoo list {bare}/` shows what it has{hint}")


def build_view(name: str, weights: str | None = None) -> BackboneView:
    """Build a backbone and check the view that its source has of it.

    Args:
        name: `source/model` or `source/model.tag`.
        weights: a tag, a file of weights or the folder of a run, `none` for random weights, or None for the tag in the
            name or the default one. A tag goes before a file of the same name.

    Raises:
        UnknownNameError: unknown source, model or tag.
        WeightsError: the weights cannot be had, or a file does not fit.
        PluginError: the source broke, or gave a view that does not hold.
    """
    row = find_entry(name)
    source, _, tag = split_name(name)
    if tag and weights and weights != tag:
        raise ZooError(f"{name} names the weights {tag!r} and --weights says {weights!r}; give one of them")
    record = SOURCES.get(source)
    if weights and (is_file(weights) or _is_here(weights, row)):
        view = with_plain(_built(row, record, None), plain_in(Path(weights)))
        return load_weights(view, Path(weights), record.convert)
    wanted = _tag(row, weights or tag)
    return _built(row, record, None if wanted == "none" else wanted)


def _built(row: CatalogueRow, source: BackboneSource, tag: str | None) -> BackboneView:
    """The source's view, named as the catalogue names it: with its distribution where two claim the source's name."""
    home, what = SOURCES.home(row.source), f"backbone {row.entry.name}"
    with guarded(home, what):
        view = source.build(row.entry.name, tag)
    if not isinstance(view, BackboneView):
        raise fault(home, what, f"build gave {view!r}, which is no BackboneView")
    view = dataclasses.replace(view, name=row.name)
    check_view(view)
    if view.weights != (tag or "none"):
        said = f"it was asked for the weights {tag or 'none'!r} and gave a view that says {view.weights!r}"
        raise fault(home, what, said)
    return view


def _is_here(weights: str, row: CatalogueRow) -> bool:
    """Whether a word that is no tag of this backbone names something in the current directory."""
    return weights != "none" and weights not in row.entry.tags and Path(weights).exists()


def _tag(row: CatalogueRow, asked: str | None) -> str:
    wanted = asked or (row.entry.tags[0] if row.entry.tags else None)
    if wanted is None:
        raise WeightsError(f"{row.name} has no pretrained weights; say weights none (--weights none) for random ones")
    if wanted != "none" and wanted not in row.entry.tags:
        offered = ", ".join(row.entry.tags) or "none at all"
        raise UnknownNameError(
            f"{row.name} has no weights {wanted!r}; it has {offered}{suggest(wanted, row.entry.tags)}"
        )
    return wanted


def describe(module: nn.Module) -> BackboneView:
    """The view of a network that you built yourself.

    Raises:
        ZooError: no installed source knows it.
    """
    for plugin, source in SOURCES.items():
        view = _described(plugin, source, module)
        if view is not None:
            check_view(view)
            return view
    known = ", ".join(source.name for _, source in SOURCES.items() if source.describe)
    raise ZooError(f"no installed source knows a {type(module).__qualname__}; networks of these are known: {known}")


def _described(plugin: Plugin, source: BackboneSource, module: nn.Module) -> BackboneView | None:
    with guarded(plugin, f"source {source.name}, asked to describe a {type(module).__qualname__}"):
        return source.describe(module) if source.describe else None


def check_view(view: BackboneView) -> None:
    """Stages, classifier and auxiliary classifiers hold every parameter exactly once, and features are declared.

    Raises:
        PluginError: they do not; names what is wrong.
    """
    held = Counter(name for stage in view.stages for name in stage.parameters)
    held.update(view.classifier)
    held.update(view.auxiliary)
    there = {name for name, _ in view.module.named_parameters()}
    wrong = {
        "lie in no stage": there - held.keys(),
        "are not in the network": held.keys() - there,
        "lie in two places": {name for name, count in held.items() if count > 1},
    }
    for what, names in wrong.items():
        if names:
            raise view_fault(view.name, f"its view is wrong: {', '.join(sorted(names)[:5])} {what}")
    if not view.stages or not view.features:
        raise view_fault(view.name, f"its view has no {'features' if view.stages else 'stages'}")
    if len(set(view.stage_names)) != len(view.stages):
        raise view_fault(view.name, f"two stages have one name: {', '.join(view.stage_names)}")
