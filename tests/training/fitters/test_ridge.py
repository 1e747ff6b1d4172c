"""Ridge as a head fitter: scikit-learn's weights times one factor, the strength chosen on validation rows."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from sklearn import linear_model

from zoo.errors import ZooError
from zoo.training.fitters import slices
from zoo.training.fitters.choose import fit_on_features
from zoo.training.fitters.ridge import STRENGTHS, Ridge
from zoo.training.losses import total_loss


def reference(toy, position, l2):
    task, rows, width = toy.tasks[position], toy.data.train, toy.heads.width
    target = toy.data.targets[task.name].take(rows)
    stretch = math.sqrt(width / toy.heads.covariates) if toy.heads.covariates else 1.0
    columns = toy.joined(rows)[target.mask].double().numpy()
    columns[:, width:] *= stretch
    labels = target.value[target.mask]
    weights = torch.ones(len(labels)) if target.weight is None else target.weight[target.mask]
    element = toy.answers[task.name].element_weights
    if element is not None:
        weights = weights * torch.tensor(element)[labels]
    own = linear_model.Ridge(alpha=l2 * len(labels)).fit(
        columns, np.eye(task.outputs)[labels], sample_weight=weights.numpy()
    )
    weight = own.coef_.copy()
    weight[:, width:] *= stretch
    return weight, own.intercept_


@pytest.mark.parametrize("rows", [120, 90], ids=["one", "other"])
@pytest.mark.parametrize("width", [8, 100], ids=["tall", "wide"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tasks": 2, "holes": True, "weights": True, "covariates": 2, "classes": (2.0, 1.0, 0.5)},
    ],
    ids=["plain", "all of it"],
)
def test_weights_are_scikit_learns_times_the_factor_of_the_task(toy, fields, width, rows):
    own = toy(width=width, rows=rows, **fields)
    fit = fit_on_features(*own.job, fitter="ridge", head_l2=0.05)
    for position, task in enumerate(own.tasks):
        weight, bias = reference(own, position, 0.05)
        layer, scale = own.heads.heads[position], fit.scales[task.name]
        np.testing.assert_allclose(layer.weight.detach().numpy(), scale * weight, atol=1e-5)
        np.testing.assert_allclose(layer.bias.detach().numpy(), scale * bias, atol=1e-5)
    assert (fit.head_l2, [one.head_l2 for one in fit.candidates]) == (0.05, [0.05])


def test_soft_targets_that_are_one_hot_give_the_same_solution(toy):
    own = toy(weights=True, classes=(2.0, 1.0, 0.5))
    hard = own.data.targets["kind"]
    one_hot = torch.nn.functional.one_hot(hard.value, 3).float()
    found = []
    for target in (hard, dataclasses.replace(hard, value=one_hot)):
        data = dataclasses.replace(own.data, targets={"kind": target})
        fitter = Ridge(own.heads, own.heads, lambda given, c: None, data, *own.job[2:])
        found.append(fitter._path(own.tasks[0], fitter.slices(data.train)).solve(0.1))
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other)


@pytest.mark.parametrize("metric", ["log_loss", "balanced_accuracy"])
def test_the_strength_is_the_best_of_the_grid_on_validation_rows(toy, metric):
    own = toy(width=60, metric=metric)
    fit = fit_on_features(*own.job, fitter="ridge")
    values = [one.value for one in fit.candidates]
    assert [one.head_l2 for one in fit.candidates] == list(STRENGTHS)
    best = min(values) if metric == "log_loss" else max(values)
    assert fit.head_l2 == STRENGTHS[values.index(best)]
    assert fit.best_value == pytest.approx(best, rel=1e-5)
    assert all(one.learning_rate is None and one.best_epoch == 1 for one in fit.candidates)


def test_probabilities_are_as_good_as_those_of_a_logistic_regression(toy):
    found = {}
    for fitter in ("ridge", "lbfgs"):
        own = toy(l2=0.01)
        found[fitter] = fit_on_features(*own.job, fitter=fitter).best_value
    assert found["ridge"] < 1.1 * found["lbfgs"] < math.log(3)


def test_the_history_has_what_reports_read_of_all_training_rows(toy, monkeypatch):
    own = toy(tasks=2, holes=True, covariates=1)
    monkeypatch.setattr(slices, "SLICE_BYTES", 7 * 4 * 8)
    fit = fit_on_features(*own.job, fitter="ridge")
    (row,) = fit.history
    rows = own.data.train
    with torch.no_grad():
        logits = own.heads(own.data.inputs.features[rows], own.data.covariates[rows])
    targets = {name: target.take(rows) for name, target in own.data.targets.items()}
    assert row["train_loss"] == pytest.approx(float(total_loss(logits, targets, own.tasks, own.answers)), rel=1e-5)
    assert {"epoch", "val_loss", "kind/log_loss", "other.one/log_loss", "seconds"} <= set(row)
    assert (fit.best_epoch, fit.fitter, fit.learning_rate) == (1, "ridge", None)


def test_a_task_without_a_label_to_validate_on_keeps_its_plain_scores(toy):
    own = toy(tasks=2)
    own.data.targets["other.one"].mask[own.data.val] = False
    fit = fit_on_features(*own.job, fitter="ridge")
    assert fit.scales["other.one"] == 1.0
    assert fit.scales["kind"] > 1.0


def test_progress_is_told_when_all_is_done(toy):
    seen = []
    fit_on_features(*toy().job, fitter="ridge", progress=lambda done, rows: seen.append((done, rows)))
    assert seen == [(80, 80)]


def test_features_that_are_not_finite_are_refused(toy):
    own = toy()
    own.data.inputs.features[own.data.train[3], 0] = float("nan")
    with pytest.raises(ZooError, match=r"--fitter ridge cannot solve: features, or weights of rows, are not finite"):
        fit_on_features(*own.job, fitter="ridge")
