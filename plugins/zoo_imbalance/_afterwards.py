"""What is chosen on validation rows: thresholds, and the power of a normalisation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from zoo.specs import Target

PASSES = 3
"""Over all classes; thresholds seldom move after the second."""


def score(metric: str, logits: Tensor, labels: Tensor) -> float:
    """The metric of the predictions that logits (N, K) make, over the classes that have rows or predictions."""
    return float(_scores(metric, logits.argmax(dim=1)[None], labels, logits.shape[1])[0])


def _scores(metric: str, predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The metric (S,) of each of S predictions (S, N)."""
    pairs = labels * classes + predicted
    counts = torch.zeros((len(predicted), classes * classes), dtype=torch.float64)
    counts.scatter_add_(1, pairs, torch.ones_like(pairs, dtype=torch.float64))
    confusion = counts.view(-1, classes, classes)
    hits, truth = confusion.diagonal(dim1=1, dim2=2), confusion.sum(dim=2)
    guessed, rows = confusion.sum(dim=1), confusion.sum(dim=(1, 2))
    if metric == "accuracy":
        return hits.sum(dim=1) / rows
    if metric == "balanced_accuracy":
        return (hits / truth.clamp_min(1)).sum(dim=1) / (truth > 0).sum(dim=1)
    if metric == "macro_f1":
        return (2 * hits / (truth + guessed).clamp_min(1)).sum(dim=1) / classes
    # Matthews' correlation of K classes (Gorodkin 2004).
    both: Tensor = hits.sum(dim=1) * rows - (truth * guessed).sum(dim=1)
    spread = (rows.square() - guessed.square().sum(dim=1)) * (rows.square() - truth.square().sum(dim=1))
    found: Tensor = both / spread.clamp_min(1e-12).sqrt()
    return found


def tuned(metric: str, logits: Tensor, target: Target) -> tuple[float, ...]:
    """Biases (K,) that raise the metric on rows with logits (N, K); zeros where none does."""
    if target.mask.ndim == 2:
        labels_of = zip(logits.double().unbind(1), target.value.unbind(1), target.mask.unbind(1), strict=True)
        return tuple(_of_label(metric, own[known], there[known] > 0.5) for own, there, known in labels_of)
    values, labels = logits.double(), target.value
    bias = torch.zeros(values.shape[1], dtype=torch.float64)
    best = score(metric, values, labels)
    for _ in range(PASSES):
        before = best
        for index in range(len(bias)):
            bias[index], best = _line(metric, values + bias, labels, index, bias[index], best)
        if best <= before:
            break
    return tuple((bias - bias.mean()).tolist())


def _line(metric: str, values: Tensor, labels: Tensor, index: int, here: Tensor, best: float) -> tuple[Tensor, float]:
    """The best bias of one class, all others kept: in the middle between two places where a prediction changes."""
    others = values.clone()
    others[:, index] = -torch.inf
    rival = others.max(dim=1)
    gaps = (rival.values - values[:, index]).sort().values  # the class wins a row where its bias rises by more
    gaps = gaps[torch.linspace(0, len(gaps) - 1, min(len(gaps), 200)).long()]
    edges = torch.cat([gaps[:1] - 1, (gaps[1:] + gaps[:-1]) / 2, gaps[-1:] + 1])
    wins = (values[:, index] + edges[:, None]) > rival.values
    predicted = torch.where(wins, index, rival.indices)
    found = _scores(metric, predicted, labels, values.shape[1])
    top = float(found.max())
    if top <= best + 1e-12:
        return here, best
    chosen = edges[found >= top - 1e-12]
    return here + chosen[chosen.abs().argmin()], top  # the smallest change of those that do as well


def _of_label(metric: str, values: Tensor, there: Tensor) -> float:
    """What is added to the logits (N,) of one label, so that being above 0 predicts it best."""
    if not len(values):
        return 0.0
    ordered = values.sort().values
    edges = torch.cat([ordered[:1] - 1, (ordered[1:] + ordered[:-1]) / 2, ordered[-1:] + 1, torch.zeros(1).double()])
    guessed = (values > edges[:, None]).long()
    if metric == "macro_f1":
        hits = (guessed * there).sum(dim=1)
        found = 2 * hits / (guessed.sum(dim=1) + there.sum()).clamp_min(1)
    else:
        found = _scores(metric, guessed, there.long(), 2)
    best = edges[found >= found.max() - 1e-12]
    return -float(best[best.abs().argmin()])  # the smallest change of those that do as well


def powered(weight: Tensor, tau: float) -> Tensor:
    """Weights (K, D), each row divided by its length to the power tau."""
    lengths: Tensor = weight.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return weight / lengths.pow(tau)


def normalised(
    tau: float | None,
    metric: str,
    weight: Tensor,
    bias: Tensor,
    logits: Callable[[Tensor, Tensor], Tensor],
    target: Target,
) -> tuple[Tensor, Tensor]:
    """Normalised weights and no bias; tau is that with the best metric, of several the smallest."""
    none = torch.zeros_like(bias)
    if tau is None:
        grid = [step / 10 for step in range(21)]
        found = [score(metric, logits(powered(weight, each), none), target.value) for each in grid]
        tau = grid[found.index(max(found))]
    return powered(weight, tau), none
