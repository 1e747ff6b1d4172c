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
from zoo_imputation._layout import Arrays, check_columns, training_columns


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
        check_columns(self, columns)
        return dataclasses.replace(
            columns,
            numeric=np.where(np.isnan(columns.numeric), self.numeric, columns.numeric),
            categorical=np.where(columns.categorical == -1, self.categorical, columns.categorical),
        )

    def save(self) -> tuple[Arrays, Mapping[str, Any]]:
        """Arrays and JSON values that `load_columns` takes back."""
        values = {
            "numeric_names": list(self.numeric_names),
            "categorical_names": list(self.categorical_names),
            "categories": [list(names) for names in self.categories],
        }
        return {"numeric": self.numeric, "categorical": self.categorical}, values


def load_columns(arrays: Arrays, values: Mapping[str, Any]) -> ColumnFill:
    """The inverse of `ColumnFill.save`."""
    return ColumnFill(
        numeric_names=tuple(values["numeric_names"]),
        numeric=arrays["numeric"].astype(np.float64, copy=False),
        categorical_names=tuple(values["categorical_names"]),
        categorical=arrays["categorical"].astype(np.int64, copy=False),
        categories=tuple(tuple(names) for names in values["categories"]),
    )


def fit_columns(view: TrainView, *, numeric: Literal["mean", "median", "most_frequent"]) -> ColumnFill:
    """Learn one value for each column; categories take the most frequent one, since they have no mean.

    Of equally frequent values the smallest is taken, of categories the first.

    Raises:
        ValueError: there are no covariates, or a column has no observed value among the training rows.
    """
    columns = training_columns(view)
    learned = _learn(columns.numeric, SimpleImputer(strategy=numeric)).astype(np.float64)
    return _fill_of(columns, learned, _most_frequent(columns.categorical))


def fit_constant(view: TrainView, *, value: float, category: str | None) -> ColumnFill:
    """The same number in every hole of a number, and `category` in every hole of a category, or the most frequent one.

    A column without any training value is filled too, unless it is to take its most frequent category.

    Raises:
        ValueError: there are no covariates, or a categorical column has no such category, or none to be frequent.
    """
    columns = training_columns(view, keep_empty=category is not None or not _empty_category(view))
    if category is None:
        codes = _most_frequent(columns.categorical)
    else:
        each = zip(columns.categorical_names, columns.categories, strict=True)
        codes = np.array([_code(category, name, known) for name, known in each], dtype=np.int64)
    return _fill_of(columns, np.full(len(columns.numeric_names), value), codes)


def _empty_category(view: TrainView) -> bool:
    return view.covariates is not None and bool((view.covariates.categorical == -1).all(axis=0).any())


def _code(category: str, name: str, known: tuple[str, ...]) -> int:
    if category not in known:
        raise ValueError(
            f"column {name!r} has no category {category!r} in the training rows; it has {', '.join(known)}"
        )
    return known.index(category)


def _fill_of(columns: CovariateColumns, numeric: NDArray[np.float64], categorical: NDArray[np.int64]) -> ColumnFill:
    return ColumnFill(
        numeric_names=columns.numeric_names,
        numeric=numeric,
        categorical_names=columns.categorical_names,
        categorical=categorical,
        categories=columns.categories,
    )


def _most_frequent(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    return _learn(codes, SimpleImputer(strategy="most_frequent", missing_values=-1)).astype(np.int64)


def _learn(values: NDArray[Any], imputer: SimpleImputer) -> NDArray[Any]:
    # scikit-learn takes no table without columns.
    learned: NDArray[Any] = imputer.fit(values).statistics_ if values.shape[1] else np.empty(0)
    return learned
