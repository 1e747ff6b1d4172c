"""Random numbers of training: each draw is a function of the seed, the epoch and the purpose."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.training.settings import Data, Settings

PURPOSES = {"order": 1, "step": 2, "rows": 3, "fit": 4, "absence": 5}


def generator_for(seed: int, epoch: int, purpose: str) -> torch.Generator:
    """A generator that depends on nothing but the seed, the epoch and the purpose."""
    return torch.Generator().manual_seed(_mixed(seed, epoch, purpose))


def covariates_of(data: Data, seed: int, epoch: int) -> Tensor | None:
    """The covariates (N, C) that training sees in one epoch.

    Of multiple imputation it is one completion after the other; of some rows, others every time, none are there.
    """
    covariates = data.covariates
    if data.completions is not None:
        covariates = data.completions[epoch % len(data.completions)]
    if covariates is None or data.absence is None:
        return covariates
    drawn = torch.rand(len(covariates), generator=generator_for(seed, epoch, "absence"))
    return torch.where((drawn < data.absence.share)[:, None], data.absence.columns, covariates)


def _mixed(seed: int, epoch: int, purpose: str, *more: int) -> int:
    mixed = (seed * 1_000_003 + epoch) * 31 + PURPOSES[purpose]
    for each in more:
        mixed = mixed * 1_000_003 + each
    return mixed % (2**63)


def seed_step(settings: Settings, epoch: int, step: int) -> None:
    """Seed what the step draws from, such as dropout: by its number, so that an interrupted run goes on alike."""
    seed = _mixed(settings.seed, epoch, "step", step, settings.group.rank)
    # torch.manual_seed keeps a stack trace of each call until CUDA is begun, half of a step's time on features.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)
