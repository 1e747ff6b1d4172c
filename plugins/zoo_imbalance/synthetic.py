"""Rows that a generator makes: of features that stand still, or pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from zoo.specs import Call, ClassStatistics, GeneratorRecord, Plan, Target, bind, parse_options

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Synthetic:
    """Parameters of `synthetic`.

    Attributes:
        generator: which one, with its options, as in `vae(latent=8)`; `zoo plugins` names them.
        ratio: each class is filled up to this share of the most frequent one, in (0, 1].
    """

    generator: str = "gaussian"
    ratio: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.ratio <= 1.0:
            raise ValueError(f"ratio must lie in (0, 1], not {self.ratio}")


def synthetic_plan(statistics: ClassStatistics, parameters: Synthetic) -> Plan:
    """Rare classes are filled up with what a generator draws, features or pictures, learned from training rows alone.

    Raises:
        ValueError: no such generator, or it does not take these options.
    """
    from zoo.errors import OptionError
    from zoo.registry.lookup import GENERATORS

    try:
        (call,) = parse_options(parameters.generator)
        record = GENERATORS.of_call(call)
        own: Any = bind(call, record.parameters)
    except OptionError as error:
        raise ValueError(f"generator: {error.message}") from None
    wanted = tuple(max(count, int(parameters.ratio * max(statistics.counts))) for count in statistics.counts)
    shift = tuple(math.log(goal / count) for goal, count in zip(wanted, statistics.counts, strict=True))
    if record.makes == "images":
        return Plan(strategy="synthetic", image_maker=Pictures(call, record, own, wanted), shift=shift)
    return Plan(strategy="synthetic", resamplers=(partial(synthesised, call, record, own, wanted),), shift=shift)


@dataclass(frozen=True, slots=True)
class Pictures:
    """Makes pictures of rare classes; see `zoo.specs.plans.ImageMaker`."""

    call: Call
    record: GeneratorRecord
    parameters: Any
    wanted: tuple[int, ...]

    @property
    def side(self) -> int:
        """Of the pictures, in pixels."""
        return int(self.parameters.side)

    def __str__(self) -> str:
        return str(self.call)

    def __call__(self, pictures: Tensor, target: Target, generator: torch.Generator) -> tuple[Tensor, Target]:
        """New pictures and their targets; raises as `synthesised` does."""
        import torch

        made, labels = _drawn(self, pictures, target.value, generator)
        return made, Target(value=labels, mask=torch.ones(len(labels), dtype=torch.bool))


def synthesised(
    call: Call,
    record: GeneratorRecord,
    parameters: Any,
    wanted: tuple[int, ...],
    features: Tensor,
    target: Target,
    generator: torch.Generator,
    one_hot: Sequence[tuple[int, int]] = (),
) -> tuple[Tensor, Target]:
    """The rows given, and behind them those made: features float32 (M, D) and hard labels.

    Raises:
        ZooError: the generator cannot learn these rows, or covariates that are categories stand among them.
        PluginError: its plugin broke, or gave rows of another shape or without a number.
    """
    import torch

    from zoo.errors import ZooError
    from zoo_imbalance._features import extended

    if one_hot:
        raise ZooError("synthetic makes rows of numbers, and covariates that are categories stand beside the features")
    made, labels = _drawn(Pictures(call, record, parameters, wanted), features, target.value, generator)
    if not len(labels):
        return features, target
    return torch.cat([features, made]), extended(target, torch.cat([target.value, labels]))


def _drawn(asked: Pictures, rows: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """What fills each class up, like `rows` (N, …), and labels int64 (M,), learned from all rows."""
    import torch

    from zoo.errors import ZooError
    from zoo.registry.guard import fault, guarded
    from zoo.registry.lookup import GENERATORS

    counts = torch.bincount(labels, minlength=len(asked.wanted)).tolist()
    both = enumerate(zip(asked.wanted, counts, strict=True))
    short = {label: goal - count for label, (goal, count) in both if 0 < count < goal}
    if not short:
        return rows[:0], labels[:0]
    plugin, what = GENERATORS.home(asked.call.name), f"generator {asked.record.name}"
    with guarded(plugin, what):
        try:
            fitted = asked.record.fit(rows, labels, len(asked.wanted), asked.parameters, generator)
        except ValueError as error:  # by the contract it is the user's mistake
            raise ZooError(f"{asked.call}: {error}") from None
        made = [fitted.sample(label, more, generator) for label, more in short.items()]
    for more, found in zip(short.values(), made, strict=True):
        if found.shape != (more, *rows.shape[1:]) or not bool(torch.isfinite(found).all()):
            own = " x ".join(map(str, rows.shape[1:]))
            raise fault(plugin, what, f"asked for {more} rows of {own}, it gives {tuple(found.shape)}")
    found_labels = torch.cat([torch.full((more,), label) for label, more in short.items()])
    return torch.cat([found.float() for found in made]), found_labels
