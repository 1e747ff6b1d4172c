"""Whether holes depend on the label: a chi-squared test of each column, exact enough where counts are small."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

LEVEL = 0.05
_SMALL = 5.0
"""Expected counts below which the chi-squared distribution is no good approximation (Cochran's rule)."""
_DRAWS = 9999


@dataclass(frozen=True, kw_only=True, slots=True)
class Dependence:
    """Whether the holes of one column depend on the label.

    Attributes:
        statistic: Pearson's chi-squared of holes against classes.
        p_value: chance of one at least as large where holes have nothing to do with the label.
        how: `chi-squared`, or `permutation` where a count that is expected is below 5.
    """

    statistic: float
    p_value: float
    how: str


def depends_on_label(missing: NDArray[np.bool_], labels: NDArray[np.int64], seed: int = 0) -> Dependence | None:
    """Test one column; None where nothing or everything is missing, or fewer than two classes are there.

    Args:
        missing: bool (N,), True at holes.
        labels: int64 (N,), index of the class, -1 where it is not known; such rows do not count.
        seed: of the permutations.
    """
    known = labels >= 0
    classes = np.unique(labels[known], return_inverse=True)[1]
    sizes = np.bincount(classes)
    holes = np.bincount(classes, weights=missing[known].astype(np.float64), minlength=len(sizes)).astype(np.int64)
    if len(sizes) < 2 or not 0 < holes.sum() < sizes.sum():
        return None
    share = holes.sum() / sizes.sum()
    own = float(_statistics(holes[None], sizes, share)[0])
    if min(share, 1 - share) * sizes.min() >= _SMALL:
        # The tail of the chi-squared distribution with K - 1 degrees of freedom.
        halves = torch.tensor([len(sizes) - 1, own], dtype=torch.float64) / 2
        return Dependence(statistic=own, p_value=float(torch.special.gammaincc(*halves)), how="chi-squared")
    # Permuting labels draws the holes of the classes from a multivariate hypergeometric distribution.
    drawn = np.random.default_rng(seed).multivariate_hypergeometric(sizes, int(holes.sum()), size=_DRAWS)
    larger = int((_statistics(drawn, sizes, share) >= own * (1 - 1e-9)).sum())
    return Dependence(statistic=own, p_value=(larger + 1) / (_DRAWS + 1), how="permutation")


def _statistics(holes: NDArray[np.int64], sizes: NDArray[np.int64], share: float) -> NDArray[np.float64]:
    """Pearson's chi-squared of each row of `holes` (M, K) in classes of `sizes` (K,)."""
    found: NDArray[np.float64] = (np.square(holes - share * sizes) / (share * (1 - share) * sizes)).sum(axis=1)
    return found


def sentence(column: str, target: str, found: Dependence | None, *, indicator: bool = True, label: bool = False) -> str:
    """What the test says, in words; empty where there is nothing to test.

    Args:
        column: that has the holes.
        target: whose classes they were held against.
        found: what the test gave.
        indicator: whether a column could say what was missing.
        label: whether the column is a target itself, whose holes nobody fills.
    """
    if found is None:
        return ""
    chance = "less than 0.001" if found.p_value < 0.001 else f"{found.p_value:.3f}"
    if found.p_value >= LEVEL:
        return f"holes of {column!r} show no dependence on {target!r} (p {chance}, {found.how})"
    mend = f"fill them{', and consider +indicator' if indicator else ''}"
    if label:
        mend = "the labels that there are do not stand for all"
    return (
        f"holes of {column!r} depend on {target!r} (p {chance}, {found.how}): leaving such rows out would shift the "
        f"classes; {mend}"
    )
