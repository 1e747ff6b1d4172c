"""Whether a backbone can be cut in two where its freeze policies leave a boundary, as cells of a grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import torch

from zoo.features.calls import CutError
from zoo.features.cut import Cut, plan_cut
from zoo.features.suffix import check_cut
from zoo.grid.rows import Cell
from zoo.registry.digest import package_digest
from zoo.registry.lookup import SOURCES
from zoo.registry.tables import library_version
from zoo.specs import parse_policy
from zoo.testing.specimen import Specimen


def cut_cells(source: str, models: Sequence[str], *, real: Sequence[str] = ()) -> list[Cell]:
    """A cell for each backbone of a source; the two parts of those in `real` are compared with the whole by numbers."""
    library, its_version = library_version(SOURCES.get(source), SOURCES.home(source).distribution)
    context = {
        "backbone-zoo": version("backbone-zoo"),
        "torch": torch.__version__,
        library: its_version,
        "code": "".join(package_digest(f"zoo.features.{name}") for name in ("calls", "cut", "suffix")),
    }
    chosen = set(real)
    return [
        Cell(
            task=f"{__name__}:cut_backbone",
            parameters={"source": source, "model": model, "real": model in chosen},
            context=context,
        )
        for model in models
    ]


def cut_backbone(parameters: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """By policy, what crosses its boundary, or why there is no cut: before the last stage, the last two, half, all.

    Without `real` the boundary is planned on the meta device, where the network runs there; with it the two parts are
    compared with the whole network, features and gradients, in eval and in training mode.
    """
    torch.manual_seed(seed)
    specimen = Specimen(SOURCES.get(parameters["source"]), parameters["model"])
    specimen = specimen.on_the_cpu() if parameters["real"] else specimen
    stages = sum(stage.role != "neck" for stage in specimen.whole.stages)
    found = {}
    for count in sorted({1, 2, stages // 2, stages - 1}):
        if 1 <= count < stages:
            found[f"last({count})"] = _cut(specimen, f"last({count})", real=parameters["real"])
    return {"stages": stages, "device": specimen.device.type, "cuts": found}


def _cut(specimen: Specimen, policy: str, *, real: bool) -> dict[str, Any]:
    model, _ = specimen.frozen(policy)
    view = model.view
    parameters = parse_policy(policy).select(view).behind
    images = specimen.images(view).repeat(2, 1, 1, 1)[:3]
    if real:
        images = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))

    def run(module: torch.nn.Module, given: torch.Tensor) -> torch.Tensor:
        return view.extract(module, given, view.features[0].name)

    try:
        cut: Cut = plan_cut(view.module, run, parameters, images)
        if real:
            check_cut(cut, view.module, run, images[:2])
    except CutError as error:
        return {"why_not": str(error)}
    return {"crossings": list(cut.names), "numbers": cut.numbers}
