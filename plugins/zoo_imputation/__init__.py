"""Answers to holes, learned from the training rows.

In covariates: by column, neighbours, regressions and networks. In pixels: the channel's mean, what is around a hole, a
masked autoencoder. In channels: what normalisation turns into zero. Fitted, they are arrays and JSON values, and draw
nothing at random any more.
"""

from __future__ import annotations

from collections.abc import Iterable

from zoo.hooks import hookimpl
from zoo.specs import ImputerRecord
from zoo_imputation.covariates import covariate_imputers
from zoo_imputation.pictures import channel_imputers, pixel_imputers


@hookimpl
def zoo_imputers() -> Iterable[ImputerRecord]:
    """The imputers of this plugin, by the kind of hole that they fill."""
    yield from covariate_imputers()
    yield from pixel_imputers()
    yield from channel_imputers()
