"""The checks as cells of a grid: one process for each backbone, and one for everything else that a plugin offers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from zoo.grid.rows import Cell
from zoo.registry.catalogue import installed
from zoo.registry.digest import package_digest
from zoo.registry.lookup import SOURCES
from zoo.registry.plugins import Plugin, find_plugins
from zoo.registry.tables import library_version
from zoo.specs import BackboneSource
from zoo.testing.backbones import backbone_checks
from zoo.testing.check import perform
from zoo.testing.collect import own_checks
from zoo.testing.specimen import Specimen

CHECKED = ("zoo.specs", "zoo.registry", "zoo.data", "zoo.model", "zoo.training", "zoo.testing")
"""Packages of ours whose code decides how a check ends."""


def backbone_cells(plugin: Plugin, source: str, models: Sequence[str]) -> list[Cell]:
    """A cell for each backbone of a source."""
    context = _context(plugin, SOURCES.get(source))
    task = f"{__name__}:check_backbone"
    return [Cell(task=task, parameters={"source": source, "model": model}, context=context) for model in models]


def plugin_cell(plugin: Plugin) -> Cell:
    """The cell of everything that a plugin offers but its backbones.

    Whatever is installed beside it may claim its names, or be what it lacks.
    """
    parameters = {"plugin": plugin.name, "distribution": plugin.distribution}
    beside = hashlib.blake2b("\n".join(installed()).encode(), digest_size=8).hexdigest()
    context = {**_context(plugin, None), "installed": beside}
    return Cell(task=f"{__name__}:check_plugin", parameters=parameters, context=context)


def check_backbone(parameters: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Results of every check of one backbone, and the facts of it that only a built network tells."""
    del seed  # checks draw nothing that it would change
    source = SOURCES.get(parameters["source"])
    specimen = Specimen(source, parameters["model"])
    excluded = source.exclusions.get(specimen.model)
    results = [perform(check, excluded) for check in backbone_checks(source, specimen.model, specimen)]
    try:
        facts = measure(specimen)
    except Exception:
        facts = None
    return {"device": specimen.device.type, "results": [asdict(result) for result in results], "facts": facts}


def check_plugin(parameters: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Results of every check of a plugin that concerns no single backbone."""
    del seed
    (plugin,) = find_plugins(f"{parameters['distribution']}:{parameters['plugin']}")
    return {"results": [asdict(perform(check)) for check in own_checks(plugin)]}


def measure(specimen: Specimen) -> dict[str, Any]:
    """Parameters, 1e9 multiply-accumulates of one image at the default input, and kinds of features."""
    view = specimen.whole
    with FlopCounterMode(display=False) as counter:  # with gradients: attention's fused inference path hides its work
        view.extract(view.module, specimen.images(view)[:1], view.features[0].name)
    gmacs = counter.get_total_flops() / 2e9
    return {
        "parameters": sum(parameter.numel() for parameter in view.module.parameters()),
        # Four digits behind the point, and of what is smaller three that tell something.
        "gmacs": float(f"{gmacs:.4f}" if gmacs >= 0.1 else f"{gmacs:.3g}"),
        "features": [kind.name for kind in view.features],
    }


def _context(plugin: Plugin, source: BackboneSource | None) -> dict[str, str]:
    table = source.table if source else None  # it is made of what is found
    digests = [package_digest(package, without=table) for package in (*CHECKED, plugin.module.partition(".")[0])]
    found = {
        "backbone-zoo": version("backbone-zoo"),
        "torch": torch.__version__,
        plugin.distribution: plugin.version,
        "code": hashlib.blake2b("".join(digests).encode(), digest_size=8).hexdigest(),
    }
    if source is not None:
        library, its_version = library_version(source, plugin.distribution)
        found[library] = its_version
    return found
