"""Imputers of pixels and channels, as records: what computes is imported when something is fitted or loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from zoo.specs import FittedImageImputer, ImputerRecord, NoParameters, TrainView
from zoo_imputation._parameters import Inpaint, Mae

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Draws = np.random.Generator
    Arrays = Mapping[str, NDArray[np.generic]]
    Values = Mapping[str, Any]


def _fit_fill(view: TrainView, parameters: NoParameters, generator: Draws, *, how: str) -> FittedImageImputer:
    from zoo_imputation._inpainting import fit_fill

    return fit_fill(view, how)


def _fit_inpainting(view: TrainView, parameters: Inpaint, generator: Draws, *, how: str) -> FittedImageImputer:
    from zoo_imputation._inpainting import fit_fill

    return fit_fill(view, how, radius=parameters.radius)


def _load_fill(arrays: Arrays, values: Values) -> FittedImageImputer:
    from zoo_imputation._inpainting import load_fill

    return load_fill(arrays, values)


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


def _fit_channels(view: TrainView, parameters: NoParameters, generator: Draws, *, scaled: bool) -> FittedImageImputer:
    from zoo_imputation._channels import fit_channel_fill

    return fit_channel_fill(view, scaled=scaled)


def _load_channel_fill(arrays: Arrays, values: Values) -> FittedImageImputer:
    from zoo_imputation._channels import load_channel_fill

    return load_channel_fill(arrays, values)


def pixel_imputers() -> Iterable[ImputerRecord]:
    """What fills holes inside an image."""
    yield ImputerRecord(
        name="mean",
        fills="pixels",
        fit=partial(_fit_fill, how="mean"),
        load=_load_fill,
        summary="the mean of the channel's known pixels in the training rows",
    )
    yield ImputerRecord(
        name="linear",
        fills="pixels",
        fit=partial(_fit_fill, how="linear"),
        load=_load_fill,
        summary="linear interpolation between the pixels around the hole",
    )
    yield ImputerRecord(
        name="telea",
        fills="pixels",
        fit=partial(_fit_inpainting, how="telea"),
        load=_load_fill,
        parameters=Inpaint,
        summary="inpainting by fast marching from the border of the hole inwards (Telea 2004)",
    )
    yield ImputerRecord(
        name="ns",
        fills="pixels",
        fit=partial(_fit_inpainting, how="ns"),
        load=_load_fill,
        parameters=Inpaint,
        summary="inpainting along lines of equal brightness (Bertalmio et al. 2001)",
    )
    yield ImputerRecord(
        name="biharmonic",
        fills="pixels",
        fit=partial(_fit_fill, how="biharmonic"),
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


def channel_imputers() -> Iterable[ImputerRecord]:
    """What stands in for a channel that is not there."""
    yield ImputerRecord(
        name="mean",
        fills="channels",
        fit=partial(_fit_channels, scaled=False),
        load=_load_channel_fill,
        summary="the mean that normalisation takes off: the network sees zero, as if the channel's kernels were gone",
    )
    yield ImputerRecord(
        name="subset",
        fills="channels",
        fit=partial(_fit_channels, scaled=True),
        load=_load_channel_fill,
        summary="as if the channel's kernels were gone, the others scaled by channels / those that are there",
    )
