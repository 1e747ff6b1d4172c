"""The draws themselves: positions of labelled rows, from the generator alone."""

from __future__ import annotations

import torch
from torch import Tensor


def balanced(q: float, progressive: int | None, labels: Tensor, epoch: int, generator: torch.Generator) -> Tensor:
    """As many positions int64 (M,) as rows are labelled, a class in proportion to n_c^q."""
    known = torch.nonzero(labels >= 0)[:, 0]
    counts = torch.bincount(labels[known]).double()
    shares = torch.where(counts > 0, counts.pow(q), 0)
    shares /= shares.sum()
    if progressive is not None:
        gone = min(1.0, epoch / progressive)
        shares = (1 - gone) * counts / counts.sum() + gone * shares
    # Class first, then one of its rows: torch.multinomial over rows would end at 2^24 of them.
    drawn = torch.multinomial(shares, len(known), replacement=True, generator=generator)
    order = known[torch.argsort(labels[known], stable=True)]
    starts = counts.long().cumsum(0) - counts.long()
    within = (torch.rand(len(known), generator=generator, dtype=torch.float64) * counts[drawn]).long()
    return order[starts[drawn] + within.minimum(counts.long()[drawn] - 1)]


def undersampled(most: int, redraw: bool, labels: Tensor, epoch: int, generator: torch.Generator) -> Tensor:
    """At most `most` positions of each class, in mixed order."""
    del epoch
    choice = generator if redraw else torch.Generator().manual_seed(0)
    parts = []
    for index in range(int(labels.max()) + 1):
        rows = torch.nonzero(labels == index)[:, 0]
        parts.append(rows[torch.randperm(len(rows), generator=choice)[:most]])
    rows = torch.cat(parts)
    return rows[torch.randperm(len(rows), generator=generator)]
