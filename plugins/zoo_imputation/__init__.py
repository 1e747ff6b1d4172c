"""Answers to holes, learned from the training rows.

In covariates: by column, neighbours, regressions and networks. In pixels: the channel's mean, what is around a hole, a
masked autoencoder. In channels: what normalisation turns into zero. Fitted, they are arrays and JSON values, and draw
nothing at random any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from zoo.hooks import hookimpl
from zoo.specs import FittedImageImputer, FittedImputer, ImputerRecord, NoParameters, TrainView
from zoo_imputation._parameters import Constant, Gain, Inpaint, Iterative, Knn, Mae, MissForest, Miwae

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Draws = np.random.Generator
    Arrays = Mapping[str, NDArray[np.generic]]
    Values = Mapping[str, Any]


def _fit_constant(view: TrainView, parameters: Constant, generator: Draws) -> FittedImputer:
    from zoo_imputation._columns import fit_constant

    return fit_constant(view, value=parameters.value, category=parameters.category)


def _fit_mean(view: TrainView, parameters: NoParameters, generator: Draws) -> FittedImputer:
    from zoo_imputation._columns import fit_columns

    return fit_columns(view, numeric="mean")


def _fit_median(view: TrainView, parameters: NoParameters, generator: Draws) -> FittedImputer:
    from zoo_imputation._columns import fit_columns

    return fit_columns(view, numeric="median")


def _fit_most_frequent(view: TrainView, parameters: NoParameters, generator: Draws) -> FittedImputer:
    from zoo_imputation._columns import fit_columns

    return fit_columns(view, numeric="most_frequent")


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


def _fit_pixel_mean(view: TrainView, parameters: NoParameters, generator: Draws) -> FittedImageImputer:
    from zoo_imputation._inpainting import fit_fill

    return fit_fill(view, "mean")


def _fit_linear(view: TrainView, parameters: NoParameters, generator: Draws) -> FittedImageImputer:
    from zoo_imputation._inpainting import fit_fill

    return fit_fill(view, "linear")


def _fit_biharmonic(view: TrainView, parameters: NoParameters, generator: Draws) -> FittedImageImputer:
    from zoo_imputation._inpainting import fit_fill

    return fit_fill(view, "biharmonic")


def _fit_mae(view: TrainView, parameters: Mae, generator: Draws) -> FittedImageImputer:
    from zoo_imputation._mae import Training, fit_masked_autoencoder

    training = Training(
        steps=parameters.steps,
        side=parameters.side,
        patch=parameters.patch,
        width=parameters.width,
        depth=parameters.depth,
        masked=parameters.masked,
    )
    return fit_masked_autoencoder(view, training=training, generator=generator)


def _load_mae(arrays: Arrays, values: Values) -> FittedImageImputer:
    from zoo_imputation._mae import load_masked_autoencoder

    return load_masked_autoencoder(arrays, values)


def _fit_channel_mean(view: TrainView, parameters: NoParameters, generator: Draws) -> FittedImageImputer:
    from zoo_imputation._channels import fit_channel_fill

    return fit_channel_fill(view, scaled=False)


def _fit_subset(view: TrainView, parameters: NoParameters, generator: Draws) -> FittedImageImputer:
    from zoo_imputation._channels import fit_channel_fill

    return fit_channel_fill(view, scaled=True)


def _load_channel_fill(arrays: Arrays, values: Values) -> FittedImageImputer:
    from zoo_imputation._channels import load_channel_fill

    return load_channel_fill(arrays, values)


def _fit_telea(view: TrainView, parameters: Inpaint, generator: Draws) -> FittedImageImputer:
    from zoo_imputation._inpainting import fit_fill

    return fit_fill(view, "telea", radius=parameters.radius)


def _fit_navier_stokes(view: TrainView, parameters: Inpaint, generator: Draws) -> FittedImageImputer:
    from zoo_imputation._inpainting import fit_fill

    return fit_fill(view, "ns", radius=parameters.radius)


def _load_fill(arrays: Arrays, values: Values) -> FittedImageImputer:
    from zoo_imputation._inpainting import load_fill

    return load_fill(arrays, values)


@hookimpl
def zoo_imputers() -> Iterable[ImputerRecord]:
    """The imputers of this plugin, by the kind of hole that they fill."""
    yield from _of_covariates()
    yield from _of_pixels()
    yield from _of_channels()


def _of_channels() -> Iterable[ImputerRecord]:
    yield ImputerRecord(
        name="mean",
        fills="channels",
        fit=_fit_channel_mean,
        load=_load_channel_fill,
        summary="the mean that normalisation takes off: the network sees zero, as if the channel's kernels were gone",
    )
    yield ImputerRecord(
        name="subset",
        fills="channels",
        fit=_fit_subset,
        load=_load_channel_fill,
        summary="as if the channel's kernels were gone, the others scaled by channels / those that are there",
    )


def _of_pixels() -> Iterable[ImputerRecord]:
    yield ImputerRecord(
        name="mean",
        fills="pixels",
        fit=_fit_pixel_mean,
        load=_load_fill,
        summary="the mean of the channel's known pixels in the training rows",
    )
    yield ImputerRecord(
        name="linear",
        fills="pixels",
        fit=_fit_linear,
        load=_load_fill,
        summary="linear interpolation between the pixels around the hole",
    )
    yield ImputerRecord(
        name="telea",
        fills="pixels",
        fit=_fit_telea,
        load=_load_fill,
        parameters=Inpaint,
        summary="inpainting by fast marching from the border of the hole inwards (Telea 2004)",
    )
    yield ImputerRecord(
        name="ns",
        fills="pixels",
        fit=_fit_navier_stokes,
        load=_load_fill,
        parameters=Inpaint,
        summary="inpainting along lines of equal brightness (Bertalmio et al. 2001)",
    )
    yield ImputerRecord(
        name="biharmonic",
        fills="pixels",
        fit=_fit_biharmonic,
        load=_load_fill,
        summary="the smoothest surface through the border of the hole (Damelin and Hoang 2018)",
    )
    yield ImputerRecord(
        name="mae",
        fills="pixels",
        fit=_fit_mae,
        load=_load_mae,
        parameters=Mae,
        summary="a small masked autoencoder trained on the training images (He et al. 2022)",
    )


def _of_covariates() -> Iterable[ImputerRecord]:
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
        fit=_fit_mean,
        load=_load_columns,
        summary="numbers by their column's mean, categories (which have none) by the most frequent one",
    )
    yield ImputerRecord(
        name="median",
        fills="covariates",
        fit=_fit_median,
        load=_load_columns,
        summary="numbers by their column's median, categories by the most frequent one",
    )
    yield ImputerRecord(
        name="most-frequent",
        fills="covariates",
        fit=_fit_most_frequent,
        load=_load_columns,
        summary="numbers and categories by their column's most frequent value",
    )
    yield ImputerRecord(
        name="knn",
        fills="covariates",
        fit=_fit_knn,
        load=_load_knn,
        parameters=Knn,
        summary="the mean, or the vote, of the k nearest training rows that know the column",
    )
    yield ImputerRecord(
        name="iterative",
        fills="covariates",
        fit=_fit_iterative,
        load=_load_iterative,
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
        parameters=Miwae,
        summary="an importance-weighted autoencoder of what is observed (Mattei and Frellsen 2019)",
    )
