"""Rows that a generator makes of features that stand still."""

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
    """Rare classes are filled up with rows that a generator of features draws, learned from training rows alone.

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
    made = partial(synthesised, call, record, own, wanted)
    return Plan(strategy="synthetic", resamplers=(made,), shift=shift)


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
    from zoo.registry.guard import fault, guarded
    from zoo.registry.lookup import GENERATORS
    from zoo_imbalance._features import extended

    if one_hot:
        raise ZooError("synthetic makes rows of numbers, and covariates that are categories stand beside the features")
    counts = torch.bincount(target.value, minlength=len(wanted)).tolist()
    both = enumerate(zip(wanted, counts, strict=True))
    short = {label: goal - count for label, (goal, count) in both if 0 < count < goal}
    if not short:
        return features, target
    plugin, what = GENERATORS.home(call.name), f"generator {record.name}"
    with guarded(plugin, what):
        try:
            fitted = record.fit(features, target.value, len(wanted), parameters, generator)
        except ValueError as error:  # by the contract it is the user's mistake
            raise ZooError(f"{call}: {error}") from None
        made = [fitted.sample(label, more, generator) for label, more in short.items()]
    for more, rows in zip(short.values(), made, strict=True):
        if rows.shape != (more, features.shape[1]) or not bool(torch.isfinite(rows).all()):
            raise fault(plugin, what, f"asked for {more} rows of {features.shape[1]}, it gives {tuple(rows.shape)}")
    labels = torch.cat([torch.full((more,), label) for label, more in short.items()])
    return torch.cat([features, *(rows.float() for rows in made)]), extended(target, torch.cat([target.value, labels]))
