"""Imputers of covariates, as records: what computes is imported when something is fitted or loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from zoo.specs import FittedImputer, ImputerRecord, NoParameters, TrainView
from zoo_imputation._parameters import Constant, Gain, Iterative, Knn, MissForest, Miwae

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Draws = np.random.Generator
    Arrays = Mapping[str, NDArray[np.generic]]
    Values = Mapping[str, Any]


def _fit_constant(view: TrainView, parameters: Constant, generator: Draws) -> FittedImputer:
    from zoo_imputation._columns import fit_constant

    return fit_constant(view, value=parameters.value, category=parameters.category)


def _fit_columns(
    view: TrainView, parameters: NoParameters, generator: Draws, *, numeric: Literal["mean", "median", "most_frequent"]
) -> FittedImputer:
    from zoo_imputation._columns import fit_columns

    return fit_columns(view, numeric=numeric)


def _load_columns(arrays: Arrays, values: Values) -> FittedImputer:
    from zoo_imputation._columns import load_columns

    return load_columns(arrays, values)


def _fit_knn(view: TrainView, parameters: Knn, generator: Draws) -> FittedImputer:
    from zoo_imputation._knn import fit_neighbours

    return fit_neighbours(view, k=parameters.k, by_distance=parameters.weights == "distance")


def _load_knn(arrays: Arrays, values: Values) -> FittedImputer:
    from zoo_imputation._knn import load_neighbours

    return load_neighbours(arrays, values)


def _fit_iterative(view: TrainView, parameters: Iterative, generator: Draws) -> FittedImputer:
    from zoo_imputation._iterative import fit_regressions

    return fit_regressions(view, rounds=parameters.rounds, tol=parameters.tol)


def _load_iterative(arrays: Arrays, values: Values) -> FittedImputer:
    from zoo_imputation._iterative import load_regressions

    return load_regressions(arrays, values)


def _fit_missforest(view: TrainView, parameters: MissForest, generator: Draws) -> FittedImputer:
    from zoo_imputation._forest import fit_forests

    return fit_forests(
        view, trees=parameters.trees, rounds=parameters.rounds, leaf=parameters.leaf, generator=generator
    )


def _load_missforest(arrays: Arrays, values: Values) -> FittedImputer:
    from zoo_imputation._forest import load_forests

    return load_forests(arrays, values)


def _fit_gain(view: TrainView, parameters: Gain, generator: Draws) -> FittedImputer:
    from zoo_imputation._gain import Training, fit_generator

    training = Training(steps=parameters.steps, batch=parameters.batch, hint=parameters.hint, alpha=parameters.alpha)
    return fit_generator(view, training=training, generator=generator)


def _load_gain(arrays: Arrays, values: Values) -> FittedImputer:
    from zoo_imputation._gain import load_generator

    return load_generator(arrays, values)


def _fit_miwae(view: TrainView, parameters: Miwae, generator: Draws) -> FittedImputer:
    from zoo_imputation._miwae import Training, fit_autoencoder

    training = Training(
        steps=parameters.steps,
        latent=parameters.latent,
        hidden=parameters.hidden,
        samples=parameters.samples,
        draws=parameters.draws,
    )
    return fit_autoencoder(view, training=training, generator=generator)


def _load_miwae(arrays: Arrays, values: Values) -> FittedImputer:
    from zoo_imputation._miwae import load_autoencoder

    return load_autoencoder(arrays, values)


def covariate_imputers() -> Iterable[ImputerRecord]:
    """One value for each column, then those that look at the other columns."""
    yield ImputerRecord(
        name="constant",
        fills="covariates",
        fit=_fit_constant,
        load=_load_columns,
        parameters=Constant,
        summary="a number of yours, and a category of yours or the most frequent one",
    )
    yield ImputerRecord(
        name="mean",
        fills="covariates",
        fit=partial(_fit_columns, numeric="mean"),
        load=_load_columns,
        summary="numbers by their column's mean, categories (which have none) by the most frequent one",
    )
    yield ImputerRecord(
        name="median",
        fills="covariates",
        fit=partial(_fit_columns, numeric="median"),
        load=_load_columns,
        summary="numbers by their column's median, categories by the most frequent one",
    )
    yield ImputerRecord(
        name="most-frequent",
        fills="covariates",
        fit=partial(_fit_columns, numeric="most_frequent"),
        load=_load_columns,
        summary="numbers and categories by their column's most frequent value",
    )
    yield ImputerRecord(
        name="knn",
        fills="covariates",
        fit=_fit_knn,
        load=_load_knn,
        draws=True,
        parameters=Knn,
        summary="the mean, or the vote, of the k nearest training rows that know the column",
    )
    yield ImputerRecord(
        name="iterative",
        fills="covariates",
        fit=_fit_iterative,
        load=_load_iterative,
        draws=True,
        parameters=Iterative,
        summary="each column from all others by Bayesian ridge regression, in turn and over again",
    )
    yield ImputerRecord(
        name="missforest",
        fills="covariates",
        fit=_fit_missforest,
        load=_load_missforest,
        parameters=MissForest,
        summary="each column from all others by a random forest, over again (Stekhoven and Bühlmann 2012)",
    )
    yield ImputerRecord(
        name="gain",
        fills="covariates",
        fit=_fit_gain,
        load=_load_gain,
        parameters=Gain,
        summary="a generator trained against a discriminator of filled values (Yoon et al. 2018)",
    )
    yield ImputerRecord(
        name="miwae",
        fills="covariates",
        fit=_fit_miwae,
        load=_load_miwae,
        draws=True,
        parameters=Miwae,
        summary="an importance-weighted autoencoder of what is observed (Mattei and Frellsen 2019)",
    )
