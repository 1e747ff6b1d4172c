"""Covariates beside the image: kinds and categories fixed from training rows, holes marked, encoded for a head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from zoo.data.labels import natural_order
from zoo.data.table import Table
from zoo.errors import DataError
from zoo.specs import CovariateColumns

CovariateKind = Literal["numeric", "categorical"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CovariateSchema:
    """Which covariates there are and what they may hold, fixed from the training rows.

    Attributes:
        names: of the columns, in the order of the roles.
        kinds: of each column, `numeric` or `categorical`.
        categories: of each categorical column, in natural order, in the order of the columns.
    """

    names: tuple[str, ...]
    kinds: tuple[CovariateKind, ...]
    categories: tuple[tuple[str, ...], ...]

    def of_kind(self, kind: CovariateKind) -> tuple[str, ...]:
        """Names of the columns of this kind, in order."""
        return tuple(name for name, own in zip(self.names, self.kinds, strict=True) if own == kind)


def fix_schema(table: Table, train_rows: NDArray[np.int64]) -> CovariateSchema | None:
    """The schema of the table's covariates; None where it has none.

    Numbers are numeric, and so is text whose every training value is a number; all else is categorical.

    Raises:
        DataError: a covariate without any value in the training rows.
    """
    names = table.roles.covariates
    if not names:
        return None
    kinds: list[CovariateKind] = []
    categories = []
    for name in names:
        seen = table.frame[name][train_rows].drop_nulls()
        if seen.is_empty():
            raise DataError(f"covariate {name!r} has no value in the {len(train_rows)} training rows; leave it out")
        kinds.append("numeric" if _is_numeric(seen) else "categorical")
        if kinds[-1] == "categorical":
            categories.append(tuple(natural_order(seen.cast(pl.String).unique().to_list())))
    return CovariateSchema(names=names, kinds=tuple(kinds), categories=tuple(categories))


def _is_numeric(seen: pl.Series) -> bool:
    if seen.dtype == pl.String:
        # Infinity is a number, if no usable one: such a cell is a hole, and its column not one of categories.
        return seen.str.strip_chars().cast(pl.Float64, strict=False).null_count() == 0
    return seen.dtype.is_numeric()


def _numbers(series: pl.Series) -> NDArray[np.float64]:
    """float64 (N,), NaN where a cell is a hole or no finite number."""
    if series.dtype == pl.String:
        series = series.str.strip_chars()
    values = series.cast(pl.Float64, strict=False).to_numpy().astype(np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def blank_cells(series: pl.Series) -> NDArray[np.bool_]:
    """Bool (N,): cells of any column that hold nothing, or, among numbers, one that is not finite."""
    if _is_numeric(series.drop_nulls()):
        return np.isnan(_numbers(series))
    return np.asarray(series.is_null().to_numpy(), dtype=bool)


def columns(table: Table, schema: CovariateSchema) -> tuple[CovariateColumns, tuple[str, ...]]:
    """The covariates of all N rows in raw units, NaN and -1 at holes, and a sentence for each surprise.

    What the schema does not know counts as a hole and is told: a category never seen in training, a cell of a numeric
    column that is no number, a column that the table lacks.
    """
    said: list[str] = []
    numeric_names, categorical_names = schema.of_kind("numeric"), schema.of_kind("categorical")
    numeric = [_numeric(table, name, said) for name in numeric_names]
    categorical = [
        _categorical(table, name, known, said) for name, known in zip(categorical_names, schema.categories, strict=True)
    ]
    made = CovariateColumns(
        numeric_names=numeric_names,
        numeric=np.array(numeric, dtype=np.float64).reshape(len(numeric), len(table)).T.copy(),
        categorical_names=categorical_names,
        categorical=np.array(categorical, dtype=np.int64).reshape(len(categorical), len(table)).T.copy(),
        categories=schema.categories,
    )
    return made, tuple(said)


def _column(table: Table, name: str, said: list[str]) -> pl.Series:
    if name in table.frame.columns:
        return table.frame[name]
    said.append(f"the table has no column {name!r}: every row counts as a hole of this covariate")
    return pl.Series(name, [None] * len(table), dtype=pl.String)


def _numeric(table: Table, name: str, said: list[str]) -> NDArray[np.float64]:
    series = _column(table, name, said)
    values = _numbers(series)
    strange = np.isnan(values) & series.is_not_null().to_numpy()
    if strange.any():
        first = series[int(np.flatnonzero(strange)[0])]
        said.append(f"covariate {name!r}: {int(strange.sum())} cells are no numbers, such as {first!r}; taken as holes")
    return values


def _categorical(table: Table, name: str, known: tuple[str, ...], said: list[str]) -> NDArray[np.int64]:
    texts = _column(table, name, said).cast(pl.String).to_list()
    index: dict[str | None, int] = {category: code for code, category in enumerate(known)}
    codes = np.array([index.get(text, -1) for text in texts], dtype=np.int64)
    unseen = natural_order({text for text in texts if text is not None} - set(known))
    if unseen:
        count = sum(text is not None and text not in index for text in texts)
        listed = ", ".join(map(repr, unseen[:5])) + (f" and {len(unseen) - 5} more" if len(unseen) > 5 else "")
        said.append(
            f"covariate {name!r}: {count} cells hold categories not seen in training ({listed}); taken as holes"
        )
    return codes


@dataclass(frozen=True, kw_only=True, slots=True)
class CovariateEncoder:
    """From complete covariates to the numbers that a head takes: standardised, and one-hot.

    Attributes:
        schema: the columns it was fitted on.
        mean, std: of each numeric column over the imputed training rows; a std of 0 became 1.
        indicators: whether a column of 0 and 1 for each covariate says where it was missing; for all of them, so that
            one which is complete in training may have holes later.
    """

    schema: CovariateSchema
    mean: tuple[float, ...]
    std: tuple[float, ...]
    indicators: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Of the C encoded columns: numeric ones first, then `column=category`, then `missing(column)`."""
        categorical = zip(self.schema.of_kind("categorical"), self.schema.categories, strict=True)
        hot = [f"{name}={category}" for name, categories in categorical for category in categories]
        numeric = self.schema.of_kind("numeric")
        marks = [f"missing({name})" for name in (*numeric, *self.schema.of_kind("categorical"))]
        return (*numeric, *hot, *(marks if self.indicators else ()))

    @property
    def width(self) -> int:
        """Number of encoded columns, C."""
        marks = len(self.schema.names) if self.indicators else 0
        return len(self.mean) + sum(map(len, self.schema.categories)) + marks

    def encode(self, columns: CovariateColumns, missing: NDArray[np.bool_] | None = None) -> torch.Tensor:
        """Encode N rows as float32 (N, C).

        Args:
            columns: without holes.
            missing: bool (N, D), what was filled, as `missing_cells` gives it; needed where there are indicators.

        Raises:
            DataError: a hole is left.
            ValueError: columns of another schema, or nothing said of what is missing.
        """
        _check_complete(columns)
        own = (self.schema.of_kind("numeric"), self.schema.of_kind("categorical"), self.schema.categories)
        if own != (columns.numeric_names, columns.categorical_names, columns.categories):
            raise ValueError(f"columns {columns.numeric_names + columns.categorical_names} for {self.schema.names}")
        scaled = (columns.numeric - np.array(self.mean)) / np.array(self.std)
        hot = [
            np.eye(len(categories))[columns.categorical[:, place]]
            for place, categories in enumerate(columns.categories)
        ]
        if not self.indicators:
            return torch.from_numpy(np.concatenate([scaled, *hot], axis=1).astype(np.float32))
        if missing is None:
            raise ValueError("this encoder marks what was missing; say what was")
        return torch.from_numpy(np.concatenate([scaled, *hot, missing], axis=1).astype(np.float32))

    def to_json(self) -> dict[str, Any]:
        """Its state as JSON values."""
        schema = self.schema
        return {
            "names": list(schema.names),
            "kinds": list(schema.kinds),
            "categories": [list(categories) for categories in schema.categories],
            "mean": list(self.mean),
            "std": list(self.std),
            "indicators": self.indicators,
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> CovariateEncoder:
        """The inverse of `to_json`."""
        schema = CovariateSchema(
            names=tuple(state["names"]),
            kinds=tuple(state["kinds"]),
            categories=tuple(tuple(categories) for categories in state["categories"]),
        )
        # Runs of the first releases say nothing of indicators and have none.
        marks = bool(state.get("indicators", False))
        return cls(schema=schema, mean=tuple(state["mean"]), std=tuple(state["std"]), indicators=marks)


def missing_cells(raw: CovariateColumns) -> NDArray[np.bool_]:
    """Bool (N, D), True at holes; numeric columns first."""
    return np.concatenate([np.isnan(raw.numeric), raw.categorical < 0], axis=1)


def _check_complete(columns: CovariateColumns) -> None:
    holes = missing_cells(columns)
    if holes.any():
        names = (*columns.numeric_names, *columns.categorical_names)
        listed = ", ".join(f"{name} ({count})" for name, count in zip(names, holes.sum(axis=0), strict=True) if count)
        raise DataError(
            f"covariates have holes in {int(holes.any(axis=1).sum())} of {len(columns)} rows: {listed}; "
            "choose what fills them with --impute covariates=NAME"
        )


def fit_encoder(schema: CovariateSchema, complete: CovariateColumns, *, indicators: bool = False) -> CovariateEncoder:
    """Learn mean and std (population) of each numeric column from the training rows, after their holes were filled.

    Raises:
        DataError: a hole is left.
    """
    _check_complete(complete)
    mean, std = complete.numeric.mean(axis=0), complete.numeric.std(axis=0)
    return CovariateEncoder(
        schema=schema,
        mean=tuple(mean.tolist()),
        # Relative to the mean: the deviation of equal numbers is not 0 but what rounding left.
        std=tuple(np.where(std > 1e-9 * np.abs(mean), std, 1.0).tolist()),
        indicators=indicators,
    )
