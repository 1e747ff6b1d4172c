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
        others: that of all other images; none for no change; by default as `--augment` says, which must then be some.
    """

    share: float = 0.5
    preset: str = "light(rotate=30, vertical=true, noise=0.05)"
    others: str | None = ""

    def __post_init__(self) -> None:
        if not 0.0 < self.share < 1.0:
            raise ValueError(f"share must lie in (0, 1), not {self.share}")


def minority_augment_plan(statistics: ClassStatistics, parameters: MinorityAugment) -> Plan:
    """Images of rare classes are turned, mirrored and made noisy; join `balanced-sampler` to show more of them.

    Where the others stay as they are, a network learns that what is turned is rare, and that no image as it is can be:
    core refuses that, unless `others=none` insists.
    """
    from zoo.data.augment import parse_augmentation
    from zoo.errors import OptionError

    others = "none" if parameters.others is None else parameters.others
    for name, text in (("preset", parameters.preset), ("others", others or "none")):
        try:
            parse_augmentation(text)
        except OptionError as error:
            raise ValueError(f"{name}: {error.message}") from None
    most = parameters.share * max(statistics.counts)
    shown = {index: parameters.preset if n <= most else others for index, n in enumerate(statistics.counts)}
    return Plan(
        strategy="minority-augment",
        class_transforms={index: preset for index, preset in shown.items() if preset},
        acts_on="pixels",
    )
