"""How good predictions of several labels a row are; what cannot be known is None, with its reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoo.errors import DataError
from zoo.metrics.areas import areas, ranking
from zoo.metrics.intervals import RESAMPLES, Intervals, share_interval
from zoo.metrics.label_reasons import label_reasons, lacking
from zoo.metrics.names import metric_and_own
from zoo.metrics.predictions import THRESHOLD
from zoo.metrics.row_bootstrap import row_bootstrap
from zoo.specs import Target

METRICS = ("log_loss", "map", "roc_auc", "macro_f1", "micro_f1", "label_accuracy", "subset_accuracy")
"""What may choose the best epoch; the first does where nobody says otherwise."""

OF_LABEL = ("ap", "roc_auc", "f1", "recall", "precision")
"""What may choose it of one label, named as in `ap(crack)`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelMetrics:
    """How one label fares over the rows of which it is known; None where a value is undefined.

    Attributes:
        recall_interval: Wilson's 95 % interval of the recall.
        ap: average precision, the area under the precision-recall curve; by chance it is the label's share.
        rows: of which it is known whether they have the label.
        support: rows that have it.
        predicted: rows taken for having it, with a probability of at least one half.
    """

    precision: float | None
    recall: float | None
    recall_interval: tuple[float, float] | None
    f1: float | None
    roc_auc: float | None
    ap: float | None
    rows: int
    support: int
    predicted: int


@dataclass(frozen=True, kw_only=True, slots=True)
class MultilabelMetrics:
    """The report of one task on one set of rows.

    Attributes:
        rows: rows of which at least one label is known.
        classes: the labels.
        map, roc_auc: means of the labels' average precisions and areas; None as soon as one is undefined.
        macro_f1: mean F1 of the labels; an undefined one counts as 0, and `undefined` says so.
        micro_f1: F1 over all labels of all rows; None where none is there and none predicted.
        label_accuracy: share of the known labels that are right.
        subset_accuracy: share right in every label, of the rows of which all are known; None without such a row.
        log_loss: mean negative log probability of a known label, in nats.
        per_class: by label.
        intervals: how far off the figures may be.
        undefined: by the name of a value, why it is None or what it leaves out.
    """

    kind: str = "multilabel"
    rows: int
    classes: tuple[str, ...]
    map: float | None
    roc_auc: float | None
    macro_f1: float
    micro_f1: float | None
    label_accuracy: float
    subset_accuracy: float | None
    log_loss: float
    per_class: Mapping[str, LabelMetrics]
    intervals: Intervals
    undefined: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {
            **values,
            "classes": list(self.classes),
            "per_class": {name: dataclasses.asdict(own) for name, own in self.per_class.items()},
            "intervals": self.intervals.to_json(),
            "undefined": dict(self.undefined),
        }


def multilabel_metrics(
    probabilities: Tensor, target: Target, classes: Sequence[str], *, resamples: int = RESAMPLES
) -> MultilabelMetrics:
    """Score predicted probabilities of labels.

    Args:
        probabilities: float (N, K), of each label for itself.
        target: of the same rows, perhaps with holes.
        classes: the K labels.
        resamples: of the bootstrap intervals.

    Raises:
        ValueError: no known label, or probabilities that are not finite.
    """
    rows = _Rows(probabilities, target)
    once = torch.ones(1, rows.count, dtype=torch.float32)
    whole = {name: float(value) for name, value in rows.figures(once).items()}
    per_class = {name: rows.label(index) for index, name in enumerate(classes)}

    def score(drawn: Tensor) -> dict[str, Tensor]:
        ones = torch.ones_like(drawn, dtype=torch.float32)
        return rows.figures(torch.zeros_like(ones).scatter_add_(1, drawn, ones))

    return MultilabelMetrics(
        rows=rows.count,
        classes=tuple(classes),
        **{name: None if value != value else value for name, value in whole.items()},  # type: ignore[arg-type]
        per_class=per_class,
        intervals=row_bootstrap(score, rows.count, len(classes), resamples=resamples),
        undefined=label_reasons(per_class, whole),
    )


class _Rows:
    """Rows that are scored, and what of them does not change from one resample to the next."""

    def __init__(self, probabilities: Tensor, target: Target) -> None:
        kept = target.mask.any(dim=1).cpu()
        self.known = target.mask.cpu()[kept]
        self.count = len(self.known)
        if not self.count:
            raise ValueError("no rows to score")
        self.there = (target.value.cpu()[kept] > 0.5) & self.known
        given = probabilities.detach().cpu().double()[kept]
        if not bool(given.isfinite().all()):
            raise ValueError("probabilities are not all finite")
        self.guessed = (given >= THRESHOLD) & self.known
        right = torch.where(self.there, given, 1 - given).clamp_min(torch.finfo(torch.float64).eps)
        self.losses = torch.where(self.known, -right.log(), 0.0)
        self.places = [torch.nonzero(own)[:, 0] for own in self.known.unbind(1)]
        self.ranked = [
            ranking(given[rows, index : index + 1], (~self.there[rows, index]).long(), 0)
            for index, rows in enumerate(self.places)
        ]

    def figures(self, weights: Tensor) -> dict[str, Tensor]:
        """Each figure (B,) of rows that count `weights` (B, N) times, NaN where undefined."""
        hits = weights @ (self.there & self.guessed).float()
        support, guessed = weights @ self.there.float(), weights @ self.guessed.float()
        labels = (weights @ self.known.float()).sum(dim=1).double()
        whole = self.known.all(dim=1)
        exact = weights @ (whole & (self.there == self.guessed).all(dim=1)).float()
        right = (weights @ (self.known & (self.there == self.guessed)).float()).sum(dim=1)
        curves = [
            areas(own, weights[:, rows]) if len(rows) else _nothing(weights)
            for own, rows in zip(self.ranked, self.places, strict=True)
        ]
        return {
            "map": torch.stack([precision for _, precision in curves]).mean(dim=0),
            "roc_auc": torch.stack([roc for roc, _ in curves]).mean(dim=0),
            "macro_f1": (2 * hits / (support + guessed).clamp_min(1)).double().mean(dim=1),
            "micro_f1": (2 * hits.sum(dim=1) / (support + guessed).sum(dim=1)).double(),
            "label_accuracy": right.double() / labels,
            "subset_accuracy": (exact / (weights @ whole.float())).double(),
            "log_loss": (weights.double() @ self.losses).sum(dim=1) / labels,
        }

    def label(self, index: int) -> LabelMetrics:
        """The scores of one label."""
        there, guessed = self.there[:, index], self.guessed[:, index]
        hits, support, predicted = int((there & guessed).sum()), int(there.sum()), int(guessed.sum())
        rows = self.places[index]
        roc, precision = (
            areas(self.ranked[index], torch.ones(1, len(rows))) if len(rows) else _nothing(torch.ones(1, 1))
        )
        return LabelMetrics(
            precision=hits / predicted if predicted else None,
            recall=hits / support if support else None,
            recall_interval=share_interval(hits, support),
            f1=2 * hits / (support + predicted) if support + predicted else None,
            roc_auc=None if bool(roc.isnan()) else float(roc),
            ap=None if bool(precision.isnan()) else float(precision),
            rows=len(rows),
            support=support,
            predicted=predicted,
        )


def _nothing(weights: Tensor) -> tuple[Tensor, Tensor]:
    none = torch.full((len(weights),), torch.nan, dtype=torch.float64)
    return none, none


def check_name(name: str, classes: Sequence[str] | None = None) -> tuple[str, str | None]:
    """The metric, and the label that it is about or None.

    Raises:
        UnknownNameError: there is none of that name, or no such label.
    """
    return metric_and_own(name, METRICS, OF_LABEL, thing="label", names=classes, of="labels")


def check_values(name: str, target: Target, classes: Sequence[str], rows: str) -> None:
    """Refuse a metric that these labels leave undefined whatever is predicted.

    Raises:
        DataError: it is; says why.
    """
    metric, own = check_name(name, classes)
    scored = _Rows(torch.zeros(target.value.shape), target)
    labels = [own] if own is not None else list(classes) if metric in ("map", "roc_auc") else []
    for label in labels:
        reason = lacking(scored.label(classes.index(label)))
        if reason and (metric == "roc_auc" or not reason.startswith("every")):
            said = f"{name} is undefined on {rows}: {reason}" + (f" ({label!r})" if own is None else "")
            raise DataError(f"{said}; choose by {METRICS[0]} or bring rows")
    if metric == "subset_accuracy" and not bool(target.mask.all(dim=1).any()):
        raise DataError(f"{name} is undefined on {rows}: of no row are all labels known; choose by {METRICS[0]}")


def epoch_value(probabilities: Tensor, target: Target, classes: Sequence[str], name: str) -> float:
    """The metric alone; one that predictions leave undefined counts as 0."""
    metric, own = check_name(name, classes)
    rows = _Rows(probabilities, target)
    if own is not None:
        value = getattr(rows.label(list(classes).index(own)), metric)
        return 0.0 if value is None else float(value)
    return float(rows.figures(torch.ones(1, rows.count))[metric].nan_to_num(0.0))
