"""A learning-rate range test: the loss of each step while the rate rises from step to step, and a rate that suits.

The test is Smith's (2017, "Cyclical Learning Rates for Training Neural Networks", section 3.3), with the exponential
rise and the stop at four times the best smoothed loss of Gugger (2018, "How Do You Find A Good Learning Rate"), as in
fastai (`fastai/callback/schedule.py`). Suggested is the rate at which the loss falls fastest, `steep` there. fastai's
other rule, `valley`, counts steps of descent whatever their size: the loss of a head that begins at zero falls by next
to nothing from the first step on, and the valley of ELPV's curve lay at 3e-4, where training has hardly begun.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.training.loop import Trainer
from zoo.training.optimiser import begin_phase
from zoo.training.schedule import Exponential, Schedule
from zoo.training.seeds import generator_for
from zoo.training.settings import Settings

SMOOTHING = 0.9
"""Weight of what came before in the running mean that ends a test; fastai's 0.98 looks back over half of 100 steps."""

WINDOW = 0.2
"""Share of the range's steps that a line is laid through, to see how fast the loss falls in their middle."""

EXPLODED = 4.0
"""The test is over where the smoothed loss is so many times its best."""

FEWEST = 20
"""Steps without which a curve says nothing."""

CERTAIN = 4.0
"""A fall counts when it is so many of its standard errors."""

Ending = Literal["range", "exploded", "not finite"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """What rates are tried.

    Attributes:
        low, high: of the heads, in the first step and in the last.
        steps: how many, each with the same factor on the rate of the one before.

    Raises:
        ValueError: they are not positive and rising, or the steps too few.
    """

    low: float = 1e-7
    high: float = 10.0
    steps: int = 100

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise ValueError(f"the rates rise from a positive one to a higher one, not from {self.low} to {self.high}")
        if self.steps < FEWEST:
            raise ValueError(f"a test takes at least {FEWEST} steps, not {self.steps}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Observed:
    """What a test has seen, a value a step.

    Attributes:
        rates: of the heads.
        losses: of the step's rows before the step was taken; all finite.
        steps: that the whole range has.
        ended: where the range ended, or before it, because the loss exploded or was not finite.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    steps: int
    ended: Ending


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What a curve says.

    Attributes:
        rate: at which the loss falls fastest, the suggestion; None where it does not fall.
        smoothed: the loss of each step, by the lines through its neighbours.
        why: a sentence about it.
    """

    rate: float | None
    smoothed: tuple[float, ...]
    why: str


class RangeTest(Trainer):
    """A trainer whose rates rise from step to step; the ratio of all rates to one another stays as it is.

    It validates nothing, keeps no average and no best epoch; the weights are useless when it is over.

    Args:
        arguments: as of `Trainer`, up to the settings.
        span: rates that are tried.
        settings: as of `Trainer`.
        options: as of `Trainer`, behind the settings.
    """

    def __init__(self, *arguments: Any, span: Span, settings: Settings, **options: Any) -> None:
        parts = (*arguments, replace(settings, ema=None, patience=None))
        super().__init__(*parts, **options)
        self.span, rates = span, settings.rates
        begin_phase(self.optimiser, rates, self.phase.rate)
        curve = Exponential(low=span.low / rates.head, high=span.high / rates.head)
        self.schedule = Schedule(self.optimiser, curve, span.steps - 1, 0.0)

    def observe(self, progress: Callable[[int, int], None] | None = None) -> Observed:
        """Take the steps.

        Args:
            progress: called with rows seen and rows to see.
        """
        rates: list[float] = []
        losses: list[float] = []
        mean, best = 0.0, math.inf
        ended: Ending = "range"
        size = self.settings.batch_size * self.settings.accumulate
        with closing(self._taken()) as taken:
            for rate, loss in taken:
                if not math.isfinite(loss):
                    ended = "not finite"
                    break
                rates.append(rate)
                losses.append(loss)
                mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
                running = mean / (1 - SMOOTHING ** len(losses))  # without the bias of its beginning at zero
                if progress:
                    progress(len(rates) * size, self.span.steps * size)
                best = min(best, running)
                if running > best + (EXPLODED - 1) * abs(best):
                    ended = "exploded"
                    break
        return Observed(rates=tuple(rates), losses=tuple(losses), steps=self.span.steps, ended=ended)

    def _taken(self) -> Generator[tuple[float, float], None, None]:
        """The rate of the heads in each step and its loss, for as long as somebody asks."""
        device, left, epoch = self.settings.device, self.span.steps, 0
        self.model.train()
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            while left:
                torch.manual_seed(int(generator_for(self.settings.seed, epoch, "step").initial_seed()))
                steps = self._steps(self._order(epoch))[:left]
                with closing(self._given([part for step in steps for part in step], epoch)) as given:
                    for parts in steps:
                        rate = self.settings.rates.head * self.schedule.factor(self.schedule.last_epoch)
                        yield rate, float(self._step(parts, given))
                left, epoch = left - len(steps), epoch + 1


def lines(observed: Observed) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Through each step and its neighbours a line of least squares: its value there and its slope a decade."""
    half = max(2, round(WINDOW * observed.steps) // 2)
    decades, losses = np.log10(observed.rates), np.array(observed.losses)
    found = []
    for step, at in enumerate(decades):
        near = slice(max(0, step - half), step + half + 1)
        slope, value = np.polyfit(decades[near] - at, losses[near], 1)
        found.append((value, slope))
    values, slopes = np.array(found).T
    return values, slopes


def read_curve(observed: Observed) -> Reading:
    """What the curve suggests; nothing, with the reason, where the loss does not fall by more than its noise."""
    count = len(observed.losses)
    if count < FEWEST:
        why = f"the test was over after {count} steps, which say nothing; let it begin at a lower rate"
        return Reading(rate=None, smoothed=observed.losses, why=why)
    values, slopes = lines(observed)
    smoothed = tuple(values.tolist())
    width = max(5, observed.steps // 10)
    losses = np.array(observed.losses)
    means = np.convolve(losses, np.ones(width) / width, "valid")
    lowest = int(means.argmin())
    # The noise of a step, from neighbours, so that the fall itself does not count as noise.
    noise = math.sqrt(float((np.diff(losses[: lowest + width]) ** 2).mean()) / 2)
    fall, error = float(means[0] - means[lowest]), noise * math.sqrt(2 / width)
    said = f"the mean loss of {width} steps falls from {means[0]:.3g} to {means[lowest]:.3g}"
    if fall <= CERTAIN * error:
        if observed.ended == "range":
            why = f"no rate up to {observed.rates[-1]:.2g} teaches the network anything: {said}, which is noise"
        else:
            why = f"{said} before it rises, which is noise; let the test begin at a lower rate"
        return Reading(rate=None, smoothed=smoothed, why=why)
    middle = lowest + width // 2
    steepest = int(slopes[: middle + 1].argmin())
    said += f", fastest at {observed.rates[steepest]:.2g}, and is lowest at {observed.rates[middle]:.2g}"
    if observed.ended == "range" and lowest + width == count:
        said += ", the end of the range: it may go on falling"
    return Reading(rate=observed.rates[steepest], smoothed=smoothed, why=said)
