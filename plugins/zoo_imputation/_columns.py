"""Fills each hole with one value of its column."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer

from zoo.specs import CovariateColumns, TrainView


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ColumnFill:
    """One value for each column, learned from the training rows.

    Attributes:
        numeric_names, categorical_names, categories: the columns it was fitted on, as in `CovariateColumns`.
        numeric: float64 (D,), what stands in for NaN, in raw units.
        categorical: int64 (E,), the code that stands in for -1.
    """

    numeric_names: tuple[str, ...]
    numeric: NDArray[np.float64]
    categorical_names: tuple[str, ...]
    categorical: NDArray[np.int64]
    categories: tuple[tuple[str, ...], ...]

    def transform(self, columns: CovariateColumns) -> CovariateColumns:
        """The same rows and columns with every hole filled; what was observed stays bit for bit.

        Raises:
            ValueError: other columns, another order or other categories than those it was fitted on.
        """
        for part in ("numeric_names", "categorical_names", "categories"):
            fitted, given = getattr(self, part), getattr(columns, part)
            if fitted != given:
                raise ValueError(f"the imputer was fitted on {part} {fitted}, not {given}")
        return dataclasses.replace(
            columns,
            numeric=np.where(np.isnan(columns.numeric), self.numeric, columns.numeric),
            categorical=np.where(columns.categorical == -1, self.categorical, columns.categorical),
        )

    def save(self) -> tuple[Mapping[str, NDArray[np.generic]], Mapping[str, Any]]:
        """Arrays and JSON values that `load_columns` takes back."""
        values = {
            "numeric_names": list(self.numeric_names),
            "categorical_names": list(self.categorical_names),
            "categories": [list(names) for names in self.categories],
        }
        return {"numeric": self.numeric, "categorical": self.categorical}, values


def load_columns(arrays: Mapping[str, NDArray[np.generic]], values: Mapping[str, Any]) -> ColumnFill:
    """The inverse of `ColumnFill.save`."""
    return ColumnFill(
        numeric_names=tuple(values["numeric_names"]),
        numeric=arrays["numeric"].astype(np.float64, copy=False),
        categorical_names=tuple(values["categorical_names"]),
        categorical=arrays["categorical"].astype(np.int64, copy=False),
        categories=tuple(tuple(names) for names in values["categories"]),
    )


def fit_columns(view: TrainView, *, numeric: Literal["mean", "most_frequent"]) -> ColumnFill:
    """Learn one value for each column; categories take the most frequent one, since they have no mean.

    Of equally frequent values the smallest is taken, of categories the first.

    Raises:
        ValueError: there are no covariates, or a column has no observed value among the training rows.
    """
    columns = view.covariates
    if columns is None:
        raise ValueError("there are no covariates to impute; leave the imputer out, or name covariate columns")
    _refuse_empty(columns.numeric_names, ~np.isnan(columns.numeric))
    _refuse_empty(columns.categorical_names, columns.categorical != -1)
    return ColumnFill(
        numeric_names=columns.numeric_names,
        numeric=_learn(columns.numeric, SimpleImputer(strategy=numeric)).astype(np.float64),
        categorical_names=columns.categorical_names,
        categorical=_learn(columns.categorical, SimpleImputer(strategy="most_frequent", missing_values=-1)).astype(
            np.int64
        ),
        categories=columns.categories,
    )


def _refuse_empty(names: tuple[str, ...], observed: NDArray[np.bool_]) -> None:
    for index, name in enumerate(names):
        if not observed[:, index].any():
            raise ValueError(f"column {name!r} has no observed value in the training rows; leave it out")


def _learn(values: NDArray[Any], imputer: SimpleImputer) -> NDArray[Any]:
    # scikit-learn takes no table without columns.
    learned: NDArray[Any] = imputer.fit(values).statistics_ if values.shape[1] else np.empty(0)
    return learned
