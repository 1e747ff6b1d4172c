"""Generators of features and of pictures of rare classes, drawn from what training rows look like."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from zoo.hooks import hookimpl
from zoo.specs import FittedGenerator, GeneratorRecord
from zoo_generators.parameters import Diffusion, Gan, Gaussian, Vae

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def _fit_gaussian(
    features: Tensor, labels: Tensor, classes: int, parameters: Gaussian, generator: torch.Generator
) -> FittedGenerator:
    from zoo_generators._gaussian import fit_gaussian

    return fit_gaussian(features, labels, classes, parameters, generator)


def _fit_vae(
    features: Tensor, labels: Tensor, classes: int, parameters: Vae, generator: torch.Generator
) -> FittedGenerator:
    from zoo_generators._vae import fit_vae

    return fit_vae(features, labels, classes, parameters, generator)


def _fit_gan(
    features: Tensor, labels: Tensor, classes: int, parameters: Gan, generator: torch.Generator
) -> FittedGenerator:
    from zoo_generators._gan import fit_gan

    return fit_gan(features, labels, classes, parameters, generator)


def _fit_diffusion(
    pictures: Tensor, labels: Tensor, classes: int, parameters: Diffusion, generator: torch.Generator
) -> FittedGenerator:
    from zoo_generators._diffusion import fit_diffusion

    return fit_diffusion(pictures, labels, classes, parameters, generator)


@hookimpl
def zoo_generators() -> Iterable[GeneratorRecord]:
    """The generators of this plugin."""
    yield GeneratorRecord(
        name="gaussian",
        fit=_fit_gaussian,
        parameters=Gaussian,
        summary="a normal distribution for each class, its covariance shrunk (Ledoit & Wolf 2004)",
    )
    yield GeneratorRecord(
        name="vae",
        fit=_fit_vae,
        parameters=Vae,
        summary="a conditional variational autoencoder (Kingma & Welling 2014; Sohn 2015)",
    )
    yield GeneratorRecord(
        name="gan",
        fit=_fit_gan,
        parameters=Gan,
        summary="a conditional Wasserstein GAN with gradient penalty (Gulrajani 2017)",
    )
    yield GeneratorRecord(
        name="diffusion",
        fit=_fit_diffusion,
        makes="images",
        parameters=Diffusion,
        summary="small pictures by a conditional diffusion model (Ho, Jain & Abbeel 2020)",
    )
