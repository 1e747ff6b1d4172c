"""Covariates from the table to the head: holes filled by fitted imputers, then encoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch

from zoo.data.covariates import CovariateEncoder, CovariateSchema, columns, fit_encoder, missing_cells
from zoo.data.table import Table
from zoo.registry.guard import fault, guarded
from zoo.registry.lookup import IMPUTERS
from zoo.run.row_noise import row_noise
from zoo.run.saved_imputers import SavedImputer, of_kind
from zoo.specs import Call, CovariateColumns, DrawingImputer, FittedImputer, TrainView, bind

SHELF = IMPUTERS["covariates"]

DEFAULT_IMPUTER = "mean"
"""Fitted where covariates are used and no imputer is named: an image may come to prediction without them."""


@dataclass(frozen=True, kw_only=True)
class Covariates:
    """What was learned about the covariates from the training rows.

    Attributes:
        encoder: from complete columns to numbers.
        imputer: its name.
        fitted: the imputer.
        draws: how often each hole is drawn where imputation is multiple, else 0.
    """

    encoder: CovariateEncoder
    imputer: str
    fitted: FittedImputer
    draws: int = 0

    @classmethod
    def fit(
        cls,
        schema: CovariateSchema,
        view: TrainView,
        call: Call | None,
        seed: int,
        *,
        indicator: bool = False,
        draws: int = 0,
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
        return cls(encoder=encoder, imputer=used.name, fitted=fitted, draws=draws)

    def encode(self, table: Table) -> tuple[torch.Tensor, tuple[str, ...], dict[str, int]]:
        """Encoded covariates float32 (N, C), sentences about surprises, and filled holes by column."""
        raw, said = columns(table, self.encoder.schema)
        whole = _filled(self.imputer, self.fitted, raw)
        return self.encoder.encode(whole, missing_cells(raw)), said, _counted(raw)

    def completions(self, table: Table, encoded: torch.Tensor) -> torch.Tensor | None:
        """What `encode` gives, with holes drawn, float32 (draws, N, C); None where imputation is not multiple.

        The draws of a row depend on what is observed in it and on its image's name alone.

        Args:
            table: the rows.
            encoded: what `encode` gave of them.

        Raises:
            PluginError: the imputer's plugin broke, or left holes.
        """
        if not self.draws:
            return None
        raw, _ = columns(table, self.encoder.schema)
        missing = missing_cells(raw)
        holed = np.flatnonzero(missing.any(axis=1))
        found = encoded.expand(self.draws, *encoded.shape).clone()
        if not len(holed):
            return found
        own = replace(raw, numeric=raw.numeric[holed], categorical=raw.categorical[holed])
        names = [table.paths[row].name for row in holed]
        for draw in range(self.draws):
            fill = partial(cast("DrawingImputer", self.fitted).draw, noise=row_noise(own, names, draw))
            whole = _complete(self.imputer, own, fill)
            found[draw, torch.from_numpy(holed)] = self.encoder.encode(whole, missing[holed])
        return found

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
        return {**self.encoder.to_json(), "draws": self.draws}, (own,)

    @classmethod
    def load(cls, encoder: Mapping[str, Any], imputers: Sequence[SavedImputer]) -> Covariates:
        """The inverse of `save`; needs the imputer's plugin.

        Raises:
            UnknownNameError: the plugin that made the imputer is not installed.
        """
        saved = of_kind(imputers, "covariates")
        assert saved is not None  # noqa: S101 - `save` keeps it beside the encoder
        return cls(
            encoder=CovariateEncoder.from_json(encoder),
            imputer=saved.name,
            fitted=saved.load(),
            draws=int(encoder.get("draws", 0)),  # of which the first releases say nothing
        )


def holes_by_column(raw: CovariateColumns) -> dict[str, int]:
    """Number of holes in each column."""
    numeric = np.isnan(raw.numeric).sum(axis=0)
    categorical = (raw.categorical < 0).sum(axis=0)
    names = (*raw.numeric_names, *raw.categorical_names)
    return {name: int(count) for name, count in zip(names, [*numeric, *categorical], strict=True)}


def _counted(raw: CovariateColumns) -> dict[str, int]:
    return {name: count for name, count in holes_by_column(raw).items() if count}


def _filled(name: str, fitted: FittedImputer, raw: CovariateColumns) -> CovariateColumns:
    return _complete(name, raw, fitted.transform)


def _complete(
    name: str, raw: CovariateColumns, fill: Callable[[CovariateColumns], CovariateColumns]
) -> CovariateColumns:
    """The columns without holes; where an imputer leaves some, its plugin is named."""
    home, what = SHELF.home(name), f"imputer {name}"
    with guarded(home, what):
        whole: object = fill(raw)
    if not isinstance(whole, CovariateColumns):
        raise fault(home, what, f"it gave {whole!r}, which is no CovariateColumns")
    if left := [column for column, count in holes_by_column(whole).items() if count]:
        raise fault(home, what, f"it leaves holes in {', '.join(left)}")
    return whole
