"""Class weights that stop growing somewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass

from zoo.specs import ClassStatistics, Plan


@dataclass(frozen=True, kw_only=True, slots=True)
class RareFirst:
    """Parameters of `acme-rare-first`; no class weighs more than `limit` times another."""

    limit: float = 5.0

    def __post_init__(self) -> None:
        if self.limit < 1.0:
            raise ValueError(f"limit must be at least 1, not {self.limit}")


def rare_first(statistics: ClassStatistics, parameters: RareFirst) -> Plan:
    """Inverse frequency up to the limit."""
    most = max(statistics.counts)
    weights = tuple(min(parameters.limit, most / count) for count in statistics.counts)
    shift = tuple(math.log(weight) for weight in weights)
    return Plan(strategy="acme-rare-first", element_weights=weights, shift=shift)
