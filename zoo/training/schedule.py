"""Schedules of the learning rate: a factor on the rate of every group, by step; of `plateau` by validation too."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass

import torch

from zoo.errors import OptionError
from zoo.metrics.choice import is_better
from zoo.specs import bind, parse_options


@dataclass(frozen=True, kw_only=True, slots=True)
class Cosine:
    """Half a cosine down to `floor` (Loshchilov and Hutter 2017, SGDR, without restarts)."""

    floor: float = 0.0

    def __post_init__(self) -> None:
        _share("floor", self.floor)

    def after(self, share: float) -> float:
        """The factor when this share of the steps behind the warm-up is over."""
        return self.floor + (1 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * share))


@dataclass(frozen=True, kw_only=True, slots=True)
class Linear:
    """A straight line down to `floor`."""

    floor: float = 0.0

    def __post_init__(self) -> None:
        _share("floor", self.floor)

    def after(self, share: float) -> float:
        """As of `Cosine`."""
        return 1 - (1 - self.floor) * share


@dataclass(frozen=True, kw_only=True, slots=True)
class Constant:
    """The full rate after the warm-up."""

    def after(self, share: float) -> float:
        """As of `Cosine`."""
        del share
        return 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class OneCycle:
    """Up from a 25th over the share `rise` of all steps, down to nothing, both by half a cosine (Smith 2018).

    The rise is its warm-up; --warmup does not count. Momentum is not cycled.
    """

    rise: float = 0.3

    def __post_init__(self) -> None:
        if not 0 < self.rise < 1:
            raise ValueError(f"rise is a share of the steps between 0 and 1, not {self.rise}")

    def after(self, share: float) -> float:
        """The factor when this share of all steps is over."""
        if share < self.rise:
            return 1 - (1 - 1 / 25) * 0.5 * (1.0 + math.cos(math.pi * share / self.rise))
        return 0.5 * (1.0 + math.cos(math.pi * (share - self.rise) / (1 - self.rise)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Plateau:
    """The rates are multiplied by `factor` when --metric has not improved for `patience` epochs."""

    patience: int = 2
    factor: float = 0.1

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise ValueError(f"patience is a number of epochs, at least one, not {self.patience}")
        if not 0 < self.factor < 1:
            raise ValueError(f"factor is between 0 and 1, not {self.factor}")

    def after(self, share: float) -> float:
        """As of `Constant`: what validation says comes on top."""
        del share
        return 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Exponential:
    """From `low` to `high` times the full rates, by the same factor in each step: a range test's, and of no run."""

    low: float
    high: float

    def after(self, share: float) -> float:
        """The factor when this share of all steps is over."""
        return self.low * math.exp(share * math.log(self.high / self.low))


Curve = Cosine | Linear | Constant | OneCycle | Plateau | Exponential
CURVES: dict[str, type[Curve]] = {
    "cosine": Cosine,
    "linear": Linear,
    "constant": Constant,
    "one-cycle": OneCycle,
    "plateau": Plateau,
}


def parse_curve(text: str) -> Curve:
    """Parse `cosine`, `linear(floor=0.1)`, `constant`, `one-cycle` or `plateau(patience=3)`.

    Raises:
        OptionError: another name, several joined with `+`, or parameters that it refuses.
    """
    calls = parse_options(text)
    names = ", ".join(CURVES)
    if len(calls) > 1:
        raise OptionError(f"there is one schedule at a time, of {names}", text=text, column=calls[1].column)
    call = calls[0]
    if call.name not in CURVES:
        close = difflib.get_close_matches(call.name, CURVES, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        call.fail(f"unknown schedule {call.name!r}; there are {names}{hint}")
    return bind(call, CURVES[call.name])


class Schedule(torch.optim.lr_scheduler.LambdaLR):
    """Sets the rate of every group after each step; `note` tells it what validation said.

    Args:
        optimiser: its groups hold the full rates.
        curve: the shape.
        steps: from the first to the last.
        warmup: share of them in which the rates rise from zero, in a straight line.
        done: how many of them are over.
    """

    def __init__(
        self, optimiser: torch.optim.Optimizer, curve: Curve, steps: int, warmup: float, done: int = 0
    ) -> None:
        self.curve, self.steps, self.done = curve, max(1, steps), done
        self.rising = 0 if isinstance(curve, OneCycle | Exponential) else max(1, round(warmup * steps))
        self.shrunk, self._best, self._waited = 1.0, math.nan, 0
        super().__init__(optimiser, self.factor)

    def factor(self, step: int) -> float:
        """On every rate at `step`, counted from 0 where this schedule began to be used."""
        step += self.done
        if step < self.rising:
            return self.shrunk * (step + 1) / self.rising
        return self.shrunk * self.curve.after(min(1.0, (step - self.rising) / max(1, self.steps - self.rising)))

    @property
    def validation(self) -> dict[str, float | int | None]:
        """What validation has done to it so far, JSON values."""
        return {"shrunk": self.shrunk, "best": None if math.isnan(self._best) else self._best, "waited": self._waited}

    def go_to(self, step: int, shrunk: float, best: float | None, waited: int) -> None:
        """Be where a schedule was after `step` steps; the groups' rates are the caller's to set."""
        self.last_epoch, self._step_count = step, step + 1
        self.shrunk, self._best, self._waited = shrunk, math.nan if best is None else best, waited

    def note(self, metric: str, value: float) -> None:
        """Validation after an epoch."""
        if not isinstance(self.curve, Plateau):
            return
        if math.isnan(self._best) or is_better(metric, value, self._best):
            self._best, self._waited = value, 0
            return
        self._waited += 1
        if self._waited > self.curve.patience:
            self.shrunk, self._waited = self.shrunk * self.curve.factor, 0
            for group, full in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
                group["lr"] = full * self.factor(self.last_epoch)


def _share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is a share of the full rate between 0 and 1, not {value}")
