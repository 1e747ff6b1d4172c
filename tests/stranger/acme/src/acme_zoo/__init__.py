"""The hooks of acme-zoo."""

from __future__ import annotations

from collections.abc import Iterable

from acme_zoo._backbone import build, convert, list_entries
from acme_zoo._columns import fit_constant, load_constant
from acme_zoo._strategy import RareFirst, rare_first
from zoo.hooks import hookimpl
from zoo.specs import BackboneSource, ImputerRecord, StrategyRecord


@hookimpl
def zoo_backbones() -> Iterable[BackboneSource]:
    """Networks that look at patches."""
    yield BackboneSource(
        name="acme", entries=list_entries, build=build, convert=convert, summary="networks of patches, 8 and 16 pixels"
    )


@hookimpl
def zoo_imbalance_strategies() -> Iterable[StrategyRecord]:
    """Weights that favour rare classes."""
    yield StrategyRecord(
        name="acme-rare-first", build=rare_first, parameters=RareFirst, summary="inverse frequency, up to a limit"
    )


@hookimpl
def zoo_imputers() -> Iterable[ImputerRecord]:
    """The smallest value of each column."""
    yield ImputerRecord(
        name="acme-smallest",
        fills="covariates",
        fit=fit_constant,
        load=load_constant,
        summary="numbers by their column's smallest, categories by the first one",
    )
