"""Tables with holes to try imputers on, split as a run splits them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from zoo.data.covariates import columns, fix_schema
from zoo.data.splits import Splits, make_splits, training_view
from zoo.data.table import Table
from zoo.data.tasks import fix_tasks
from zoo.registry.lookup import IMPUTERS
from zoo.specs import CovariateColumns, FittedImputer, ImputerRecord, Roles, TrainView
from zoo.specs.training import SPLITTERS_SEAL
from zoo.testing.check import require
from zoo.testing.parameters import default_setting

NUMERIC = ("age", "mass", "count")
CATEGORICAL = ("kind", "site")
TRAIN, HELD_OUT = 60, 24
_EXACT = (-0.0, 1 / 3, 16777217.0, 123456.789)
"""Numbers that a detour over float32, text or rounding would change."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One table, split.

    Attributes:
        view: of the training rows, made by the splitter.
        train, held_out: covariates of these rows, with holes; the first row of each has no value at all.
    """

    table: Table
    splits: Splits
    view: TrainView
    train: CovariateColumns
    held_out: CovariateColumns

    @property
    def empty_rows(self) -> CovariateColumns:
        """Three rows without any value."""
        given = self.held_out
        shapes = (3, len(given.numeric_names)), (3, len(given.categorical_names))
        return replace(given, numeric=np.full(shapes[0], np.nan), categorical=np.full(shapes[1], -1, dtype=np.int64))

    def without(self, name: str) -> Sample:
        """The same where no training row has a value of the column `name`."""
        train = replace(self.train, numeric=self.train.numeric.copy(), categorical=self.train.categorical.copy())
        if name in train.numeric_names:
            train.numeric[:, train.numeric_names.index(name)] = np.nan
        else:
            train.categorical[:, train.categorical_names.index(name)] = -1
        return replace(self, train=train, view=_view(self.table, self.splits, train))


def draw_sample(names: tuple[str, ...], held_out: int = 0) -> Sample:
    """A table whose training rows are always the same, and whose held-out rows differ with the number `held_out`."""
    training, rest = _rows(TRAIN, seed=1, scale=1.0), _rows(HELD_OUT, seed=2 + held_out, scale=1.0 + 20.0 * held_out)
    frame = pl.DataFrame({name: [*training[name], *rest[name]] for name in training}, strict=False)
    # Training rows do not come first: positions, not order, must say which they are.
    frame = frame.with_columns(split=pl.Series(["train"] * TRAIN + ["test"] * HELD_OUT))
    frame = frame[np.random.default_rng(3).permutation(len(frame))]
    table = Table(
        name="sample", frame=frame, roles=Roles(targets=("t",), covariates=names, split="split"), root=Path("/nowhere")
    )
    splits = make_splits(table, np.ones(len(table), dtype=bool), val=0.0)
    schema = fix_schema(table, splits.train)
    assert schema is not None  # noqa: S101  for the type checker: there are covariates
    train = columns(table.take(splits.train), schema)[0]
    tested = columns(table.take(splits.test), schema)[0]
    return Sample(
        table=table, splits=splits, view=_view(table, splits, train), train=train, held_out=_first_row_empty(tested)
    )


def _view(table: Table, splits: Splits, train: CovariateColumns) -> TrainView:
    return training_view(table, splits, fix_tasks(table, splits.train), train)


def _first_row_empty(given: CovariateColumns) -> CovariateColumns:
    given.numeric[0], given.categorical[0] = np.nan, -1
    return given


def _rows(count: int, *, seed: int, scale: float) -> dict[str, list[Any]]:
    """Numbers and categories that depend on one another, about one cell in seven missing."""
    random = np.random.default_rng(seed)
    age = random.normal(40.0, 12.0, count) * scale
    age[: len(_EXACT)] = _EXACT
    numbers = {"age": age, "mass": 0.5 * age + random.normal(50.0, 5.0, count), "count": random.poisson(3, count) + 1.0}
    kinds = np.array(["mono", "poly", "thin film"])[(random.random(count) * 3).astype(int)]
    sites = np.where(numbers["mass"] > 70.0, "north", "south")
    found: dict[str, list[Any]] = {name: values.tolist() for name, values in numbers.items()}
    found |= {"kind": kinds.tolist(), "site": sites.tolist()}
    for values in found.values():
        for row in np.flatnonzero(random.random(count) < 0.15).tolist():
            values[row] = values[row] if row < len(_EXACT) else None
        values[-1] = None  # one row has no value at all
    return found | {"image": [f"{seed}-{row}.png" for row in range(count)], "t": ["a", "b"] * (count // 2)}


def columns_of(
    numeric: NDArray[np.float64],
    categorical: NDArray[np.int64] | None = None,
    categories: tuple[tuple[str, ...], ...] = (),
) -> CovariateColumns:
    """Numbers (N, D) named x0, x1, … and codes (N, E) named kind0, … as covariates."""
    codes = np.empty((len(numeric), 0), dtype=np.int64) if categorical is None else categorical
    return CovariateColumns(
        numeric_names=tuple(f"x{place}" for place in range(numeric.shape[1])),
        numeric=numeric,
        categorical_names=tuple(f"kind{place}" for place in range(codes.shape[1])),
        categorical=codes,
        categories=categories,
    )


def fit_columns(name: str, columns: CovariateColumns, parameters: object, seed: int = 0) -> Any:
    """What the imputer of covariates of this name learns where these are the training rows."""
    view = TrainView(SPLITTERS_SEAL, rows=np.arange(len(columns)), statistics={}, covariates=columns)
    return IMPUTERS["covariates"].get(name).fit(view, parameters, np.random.default_rng(seed))


class Trial:
    """An imputer under test, and the samples that it is tried on."""

    def __init__(self, record: ImputerRecord) -> None:
        self.record = record

    def fit(self, sample: Sample, parameters: object = None, seed: int = 0) -> FittedImputer:
        """What it learns from the training rows of `sample`."""
        setting = default_setting(self.record.parameters) if parameters is None else parameters
        return cast("FittedImputer", self.record.fit(sample.view, setting, np.random.default_rng(seed)))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Covariates that it takes: numbers and categories, or those of one kind where it refuses the other."""
        refusals = []
        for names in ((*NUMERIC, *CATEGORICAL), NUMERIC, CATEGORICAL):
            try:
                self.fit(draw_sample(names))
            except ValueError as error:
                refusals.append(str(error))
            else:
                return names
        require(False, f"it refuses numbers, categories and both: {'; '.join(refusals)}")
        return ()

    def sample(self, held_out: int = 0) -> Sample:
        """Training rows that are always the same, and held-out rows by number."""
        return draw_sample(self.names, held_out)
