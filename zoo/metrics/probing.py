"""Cross-validated classifiers on fixed features: a linear probe and nearest neighbours."""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.preprocessing import StandardScaler

from zoo.errors import DataError
from zoo.metrics.choice import epoch_score

Features = NDArray[np.float32]
Labels = NDArray[np.int64]
Fold = tuple[NDArray[np.int64], NDArray[np.int64]]

NEIGHBOURS = 20
TEMPERATURE = 0.07
"""Of the neighbours' votes, as in Wu et al. 2018 (arXiv:1805.01978) and DINO."""

LEAST = 1e-9
"""A probability of 0 is taken for this, so that a log loss is finite."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Validated:
    """A metric over the folds.

    Attributes:
        mean: over the folds.
        spread: sample standard deviation over the folds.
    """

    mean: float
    spread: float


def enough_rows(labels: Labels, folds: int) -> NDArray[np.bool_]:
    """Of each row whether its class has a row for every fold, bool (N,).

    Raises:
        DataError: fewer than two classes do.
    """
    names, counts = np.unique(labels, return_counts=True)
    large = names[counts >= folds]
    if len(large) < 2:
        raise DataError(
            f"{len(large)} of {len(names)} classes have {folds} training rows or more, and cross-validation over "
            f"{folds} folds needs two such classes; bring more rows, or use fewer --folds"
        )
    return np.isin(labels, large)


def make_folds(labels: Labels, folds: int, seed: int, groups: Labels | None = None) -> list[Fold]:
    """Rows to learn from and rows to score, by fold; stratified, and groups stay whole.

    Raises:
        DataError: groups so large that a fold would be learned from one class alone, or has no rows.
    """
    if groups is None:
        divided = StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels)
    else:
        if len(np.unique(groups)) < folds:
            raise DataError(f"{len(np.unique(groups))} groups cannot stand in {folds} folds; use fewer --folds")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of classes with few groups; what matters is refused below
            splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
            divided = iter(list(splitter.split(labels, labels, groups)))
    found = [(np.asarray(train, np.int64), np.asarray(held, np.int64)) for train, held in divided]
    if any(len(np.unique(labels[train])) < 2 or not len(held) for train, held in found):
        raise DataError(
            f"the groups are too large for {folds} folds: one would learn from a single class; use other --folds"
        )
    return found


def linear_probe(
    features: Features, labels: Labels, folds: Sequence[Fold], metric: str, classes: Sequence[str]
) -> Validated:
    """Logistic regression on standardised features, with the prior of `zoo train`'s linear head.

    That prior gives the logits of standardised features a standard deviation of 2: a variance of 4 / D a weight.

    Args:
        features: (N, D).
        labels: int64 (N,), positions in `classes`, every one of which occurs.
        folds: from `make_folds`.
        metric: one that `zoo.metrics.choice.check_metric` knows.
        classes: names.

    Raises:
        DataError: the metric is undefined on the rows of a fold.
    """

    def learned(train: Labels, held: Labels) -> NDArray[np.float64]:
        scaler = StandardScaler().fit(features[train])
        model = LogisticRegression(C=4 / features.shape[1], max_iter=200)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # one that stops early still compares like with like
            model.fit(scaler.transform(features[train]), labels[train])
        found = np.zeros((len(held), len(classes)))
        found[:, model.classes_] = model.predict_proba(scaler.transform(features[held]))
        return found

    return _validated(learned, labels, folds, metric, classes)


def nearest_neighbours(
    features: Features, labels: Labels, folds: Sequence[Fold], metric: str, classes: Sequence[str]
) -> Validated:
    """Votes of the 20 training rows with the largest cosine, weighted by exp(cosine / 0.07); arguments as above."""
    unit = torch.nn.functional.normalize(torch.from_numpy(features), dim=1)
    known = torch.from_numpy(labels)

    def voted(train: Labels, held: Labels) -> NDArray[np.float64]:
        votes = torch.zeros(len(held), len(classes), dtype=torch.float64)
        near = (unit[held] @ unit[train].T).topk(min(NEIGHBOURS, len(train)), dim=1)
        weights = ((near.values - near.values[:, :1]) / TEMPERATURE).exp().double()
        votes.scatter_add_(1, known[train][near.indices], weights)
        found: NDArray[np.float64] = (votes / votes.sum(1, keepdim=True)).numpy()
        return found

    return _validated(voted, labels, folds, metric, classes)


def _validated(
    predict: Callable[[Labels, Labels], NDArray[np.float64]],
    labels: Labels,
    folds: Sequence[Fold],
    metric: str,
    classes: Sequence[str],
) -> Validated:
    """The metric of each fold's probabilities."""
    values = []
    for train, held in folds:
        logits = torch.from_numpy(np.log(np.maximum(predict(train, held), LEAST)))
        values.append(epoch_score(logits, torch.from_numpy(labels[held]), metric, classes))
    return Validated(mean=statistics.fmean(values), spread=statistics.stdev(values))
