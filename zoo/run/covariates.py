"""Covariates from the table to the head: holes filled by fitted imputers, then encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch

from zoo.data.covariates import CovariateEncoder, CovariateSchema, columns, fit_encoder, missing_cells
from zoo.data.drop_rows import DropRows
from zoo.data.table import Table
from zoo.errors import OptionError
from zoo.registry.guard import fault, guarded
from zoo.registry.lookup import IMPUTERS
from zoo.registry.near import suggest
from zoo.run.saved_imputers import SavedImputer, of_kind
from zoo.specs import Call, CovariateColumns, FittedImputer, TrainView, bind, parse_assignment

SHELF = IMPUTERS["covariates"]

DEFAULT_IMPUTER = "mean"
"""Fitted where covariates are used and no imputer is named: an image may come to prediction without them."""

BESIDE = ("indicator", "dropout")
"""What may stand beside the imputer of covariates, and be all that is asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dropout:
    """Modality dropout: in training, all covariates of a row count as missing, now and then.

    What stands for a missing covariate is learned then, and the head learns to do without any of them, as it must where
    images come alone (Neverova et al. 2016, arXiv:1501.00102).

    Attributes:
        p: how likely that is for each row in each epoch, in (0, 1).
    """

    p: float = 0.2

    def __post_init__(self) -> None:
        if not 0.0 < self.p < 1.0:
            raise ValueError(f"p must lie in (0, 1), not {self.p}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Imputing:
    """What `--impute` asks for.

    Attributes:
        calls: the imputer of each kind of hole.
        indicator: whether columns say where covariates were missing; always with `dropout`, whose learned token for a
            missing covariate is the weight of its column.
        dropout: of all covariates of a row, in training; None for never.
        rows: training rows with holes in covariates are left out within these caps; None where they stay.
    """

    calls: Mapping[str, Call]
    indicator: bool = False
    dropout: Dropout | None = None
    rows: DropRows | None = None


def parse_imputing(options: Sequence[str]) -> Imputing:
    """The imputer that `--impute KIND=NAME` names for each kind of hole, `+indicator`, `+dropout`, `rows=drop(max=…)`.

    Raises:
        OptionError: no such imputer, one for another kind of hole, two for one kind, or parameters that it refuses.
    """
    calls: dict[str, Call] = {}
    indicator, rows, dropout = False, None, None
    for option in options:
        kind, given = parse_assignment(option)
        named = [call for call in given if kind != "covariates" or call.name not in BESIDE]
        indicator |= len(named) < len(given)
        for call in given if kind == "covariates" else ():
            if call.name == "dropout":
                dropout = bind(replace(call, text=option, column=option.index("dropout")), Dropout)
        if len(named) > 1 or kind in calls or (kind == "rows" and rows is not None):
            raise OptionError(f"one imputer for {kind}, please", text=option, column=0)
        if not named:
            continue
        call = replace(named[0], text=option, column=option.index("=") + 1)
        if kind == "rows":
            if call.name != "drop":
                raise OptionError(f"rows can be dropped, not {call.name}: rows=drop(max=0.05)", text=option, column=0)
            rows = bind(call, DropRows)
            continue
        if kind not in IMPUTERS:
            near = suggest(kind, [*IMPUTERS, "rows"])
            raise OptionError(
                f"holes of {kind} are filled by nothing; say {', '.join(IMPUTERS)} or rows{near}", text=option, column=0
            )
        bind(call, IMPUTERS[kind].of_call(call).parameters)
        calls[kind] = call
    return Imputing(calls=calls, indicator=indicator, dropout=dropout, rows=rows)


@dataclass(frozen=True, kw_only=True)
class Covariates:
    """What was learned about the covariates from the training rows.

    Attributes:
        encoder: from complete columns to numbers.
        imputer: its name.
        fitted: the imputer.
    """

    encoder: CovariateEncoder
    imputer: str
    fitted: FittedImputer

    @classmethod
    def fit(
        cls, schema: CovariateSchema, view: TrainView, call: Call | None, seed: int, *, indicator: bool = False
    ) -> Covariates:
        """Fit imputer and encoder on the training view.

        Raises:
            OptionError: the imputer's parameters are wrong, or it cannot learn from these columns.
            PluginError: the imputer's plugin broke, or left holes.
        """
        used = call or Call(name=DEFAULT_IMPUTER)
        record = SHELF.of_call(used)
        parameters: Any = bind(used, record.parameters)
        assert view.covariates is not None  # noqa: S101 - the caller has a schema only where there are covariates
        with guarded(SHELF.home(used.name), f"imputer {record.name}"):
            try:
                fitted = cast("FittedImputer", record.fit(view, parameters, np.random.default_rng(seed)))
            except ValueError as error:  # by the contract it is the user's mistake
                used.fail(f"{used.name}: {error}")
        whole = _filled(used.name, fitted, view.covariates)
        encoder = fit_encoder(schema, whole, indicators=indicator)
        return cls(encoder=encoder, imputer=used.name, fitted=fitted)

    def encode(self, table: Table) -> tuple[torch.Tensor, tuple[str, ...], dict[str, int]]:
        """Encoded covariates float32 (N, C), sentences about surprises, and filled holes by column."""
        raw, said = columns(table, self.encoder.schema)
        whole = _filled(self.imputer, self.fitted, raw)
        return self.encoder.encode(whole, missing_cells(raw)), said, _counted(raw)

    def complete(self, table: Table) -> tuple[CovariateColumns, tuple[str, ...], dict[str, int]]:
        """The columns in their own units without holes, sentences about surprises, and filled holes by column."""
        raw, said = columns(table, self.encoder.schema)
        return _filled(self.imputer, self.fitted, raw), said, _counted(raw)

    def unknown(self) -> CovariateColumns:
        """One row of which nothing is known, as the imputer fills it."""
        schema = self.encoder.schema
        numeric, categorical = schema.of_kind("numeric"), schema.of_kind("categorical")
        nothing = CovariateColumns(
            numeric_names=numeric,
            numeric=np.full((1, len(numeric)), np.nan),
            categorical_names=categorical,
            categorical=np.full((1, len(categorical)), -1, dtype=np.int64),
            categories=schema.categories,
        )
        return _filled(self.imputer, self.fitted, nothing)

    def absent(self) -> torch.Tensor:
        """What the head gets of a row without any covariate, float32 (C,)."""
        missing = np.ones((1, len(self.encoder.schema.names)), dtype=bool)
        return self.encoder.encode(self.unknown(), missing)[0]

    def save(self) -> tuple[Mapping[str, Any], tuple[SavedImputer, ...]]:
        """JSON of the encoder, and the imputer's name and state."""
        arrays, values = self.fitted.save()
        own = SavedImputer(fills="covariates", name=self.imputer, values=values, arrays=arrays)
        return self.encoder.to_json(), (own,)

    @classmethod
    def load(cls, encoder: Mapping[str, Any], imputers: Sequence[SavedImputer]) -> Covariates:
        """The inverse of `save`; needs the imputer's plugin.

        Raises:
            UnknownNameError: the plugin that made the imputer is not installed.
        """
        saved = of_kind(imputers, "covariates")
        assert saved is not None  # noqa: S101 - `save` keeps it beside the encoder
        return cls(encoder=CovariateEncoder.from_json(encoder), imputer=saved.name, fitted=saved.load())


def holes_by_column(raw: CovariateColumns) -> dict[str, int]:
    """Number of holes in each column."""
    numeric = np.isnan(raw.numeric).sum(axis=0)
    categorical = (raw.categorical < 0).sum(axis=0)
    names = (*raw.numeric_names, *raw.categorical_names)
    return {name: int(count) for name, count in zip(names, [*numeric, *categorical], strict=True)}


def _counted(raw: CovariateColumns) -> dict[str, int]:
    return {name: count for name, count in holes_by_column(raw).items() if count}


def _filled(name: str, fitted: FittedImputer, raw: CovariateColumns) -> CovariateColumns:
    """The columns without holes; where an imputer leaves some, its plugin is named."""
    home, what = SHELF.home(name), f"imputer {name}"
    with guarded(home, what):
        whole: object = fitted.transform(raw)
    if not isinstance(whole, CovariateColumns):
        raise fault(home, what, f"transform gave {whole!r}, which is no CovariateColumns")
    if left := [column for column, count in holes_by_column(whole).items() if count]:
        raise fault(home, what, f"it leaves holes in {', '.join(left)}")
    return whole
