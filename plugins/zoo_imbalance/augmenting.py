"""Stronger augmentation for rare classes."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.specs import ClassStatistics, Plan


@dataclass(frozen=True, kw_only=True, slots=True)
class MinorityAugment:
    """Parameters of `minority-augment`.

    Attributes:
        share: classes with at most this share of the most frequent one's rows are rare, in (0, 1).
        preset: the augmentation of their images, in the grammar of `--augment`.
    """

    share: float = 0.5
    preset: str = "light(rotate=30, vertical=true, noise=0.05)"

    def __post_init__(self) -> None:
        if not 0.0 < self.share < 1.0:
            raise ValueError(f"share must lie in (0, 1), not {self.share}")


def minority_augment_plan(statistics: ClassStatistics, parameters: MinorityAugment) -> Plan:
    """Images of rare classes are turned, mirrored and made noisy; join `balanced-sampler` to show more of them.

    Beware: a network can learn that what is turned is rare. `--augment` augments the other classes too.
    """
    from zoo.data.augment import parse_augmentation
    from zoo.errors import OptionError

    try:
        parse_augmentation(parameters.preset)
    except OptionError as error:
        raise ValueError(f"preset: {error.message}") from None
    most = parameters.share * max(statistics.counts)
    rare = {index: parameters.preset for index, count in enumerate(statistics.counts) if count <= most}
    return Plan(strategy="minority-augment", class_transforms=rare, acts_on="pixels")
