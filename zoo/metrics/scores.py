"""The arithmetic under a classification report: everything that is decided follows from the confusion counts.

Each function works on the CPU in float64 and marks what is undefined with NaN (tensors) or None (single values); the
report turns both into reasons.
"""

from __future__ import annotations

import torch
from torch import Tensor

AVERAGES = ("accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "weighted_f1")


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


def confusion_counts(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Counts int64 (K, K), rows true and columns predicted; on a tie the first class is predicted."""
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(dim=1)
    return torch.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def class_scores(confusion: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Precision, recall and F1 of each class, float64 (K,) each, NaN where 0 is divided by 0.

    F1 is 2 TP / (2 TP + FP + FN), hence 0 and not undefined for a class that is only ever missed or only ever wrong.
    """
    hits = confusion.diagonal().double()
    support, predicted = confusion.sum(dim=1).double(), confusion.sum(dim=0).double()
    return hits / predicted, hits / support, 2 * hits / (support + predicted)


def averages(confusion: Tensor) -> dict[str, float]:
    """The scores of `AVERAGES` by name.

    As in scikit-learn, `balanced_accuracy` is the mean recall over classes that have rows (Brodersen et al. 2010),
    while macro averages run over all classes and count an undefined part as 0.
    """
    precision, recall, f1 = class_scores(confusion)
    support = confusion.sum(dim=1).double()
    return {
        "accuracy": float(confusion.diagonal().sum() / confusion.sum()),
        "balanced_accuracy": float(recall[support > 0].mean()),
        "macro_precision": float(precision.nan_to_num(0.0).mean()),
        "macro_recall": float(recall.nan_to_num(0.0).mean()),
        "macro_f1": float(f1.nan_to_num(0.0).mean()),
        "weighted_f1": float((f1.nan_to_num(0.0) * support).sum() / support.sum()),
    }


def roc_auc_by_class(probabilities: Tensor, labels: Tensor) -> list[float | None]:
    """Area under the ROC curve of each class against the rest; None where all rows or none are of the class."""
    # Here and not above: torchmetrics takes more than a second to import, and most runs choose by another metric.
    from torchmetrics.functional.classification import binary_auroc

    areas: list[float | None] = []
    for index in range(probabilities.shape[1]):
        positive = (labels == index).long()
        defined = 0 < int(positive.sum()) < len(labels)
        areas.append(float(binary_auroc(probabilities[:, index], positive, validate_args=False)) if defined else None)
    return areas


def mean_log_loss(probabilities: Tensor, labels: Tensor) -> float:
    """Mean negative natural logarithm of the true class's probability, cut off at the resolution of float64."""
    true = probabilities.gather(1, labels[:, None]).clamp_min(torch.finfo(torch.float64).eps)
    return float(-true.log().mean())
