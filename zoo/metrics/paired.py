"""Whether one way of training beats another over several divisions of the same rows, or whether it is noise."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import t as student_t

LEVEL = 0.95
"""Of the interval of a mean difference; one that leaves out 0 is taken for more than noise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Paired:
    """Differences of a value between two ways of training, each pair on the same rows.

    Attributes:
        mean: of the differences.
        spread: their sample standard deviation; None with fewer than two.
        reach: half the width of the interval of the mean, which lies in its middle; None with fewer than two.
    """

    mean: float
    spread: float | None
    reach: float | None

    @property
    def clear(self) -> bool:
        """Whether the mean is further from 0 than noise explains; never so with one pair."""
        return self.reach is not None and abs(self.mean) > self.reach


def paired(differences: Sequence[float], overlap: float = 0.0) -> Paired:
    """The mean of paired differences with its interval, by Student's t.

    Divisions of the same rows share most of their training rows, so that their differences agree more than those of
    fresh rows would. The corrected error of Nadeau and Bengio (2003, "Inference for the Generalization Error") adds
    scored rows / training rows to 1 / pairs under the root.

    Args:
        differences: one for each pair, at least one.
        overlap: scored rows over training rows where each pair is of another division; 0 where all are of one division
            and only the draws of training differ.
    """
    mean, count = statistics.fmean(differences), len(differences)
    if count < 2:
        return Paired(mean=mean, spread=None, reach=None)
    spread = statistics.stdev(differences)
    quantile = float(student_t.ppf((1 + LEVEL) / 2, count - 1))
    return Paired(mean=mean, spread=spread, reach=quantile * spread * math.sqrt(1 / count + overlap))
