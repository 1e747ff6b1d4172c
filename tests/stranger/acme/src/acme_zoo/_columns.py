"""One value for each column."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoo.specs import CovariateColumns, NoParameters, TrainView

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Smallest:
    """The smallest number of each numeric column; the first category serves for every other one."""

    numeric: NDArray[np.generic]

    def transform(self, columns: CovariateColumns) -> CovariateColumns:
        """The same rows without holes."""
        import numpy as np

        return dataclasses.replace(
            columns,
            numeric=np.where(np.isnan(columns.numeric), self.numeric, columns.numeric),
            categorical=np.where(columns.categorical < 0, 0, columns.categorical),
        )

    def save(self) -> tuple[Mapping[str, NDArray[np.generic]], Mapping[str, Any]]:
        """Arrays and JSON values."""
        return {"numeric": self.numeric}, {}


def fit_constant(view: TrainView, parameters: NoParameters, generator: np.random.Generator) -> Smallest:
    """Learn from the training rows."""
    import numpy as np

    columns = view.covariates
    if columns is None:
        raise ValueError("there are no covariates")
    for name, values in zip(columns.numeric_names, columns.numeric.T, strict=True):
        if np.isnan(values).all():
            raise ValueError(f"{name} has no value")
    for name, codes in zip(columns.categorical_names, columns.categorical.T, strict=True):
        if (codes < 0).all():
            raise ValueError(f"{name} has no value")
    smallest = [np.nanmin(values) for values in columns.numeric.T]
    return Smallest(numeric=np.array(smallest, dtype=np.float64))


def load_constant(arrays: Mapping[str, NDArray[np.generic]], values: Mapping[str, Any]) -> Smallest:
    """The inverse of `Smallest.save`."""
    return Smallest(numeric=arrays["numeric"])
