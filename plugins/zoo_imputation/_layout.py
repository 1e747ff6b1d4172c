"""Numbers and categories as one matrix, and back: what every imputer that looks across columns works on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.specs import CovariateColumns, TrainView

Matrix = NDArray[np.float64]
Mask = NDArray[np.bool_]
Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Layout:
    """How V columns become P numbers: a number standardised, a category one-hot; a hole is NaN in all of its numbers.

    Attributes:
        numeric_names, categorical_names, categories: the columns it was fitted on, as in `CovariateColumns`.
        mean, std: float64 (D,), of the observed training values of each numeric column; a deviation of 0 became 1.
        start: float64 (P,), mean of each number over the training rows in which it is observed: 0, or a share.
    """

    numeric_names: tuple[str, ...]
    categorical_names: tuple[str, ...]
    categories: tuple[tuple[str, ...], ...]
    mean: Matrix
    std: Matrix
    start: Matrix

    @property
    def blocks(self) -> tuple[slice, ...]:
        """The numbers of each of the V columns, numeric columns first."""
        widths = [1] * len(self.numeric_names) + [len(names) for names in self.categories]
        ends = np.cumsum(widths, dtype=np.int64).tolist()
        return tuple(slice(end - width, end) for end, width in zip(ends, widths, strict=True))

    def matrix(self, columns: CovariateColumns) -> Matrix:
        """The rows as float64 (N, P), NaN at holes.

        Raises:
            ValueError: other columns, another order or other categories than those it was fitted on.
        """
        check_columns(self, columns)
        scaled = (columns.numeric - self.mean) / self.std
        return np.concatenate([scaled, *_one_hot(columns)], axis=1)

    def holes(self, columns: CovariateColumns) -> Mask:
        """Bool (N, V), True where a value is missing."""
        return np.concatenate([np.isnan(columns.numeric), columns.categorical == -1], axis=1)

    def filled(self, columns: CovariateColumns, matrix: Matrix) -> CovariateColumns:
        """`columns` with their holes, and these alone, filled from a complete matrix; of categories the likeliest."""
        numbers = len(self.numeric_names)
        raw = matrix[:, :numbers] * self.std + self.mean
        codes = [matrix[:, block].argmax(axis=1) for block in self.blocks[numbers:]]
        likeliest = np.array(codes, dtype=np.int64).reshape(len(codes), len(columns)).T
        return dataclasses.replace(
            columns,
            numeric=np.where(np.isnan(columns.numeric), raw, columns.numeric),
            categorical=np.where(columns.categorical == -1, likeliest, columns.categorical),
        )

    def save(self) -> tuple[dict[str, NDArray[np.generic]], dict[str, Any]]:
        """Arrays and JSON values that `load_layout` takes back."""
        values = {
            "numeric_names": list(self.numeric_names),
            "categorical_names": list(self.categorical_names),
            "categories": [list(names) for names in self.categories],
        }
        return {"mean": self.mean, "std": self.std, "start": self.start}, values


def check_columns(fitted: Any, columns: CovariateColumns) -> None:
    """Refuse other columns, another order or other categories than those that `fitted` names."""
    for part in ("numeric_names", "categorical_names", "categories"):
        own, given = getattr(fitted, part), getattr(columns, part)
        if own != given:
            raise ValueError(f"the imputer was fitted on {part} {own}, not {given}")


def load_layout(arrays: Arrays, values: Mapping[str, Any]) -> Layout:
    """The inverse of `Layout.save`."""
    mean, std, start = (arrays[name].astype(np.float64, copy=False) for name in ("mean", "std", "start"))
    return Layout(
        numeric_names=tuple(values["numeric_names"]),
        categorical_names=tuple(values["categorical_names"]),
        categories=tuple(tuple(names) for names in values["categories"]),
        mean=mean,
        std=std,
        start=start,
    )


def training_columns(view: TrainView, *, keep_empty: bool = False) -> CovariateColumns:
    """The covariates of the training rows.

    Raises:
        ValueError: there are none, or, unless `keep_empty`, a column has no observed value among the training rows.
    """
    columns = view.covariates
    if columns is None:
        raise ValueError("there are no covariates to impute; leave the imputer out, or name covariate columns")
    if not keep_empty:
        _refuse_empty(columns.numeric_names, ~np.isnan(columns.numeric))
        _refuse_empty(columns.categorical_names, columns.categorical != -1)
    return columns


def learn_layout(view: TrainView) -> tuple[Layout, CovariateColumns]:
    """The layout of the training rows' covariates, and these.

    Raises:
        ValueError: there are none, or a column has no observed value among the training rows.
    """
    columns = training_columns(view)
    mean, std = np.nanmean(columns.numeric, axis=0), np.nanstd(columns.numeric, axis=0)
    # Relative to the mean: the deviation of equal numbers is not 0 but what rounding left.
    std = np.where(std > 1e-9 * np.abs(mean), std, 1.0)
    shares = [np.nanmean(block, axis=0) for block in _one_hot(columns)]
    layout = Layout(
        numeric_names=columns.numeric_names,
        categorical_names=columns.categorical_names,
        categories=columns.categories,
        mean=mean,
        std=std,
        start=np.concatenate([np.zeros(len(mean)), *shares]),
    )
    return layout, columns


def _one_hot(columns: CovariateColumns) -> list[Matrix]:
    """Of each categorical column float64 (N, categories), NaN at holes."""
    return [
        np.concatenate([np.eye(len(names)), np.full((1, len(names)), np.nan)])[columns.categorical[:, place]]
        for place, names in enumerate(columns.categories)
    ]


def _refuse_empty(names: tuple[str, ...], observed: Mask) -> None:
    for index, name in enumerate(names):
        if not observed[:, index].any():
            raise ValueError(f"column {name!r} has no observed value in the training rows; leave it out")
