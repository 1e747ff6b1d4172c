"""Answers to holes in covariates: one value for each column, learned from the training rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from zoo.hooks import hookimpl
from zoo.specs import FittedImputer, ImputerRecord, NoParameters, TrainView

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def _fit_mean(view: TrainView, parameters: NoParameters, generator: np.random.Generator) -> FittedImputer:
    from zoo_imputation._columns import fit_columns

    return fit_columns(view, numeric="mean")


def _fit_most_frequent(view: TrainView, parameters: NoParameters, generator: np.random.Generator) -> FittedImputer:
    from zoo_imputation._columns import fit_columns

    return fit_columns(view, numeric="most_frequent")


def _load(arrays: Mapping[str, NDArray[np.generic]], values: Mapping[str, Any]) -> FittedImputer:
    from zoo_imputation._columns import load_columns

    return load_columns(arrays, values)


@hookimpl
def zoo_imputers() -> Iterable[ImputerRecord]:
    """The imputers of this plugin; they draw nothing at random."""
    yield ImputerRecord(
        name="mean",
        fills="covariates",
        fit=_fit_mean,
        load=_load,
        summary="numbers by their column's mean, categories (which have none) by the most frequent one",
    )
    yield ImputerRecord(
        name="most-frequent",
        fills="covariates",
        fit=_fit_most_frequent,
        load=_load,
        summary="numbers and categories by their column's most frequent value",
    )
