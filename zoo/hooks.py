"""The hooks that a plugin implements: one per kind of thing, each yields records and does nothing else.

A plugin is a package that names a module of itself as an entry point of the group `zoo`. In that module::

    from zoo.hooks import hookimpl
    from zoo.specs import HeadRecord

    @hookimpl
    def zoo_heads():
        yield HeadRecord(name="my-head", build=build_my_head)

Importing the module must be quick and must import no torch: heavy imports stand inside the functions of the records.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from zoo.specs.datasets import DatasetRecord
    from zoo.specs.generators import GeneratorRecord
    from zoo.specs.records import BackboneSource, HeadRecord, ImputerRecord, StrategyRecord

GROUP = "zoo"
"""The entry-point group of plugins, and the project name of the hooks."""

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def zoo_backbones() -> Iterable[BackboneSource]:  # type: ignore[empty-body]
    """Yield sources of backbones; called when a backbone is listed or built.

    Example::

        @hookimpl
        def zoo_backbones():
            yield BackboneSource(name="acme", entries=list_networks, build=build_network)
    """


@hookspec
def zoo_heads() -> Iterable[HeadRecord]:  # type: ignore[empty-body]
    """Yield kinds of heads; called when a head is built.

    Example::

        @hookimpl
        def zoo_heads():
            yield HeadRecord(name="cosine", build=lambda width, outputs, parameters: CosineHead(width, outputs))
    """


@hookspec
def zoo_imbalance_strategies() -> Iterable[StrategyRecord]:  # type: ignore[empty-body]
    """Yield answers to class imbalance; called when a run names one.

    Example::

        @hookimpl
        def zoo_imbalance_strategies():
            yield StrategyRecord(name="focal", build=focal_plan, parameters=Focal)
    """


@hookspec
def zoo_imputers() -> Iterable[ImputerRecord]:  # type: ignore[empty-body]
    """Yield answers to holes; called when the data have some.

    Example::

        @hookimpl
        def zoo_imputers():
            yield ImputerRecord(name="zero", fills="covariates", fit=fit_zero, load=load_zero)
    """


@hookspec
def zoo_generators() -> Iterable[GeneratorRecord]:  # type: ignore[empty-body]
    """Yield what makes rows of features, class by class; called when a strategy names one.

    Example::

        @hookimpl
        def zoo_generators():
            yield GeneratorRecord(name="acme-gaussian", fit=fit_gaussian)
    """


@hookspec
def zoo_datasets() -> Iterable[DatasetRecord]:  # type: ignore[empty-body]
    """Yield data sets that come with the plugin; called when DATA is not a path.

    Example::

        @hookimpl
        def zoo_datasets():
            yield DatasetRecord(name="elpv", load=load_elpv, licence="CC-BY-NC-SA-4.0")
    """


HOOKS = (
    "zoo_backbones",
    "zoo_heads",
    "zoo_imbalance_strategies",
    "zoo_imputers",
    "zoo_generators",
    "zoo_datasets",
)
