"""How good a classifier is on given rows, skewed classes in mind; what cannot be known is None, with its reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoo.metrics.areas import areas_by_class
from zoo.metrics.calibration import Bin, calibration
from zoo.metrics.intervals import RESAMPLES, Intervals, bootstrap, share_interval
from zoo.metrics.scores import Counts, averages, check_rows, class_scores, confusion_counts, counts_of, log_losses
from zoo.metrics.undefined import reasons


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassMetrics:
    """How one class fares; None where a value is undefined.

    Attributes:
        recall_interval: Wilson's 95 % interval of the recall; rows count as independent.
        support: rows of this class.
        predicted: rows that were taken for this class.
        roc_auc: of this class against all others.
        pr_auc: area under the precision-recall curve of this class against all others, as average precision; by chance
            it is the class's share of the rows.
    """

    precision: float | None
    recall: float | None
    recall_interval: tuple[float, float] | None
    f1: float | None
    support: int
    predicted: int
    roc_auc: float | None
    pr_auc: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassificationMetrics:
    """The report of one task on one set of rows.

    Attributes:
        rows: number of rows scored.
        classes: names in the order of the confusion matrix.
        balanced_accuracy: mean recall over the classes that have rows here, as scikit-learn has it.
        macro_precision, macro_recall, macro_f1: means over all classes; an undefined part counts as 0, and
            `undefined` says so.
        weighted_f1: mean F1, weighted by support.
        g_mean: geometric mean of the recalls of all classes (Kubat & Matwin 1997); None as soon as one has no rows.
        mcc: Matthews' correlation, for K classes (Gorodkin 2004); None where all rows are of, or taken for, one class.
        roc_auc, pr_auc: mean over classes of one against the rest; None as soon as one class's is undefined.
        log_loss: mean negative log probability of the true class, in nats.
        ece: expected calibration error of the predicted class (Guo et al. 2017), over `calibration`.
        calibration: the bins of equal width of that error.
        per_class: by class name.
        confusion: counts (K, K), rows true, columns predicted.
        intervals: how far off the figures may be.
        undefined: by the name of a value, such as `roc_auc of 'crack'`, why it is None or what it leaves out.
    """

    rows: int
    classes: tuple[str, ...]
    accuracy: float
    balanced_accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    weighted_f1: float
    g_mean: float | None
    mcc: float | None
    roc_auc: float | None
    pr_auc: float | None
    log_loss: float
    ece: float
    calibration: tuple[Bin, ...]
    per_class: Mapping[str, ClassMetrics]
    confusion: tuple[tuple[int, ...], ...]
    intervals: Intervals
    undefined: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values; `undefined` tells why a value is null."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["classes"] = list(self.classes)
        values["calibration"] = [dataclasses.asdict(each) for each in self.calibration]
        values["per_class"] = {name: _class_json(scores) for name, scores in self.per_class.items()}
        values["confusion"] = [list(row) for row in self.confusion]
        values["intervals"] = self.intervals.to_json()
        values["undefined"] = dict(self.undefined)
        return values


def _class_json(scores: ClassMetrics) -> dict[str, Any]:
    interval = scores.recall_interval
    return {**dataclasses.asdict(scores), "recall_interval": list(interval) if interval else None}


def classification_metrics(
    probabilities: Tensor, labels: Tensor, classes: Sequence[str], *, resamples: int = RESAMPLES
) -> ClassificationMetrics:
    """Score predicted probabilities against true classes.

    Args:
        probabilities: float (N, K), each row sums to 1; on any device.
        labels: int64 (N,), positions in `classes`; rows without a label are left out before.
        classes: the K names in order.
        resamples: of the bootstrap intervals; see `zoo.metrics.intervals.bootstrap`.

    Raises:
        ValueError: no rows, or tensors that are not what is said above; see `zoo.metrics.scores.check_rows`.
    """
    probabilities, labels = check_rows(probabilities, labels, len(classes))
    counts, (roc, precision) = counts_of(probabilities, labels), areas_by_class(probabilities, labels)
    per_class = _per_class(counts, roc, precision, classes)
    error, bins = calibration(probabilities, labels)
    means = {**averages(counts), "roc_auc": roc.mean(), "pr_auc": precision.mean()}
    return ClassificationMetrics(
        rows=len(labels),
        classes=tuple(classes),
        **{name: _known(float(value)) for name, value in means.items()},  # type: ignore[arg-type]  # None where it may
        log_loss=float(log_losses(probabilities, labels).mean()),
        ece=error,
        calibration=bins,
        per_class=per_class,
        confusion=tuple(tuple(row) for row in confusion_counts(probabilities, labels).tolist()),
        intervals=bootstrap(probabilities, labels, tuple(classes), resamples=resamples),
        undefined=reasons(per_class),
    )


def _known(value: float) -> float | None:
    return None if value != value else value


def _per_class(counts: Counts, roc: Tensor, pr: Tensor, classes: Sequence[str]) -> dict[str, ClassMetrics]:
    precision, recall, f1, roc_auc, pr_auc = (
        [_known(value) for value in column.tolist()] for column in (*class_scores(counts), roc, pr)
    )
    hits, support, predicted = (each.long().tolist() for each in (counts.hits, counts.support, counts.predicted))
    return {
        name: ClassMetrics(
            precision=precision[index],
            recall=recall[index],
            recall_interval=share_interval(hits[index], support[index]),
            f1=f1[index],
            support=support[index],
            predicted=predicted[index],
            roc_auc=roc_auc[index],
            pr_auc=pr_auc[index],
        )
        for index, name in enumerate(classes)
    }


def probabilities_of(logits: Tensor) -> Tensor:
    """Softmax of logits (N, K) in float64 on the CPU, so that large logits make no ties that float32 would."""
    return logits.detach().to("cpu").to(torch.float64).softmax(dim=1)
