"""The arithmetic under a classification report: what follows from the predicted classes alone, and the log loss.

Each function works on the CPU in float64, for one set of rows or for many resamples of it at once, and marks what is
undefined with NaN; the report turns NaN into reasons.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

AVERAGES = (
    "accuracy",
    "balanced_accuracy",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "weighted_f1",
    "g_mean",
    "mcc",
)


def check_rows(probabilities: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Probabilities as float64 (N, K) and labels as int64 (N,), both on the CPU, fit to be scored.

    Raises:
        ValueError: no rows, shapes that do not fit, a label outside the classes, probabilities that are not finite,
            are negative, or sum over a row to anything but 1 ± 1e-3.
    """
    if probabilities.ndim != 2 or probabilities.shape[1] != classes or labels.shape != probabilities.shape[:1]:
        raise ValueError(
            f"{classes} classes need probabilities (N, {classes}) and labels (N,), "
            f"not {tuple(probabilities.shape)} and {tuple(labels.shape)}"
        )
    if len(labels) == 0:
        raise ValueError("no rows to score")
    if labels.dtype != torch.int64:
        raise ValueError(f"labels must be int64, not {labels.dtype}")
    labels = labels.detach().to("cpu")
    probabilities = probabilities.detach().to("cpu").to(torch.float64)
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise ValueError(
            f"labels must lie in 0 to {classes - 1}, not {int(labels.min())} to {int(labels.max())}; "
            "leave rows without a label out"
        )
    _check_probabilities(probabilities)
    return probabilities.clamp(0.0, 1.0), labels


def _check_probabilities(probabilities: Tensor) -> None:
    if not bool(torch.isfinite(probabilities).all()):
        raise ValueError("probabilities are not all finite")
    if float(probabilities.min()) < -1e-6:
        raise ValueError(f"a probability is negative: {float(probabilities.min()):g}")
    worst = float((probabilities.sum(dim=1) - 1).abs().max())
    if worst > 1e-3:
        raise ValueError(f"probabilities must sum to 1 over each row; one row is off by {worst:g}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Rows of each class, float64 (..., K) each; all of `AVERAGES` follows from these.

    Attributes:
        hits: rows that are of the class and taken for it.
        support: rows that are of the class.
        predicted: rows that are taken for the class.
    """

    hits: Tensor
    support: Tensor
    predicted: Tensor


def predicted_classes(probabilities: Tensor) -> Tensor:
    """The most probable class of each row, int64 (N,); on a tie the first."""
    return probabilities.argmax(dim=1)


def confusion_counts(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Counts int64 (K, K), rows true and columns predicted."""
    classes = probabilities.shape[1]
    cells = labels * classes + predicted_classes(probabilities)
    return torch.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def counts_of(probabilities: Tensor, labels: Tensor) -> Counts:
    """The counts of one set of rows, each (K,)."""
    predicted, classes = predicted_classes(probabilities), probabilities.shape[1]
    found = [
        torch.bincount(rows, minlength=classes).double() for rows in (labels[labels == predicted], labels, predicted)
    ]
    return Counts(hits=found[0], support=found[1], predicted=found[2])


def class_scores(counts: Counts) -> tuple[Tensor, Tensor, Tensor]:
    """Precision, recall and F1 of each class, float64 (..., K) each, NaN where 0 is divided by 0.

    F1 is 2 TP / (2 TP + FP + FN), hence 0 and not undefined for a class that is only ever missed or only ever wrong.
    """
    hits, support, predicted = counts.hits, counts.support, counts.predicted
    return hits / predicted, hits / support, 2 * hits / (support + predicted)


def averages(counts: Counts) -> dict[str, Tensor]:
    """The scores of `AVERAGES` by name, float64 (...) each.

    As in scikit-learn, `balanced_accuracy` is the mean recall over classes that have rows (Brodersen et al. 2010),
    while macro averages run over all classes and count an undefined part as 0. `g_mean`, the geometric mean of the
    recalls (Kubat & Matwin 1997), is NaN where a class has no rows, and 0 as soon as one class is never found.
    """
    precision, recall, f1 = class_scores(counts)
    return {
        "accuracy": counts.hits.sum(-1) / counts.support.sum(-1),
        "balanced_accuracy": recall.nanmean(-1),
        "macro_precision": precision.nan_to_num(0.0).mean(-1),
        "macro_recall": recall.nan_to_num(0.0).mean(-1),
        "macro_f1": f1.nan_to_num(0.0).mean(-1),
        "weighted_f1": (f1.nan_to_num(0.0) * counts.support).sum(-1) / counts.support.sum(-1),
        "g_mean": recall.log().mean(-1).exp(),
        "mcc": _correlation(counts),
    }


def _correlation(counts: Counts) -> Tensor:
    """Matthews' correlation for K classes (Gorodkin 2004); NaN where truth or prediction is one class throughout."""
    rows = counts.support.sum(-1)
    together = counts.hits.sum(-1) * rows - (counts.predicted * counts.support).sum(-1)
    apart = [rows * rows - (each * each).sum(-1) for each in (counts.predicted, counts.support)]
    return (together / (apart[0] * apart[1]).sqrt()).clamp(-1.0, 1.0)


def log_losses(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Negative natural logarithm of each row's true class's probability (N,), cut off at the resolution of float64."""
    true: Tensor = probabilities.gather(1, labels[:, None]).squeeze(1)
    return -true.clamp_min(torch.finfo(torch.float64).eps).log()
