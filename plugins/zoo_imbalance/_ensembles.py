"""Ensembles fitted by scikit-learn and imbalanced-learn, their members turned into tensors of the core's heads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.errors import ZooError
from zoo.specs import Target
from zoo_imbalance._features import seed_of

ABSENT = -50.0
"""Logit of a class that a member has never seen: a probability of nothing."""

State = dict[str, Tensor]


@contextmanager
def _clear(name: str) -> Iterator[None]:
    """What the libraries refuse is said in one sentence."""
    try:
        yield
    except ValueError as error:
        raise ZooError(f"{name} cannot be fitted on these features: {str(error).splitlines()[0]}") from None


def _equal(name: str, weights: Tensor) -> None:
    if not bool((weights == weights[0]).all()):
        raise ZooError(
            f"{name} draws its own rows and takes no weights of rows or classes; leave out --weight and class-weights"
        )


def _regression(c: float | None, width: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=4.0 / width if c is None else c, max_iter=1000)


def bagged(
    members: int,
    c: float | None,
    classes: int,
    features: Tensor,
    target: Target,
    weights: Tensor,
    generator: torch.Generator,
) -> State:
    """The state of `ensemble`: logistic regressions on bootstrap samples, rows drawn in proportion to `weights`."""
    rows, labels = features.double().numpy(), target.value.numpy()
    drawn = [
        torch.multinomial(weights.double(), len(labels), replacement=True, generator=generator) for _ in range(members)
    ]
    with _clear("bagging"):
        fitted = [_regression(c, rows.shape[1]).fit(rows[own], labels[own]) for own in drawn]
    return _linear(fitted, classes, rows.shape[1])


def balanced_bagged(
    members: int,
    c: float | None,
    classes: int,
    features: Tensor,
    target: Target,
    weights: Tensor,
    generator: torch.Generator,
) -> State:
    """The state of `ensemble`: logistic regressions on balanced bootstrap samples."""
    from imblearn.ensemble import BalancedBaggingClassifier

    _equal("balanced-bagging", weights)
    rows, labels = features.double().numpy(), target.value.numpy()
    own = BalancedBaggingClassifier(
        _regression(c, rows.shape[1]), n_estimators=members, random_state=seed_of(generator)
    )
    with _clear("balanced-bagging"):
        own.fit(rows, labels)
    return _linear([member.steps[-1][1] for member in own.estimators_], classes, rows.shape[1])


def _linear(members: Sequence[Any], classes: int, width: int) -> State:
    """Weights (M, K, D) and biases (M, K); a binary regression has one row, of the second class it knows."""
    weight = np.zeros((len(members), classes, width))
    bias = np.full((len(members), classes), ABSENT)
    for index, member in enumerate(members):
        known = member.classes_.astype(int)
        if len(known) == 2:
            weight[index, known] = np.concatenate([-member.coef_, member.coef_]) / 2
            bias[index, known] = np.concatenate([-member.intercept_, member.intercept_]) / 2
        else:
            weight[index, known], bias[index, known] = member.coef_, member.intercept_
    return {"weight": torch.from_numpy(weight).float(), "bias": torch.from_numpy(bias).float()}


def easy_ensemble(
    members: int,
    rounds: int,
    depth: int,
    classes: int,
    features: Tensor,
    target: Target,
    weights: Tensor,
    generator: torch.Generator,
) -> State:
    """The state of `trees`: AdaBoost on balanced samples."""
    from imblearn.ensemble import EasyEnsembleClassifier
    from sklearn.ensemble import AdaBoostClassifier
    from sklearn.tree import DecisionTreeClassifier

    _equal("easy-ensemble", weights)
    booster = AdaBoostClassifier(DecisionTreeClassifier(max_depth=depth), n_estimators=rounds)
    own = EasyEnsembleClassifier(n_estimators=members, estimator=booster, random_state=seed_of(generator))
    with _clear("easy-ensemble"):
        own.fit(features.numpy(), target.value.numpy())
    return _trees([member.steps[-1][1] for member in own.estimators_], classes, rounds, depth)


def rusboost(
    rounds: int,
    depth: int,
    rate: float,
    classes: int,
    features: Tensor,
    target: Target,
    weights: Tensor,
    generator: torch.Generator,
) -> State:
    """The state of `trees`: AdaBoost that undersamples in each round."""
    from imblearn.ensemble import RUSBoostClassifier
    from sklearn.tree import DecisionTreeClassifier

    _equal("rusboost", weights)
    own = RUSBoostClassifier(
        DecisionTreeClassifier(max_depth=depth),
        n_estimators=rounds,
        learning_rate=rate,
        random_state=seed_of(generator),
    )
    with _clear("rusboost"):
        own.fit(features.numpy(), target.value.numpy())
    return _trees([own], classes, rounds, depth)


def _trees(members: Sequence[Any], classes: int, rounds: int, depth: int) -> State:
    """Complete trees (M, R, …) of AdaBoost (SAMME): a member's logits are those that scikit-learn takes a softmax of.

    Rounds that boosting did without, and nodes below a leaf, are filled with what changes nothing.
    """
    inner, leaves = 2**depth - 1, 2**depth
    feature = np.zeros((len(members), rounds, inner), dtype=np.int64)
    threshold = np.zeros((len(members), rounds, inner), dtype=np.float32)
    value = np.zeros((len(members), rounds, leaves, classes), dtype=np.float32)
    for index, member in enumerate(members):
        total = member.estimator_weights_.sum()
        for place, (tree, weight) in enumerate(zip(member.estimators_, member.estimator_weights_, strict=False)):
            known = np.asarray(tree.classes_).astype(int)
            votes = np.full((tree.tree_.node_count, classes), -1.0 / (classes - 1))
            votes[np.arange(len(votes)), known[tree.tree_.value[:, 0].argmax(axis=1)]] = 1.0
            spots = (feature[index, place], threshold[index, place], value[index, place])
            _fill(tree.tree_, votes * weight / total / (classes - 1), spots, inner)
    return {
        "feature": torch.from_numpy(feature),
        "threshold": torch.from_numpy(threshold),
        "value": torch.from_numpy(value),
    }


def _fill(tree: Any, votes: NDArray[Any], spots: tuple[NDArray[Any], NDArray[Any], NDArray[Any]], inner: int) -> None:
    """Walk down a tree of scikit-learn and a complete one together; below a leaf both ways lead to its votes."""
    feature, threshold, value = spots
    ways = [(0, 0)]
    while ways:
        node, spot = ways.pop()
        if spot >= inner:
            value[spot - inner] = votes[node]
            continue
        left, right = tree.children_left[node], tree.children_right[node]
        if left < 0:
            ways += [(node, 2 * spot + 1), (node, 2 * spot + 2)]
            continue
        feature[spot], threshold[spot] = tree.feature[node], _below(tree.threshold[node])
        ways += [(left, 2 * spot + 1), (right, 2 * spot + 2)]


def _below(threshold: float) -> np.float32:
    """The largest float32 that is not above: float32 features lie on the same side of it."""
    found = np.float32(threshold)
    return found if float(found) <= threshold else np.nextafter(found, np.float32(-np.inf))
