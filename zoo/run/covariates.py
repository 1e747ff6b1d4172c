"""Covariates from the table to the head: holes filled by fitted imputers, then encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.data.covariates import CovariateEncoder, CovariateSchema, columns, fit_encoder
from zoo.data.table import Table
from zoo.errors import OptionError
from zoo.registry.guard import fault, guarded
from zoo.registry.lookup import IMPUTERS
from zoo.specs import Call, CovariateColumns, FittedImputer, TrainView, bind, parse_assignment

DEFAULT_IMPUTER = "mean"
"""Fitted where covariates are used and no imputer is named: an image may come to prediction without them."""

SavedImputer = tuple[str, Mapping[str, Any], Mapping[str, NDArray[np.generic]]]


def imputer_calls(options: Sequence[str]) -> dict[str, Call]:
    """The imputer that `--impute KIND=NAME` names for each kind of hole.

    Raises:
        OptionError: no such imputer, one for another kind of hole, or two for one kind.
    """
    calls: dict[str, Call] = {}
    for option in options:
        kind, given = parse_assignment(option)
        call = replace(given[0], text=option, column=option.index("=") + 1)
        record = IMPUTERS.of_call(call)
        if len(given) > 1 or kind in calls:
            raise OptionError(f"one imputer for {kind}, please", text=option, column=0)
        if record.fills != kind:
            raise OptionError(f"{call.name} fills {record.fills}, not {kind}", text=option, column=0)
        calls[kind] = call
    return calls


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
    def fit(cls, schema: CovariateSchema, view: TrainView, call: Call | None, seed: int) -> Covariates:
        """Fit imputer and encoder on the training view.

        Raises:
            OptionError: the imputer's parameters are wrong, or it cannot learn from these columns.
            PluginError: the imputer's plugin broke, or left holes.
        """
        used = call or Call(name=DEFAULT_IMPUTER)
        record = IMPUTERS.of_call(used)
        parameters: Any = bind(used, record.parameters)
        assert view.covariates is not None  # noqa: S101 - the caller has a schema only where there are covariates
        with guarded(IMPUTERS.home(used.name), f"imputer {record.name}"):
            try:
                fitted = record.fit(view, parameters, np.random.default_rng(seed))
            except ValueError as error:  # by the contract it is the user's mistake
                used.fail(f"{used.name}: {error}")
        whole = _filled(used.name, fitted, view.covariates)
        return cls(encoder=fit_encoder(schema, whole), imputer=used.name, fitted=fitted)

    def encode(self, table: Table) -> tuple[torch.Tensor, tuple[str, ...], dict[str, int]]:
        """Encoded covariates float32 (N, C), sentences about surprises, and filled holes by column."""
        whole, said, filled = self.complete(table)
        return self.encoder.encode(whole), said, filled

    def complete(self, table: Table) -> tuple[CovariateColumns, tuple[str, ...], dict[str, int]]:
        """The columns in their own units without holes, sentences about surprises, and filled holes by column."""
        raw, said = columns(table, self.encoder.schema)
        filled = {name: count for name, count in holes_by_column(raw).items() if count}
        return _filled(self.imputer, self.fitted, raw), said, filled

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

    def save(self) -> tuple[Mapping[str, Any], tuple[SavedImputer, ...]]:
        """JSON of the encoder, and the imputer's name and state."""
        arrays, values = self.fitted.save()
        return self.encoder.to_json(), ((self.imputer, values, arrays),)

    @classmethod
    def load(cls, encoder: Mapping[str, Any], imputers: Sequence[SavedImputer]) -> Covariates:
        """The inverse of `save`; needs the imputer's plugin.

        Raises:
            UnknownNameError: the plugin that made the imputer is not installed.
        """
        name, values, arrays = imputers[0]
        record = IMPUTERS.get(name)
        with guarded(IMPUTERS.home(name), f"imputer {record.name}"):
            fitted = record.load(arrays, values)
        return cls(encoder=CovariateEncoder.from_json(encoder), imputer=name, fitted=fitted)


def holes_by_column(raw: CovariateColumns) -> dict[str, int]:
    """Number of holes in each column."""
    numeric = np.isnan(raw.numeric).sum(axis=0)
    categorical = (raw.categorical < 0).sum(axis=0)
    names = (*raw.numeric_names, *raw.categorical_names)
    return {name: int(count) for name, count in zip(names, [*numeric, *categorical], strict=True)}


def _filled(name: str, fitted: FittedImputer, raw: CovariateColumns) -> CovariateColumns:
    """The columns without holes; where an imputer leaves some, its plugin is named."""
    home, what = IMPUTERS.home(name), f"imputer {name}"
    with guarded(home, what):
        whole: object = fitted.transform(raw)
    if not isinstance(whole, CovariateColumns):
        raise fault(home, what, f"transform gave {whole!r}, which is no CovariateColumns")
    if left := [column for column, count in holes_by_column(whole).items() if count]:
        raise fault(home, what, f"it leaves holes in {', '.join(left)}")
    return whole
