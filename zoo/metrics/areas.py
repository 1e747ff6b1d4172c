"""Areas under the ROC and the precision-recall curve of one class against the rest, for many resamples at once.

Libraries offer these for one set of rows; an interval needs them for a thousand, which share one sort here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranking:
    """Rows by falling probability of one class; rows of equal probability are one group.

    Attributes:
        order: int64 (N,), positions of rows.
        own: int64 (P,), positions of the rows of the class, in that order.
        last: int64 (G,), for each group with a row of the class: where in `own` it ends.
        ends: int64 (G,), where in `order` it ends.
        starts: int64 (G,), where in `order` it starts.
    """

    order: Tensor
    own: Tensor
    last: Tensor
    ends: Tensor
    starts: Tensor


def ranking(probabilities: Tensor, labels: Tensor, index: int) -> Ranking:
    """The rows of `probabilities` (N, K) by that of class `index`."""
    falling, order = probabilities[:, index].sort(descending=True, stable=True)
    new = torch.ones(len(order) + 1, dtype=torch.bool)
    new[1:-1] = falling[1:] != falling[:-1]
    edges = new.nonzero().squeeze(1)
    groups = new[:-1].cumsum(0) - 1
    positive = labels[order] == index
    # The groups come in rising order, so that sorted and consecutive are the same.
    held, sizes = torch.unique(groups[positive], return_counts=True)
    return Ranking(
        order=order, own=order[positive], last=sizes.cumsum(0) - 1, ends=edges[held + 1] - 1, starts=edges[held]
    )


def areas(ranked: Ranking, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Area under the ROC curve and average precision, float64 (B,) each.

    The ROC curve is joined by straight lines; average precision is the sum over thresholds of precision times the
    recall that is gained there, not interpolated. Both as scikit-learn has them. Only thresholds at which a row of the
    class is found add to either, so that but one running sum goes over all rows.

    Args:
        ranked: the rows in order.
        weights: float (B, N), how often each row counts in each resample; float32 holds sums up to 2^24.

    Returns:
        NaN where no row counts that is of the class, and for the ROC curve also where all are.
    """
    ordered = weights.index_select(1, ranked.order)
    sums = ordered.cumsum(dim=1)
    # A group starts after the one before it has ended; what it begins with is taken off again.
    taken = sums.index_select(1, ranked.ends).double()
    before = (sums.index_select(1, ranked.starts) - ordered.index_select(1, ranked.starts)).double()
    found = weights.index_select(1, ranked.own).cumsum(dim=1).index_select(1, ranked.last).double()
    gained = torch.diff(found, dim=1, prepend=torch.zeros(len(found), 1, dtype=torch.float64))
    positives = gained.sum(dim=1)
    negatives = sums[:, -1].double() - positives
    wrong = (taken - found) + (before - (found - gained))
    roc = (gained * (negatives[:, None] - wrong / 2)).sum(dim=1) / (positives * negatives)
    precision = (gained * found / taken.clamp_min(1.0)).sum(dim=1) / positives
    return roc, precision


def areas_by_class(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Area under the ROC curve and average precision of each class, float64 (K,) each, NaN where undefined."""
    once = torch.ones(1, len(labels), dtype=torch.float64)
    found = [areas(ranking(probabilities, labels, index), once) for index in range(probabilities.shape[1])]
    return torch.cat([roc for roc, _ in found]), torch.cat([precision for _, precision in found])
