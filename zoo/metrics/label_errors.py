"""Labels that the features contradict: confident learning on probabilities from rows that the classifier has not seen.

Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels" (JAIR 70), by cleanlab,
which that paper's authors wrote; before release 2.9 its licence was the AGPL, since then it is Apache 2.0.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ZooError
from zoo.metrics.subsets import fit_quietly, linear_classifier

FOLDS = 5

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspect:
    """A label that the features contradict; codes of classes, and the probabilities that an unseen row had of each."""

    row: int
    given: int
    suggested: int
    of_given: float
    of_suggested: float


def require_cleanlab() -> None:
    """Refuse the search for wrong labels where cleanlab is not installed.

    Raises:
        ZooError: it is not; says how to install it, and how to do without.
    """
    if find_spec("cleanlab") is None:
        raise ZooError(
            "labels that the features contradict are found by the package cleanlab, which is not installed: "
            "pip install 'backbone-zoo[advise]', or leave them out with --no-labels"
        )


def out_of_sample(
    features: NDArray[Any],
    codes: Ints,
    *,
    groups: NDArray[Any] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float64]:
    """Class probabilities (N, K) of each row from a linear classifier that was fitted without its fold.

    Args:
        features: (N, D).
        codes: 0 to K - 1, each of at least `FOLDS` rows.
        groups: rows with the same value are in one fold.
        seed: of the folds.
        progress: called with folds done and folds to do.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
    from sklearn.preprocessing import StandardScaler

    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    folds = kind(n_splits=FOLDS, shuffle=True, random_state=seed)
    found = np.zeros((len(codes), int(codes.max()) + 1))
    for number, (seen, unseen) in enumerate(folds.split(features, codes, groups), 1):
        scaler = StandardScaler().fit(features[seen])
        model = fit_quietly(linear_classifier(features.shape[1]), scaler.transform(features[seen]), codes[seen])
        found[np.ix_(unseen, model.classes_)] = model.predict_proba(scaler.transform(features[unseen]))
        if progress:
            progress(number, FOLDS)
    return found


def suspects(codes: Ints, probabilities: NDArray[np.float64]) -> tuple[Suspect, ...]:
    """Rows whose label is confidently counted as another class, the least believable label first.

    A row counts for the class of its largest probability among those that reach the mean probability of their own
    rows, so that a classifier which is never sure of a rare class is not asked to be.

    Args:
        codes: labels as given, 0 to K - 1.
        probabilities: out of sample, (N, K).
    """
    require_cleanlab()
    with warnings.catch_warnings():  # of the libraries that it imports
        warnings.simplefilter("ignore")
        from cleanlab.filter import find_label_issues
    flagged = find_label_issues(codes, probabilities, filter_by=FILTER, n_jobs=1)
    wrong = np.flatnonzero(flagged & (probabilities.argmax(axis=1) != codes))
    order = wrong[np.argsort(probabilities[wrong, codes[wrong]], kind="stable")]
    return tuple(_suspect(int(row), codes, probabilities) for row in order)


FILTER = "both"
"""Of cleanlab's ways to prune the one that needs two reasons: by class and by noise rate. Of 5 % of labels flipped in
ELPV's four classes it found 72 and 76 % (two draws), and a quarter of what it flagged were flipped ones."""


def _suspect(row: int, codes: Ints, probabilities: NDArray[np.float64]) -> Suspect:
    given, suggested = int(codes[row]), int(probabilities[row].argmax())
    return Suspect(
        row=row,
        given=given,
        suggested=suggested,
        of_given=float(probabilities[row, given]),
        of_suggested=float(probabilities[row, suggested]),
    )
