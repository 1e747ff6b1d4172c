"""L-BFGS finds the minimum of the loop's own objective, which for a linear head is a logistic regression."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from zoo.errors import ZooError
from zoo.training.fitters import lbfgs, slices
from zoo.training.fitters.choose import fit_on_features
from zoo.training.losses import total_loss

TOLERANCE = 1e-4
"""Largest difference of a weight or of a centred bias; weights are about 1."""


def reference(toy, task, l2):
    """scikit-learn's weights and biases; its C is of the sum over rows, its penalty counts every column alike."""
    rows = toy.data.train
    target = toy.data.targets[task.name].take(rows)
    mask, width = target.mask, toy.heads.width
    stretch = math.sqrt(width / toy.heads.covariates) if toy.heads.covariates else 1.0
    columns = toy.joined(rows)[mask].double().numpy()
    columns[:, width:] *= stretch
    labels = target.value[mask].numpy()
    weights = torch.ones(len(labels)) if target.weight is None else target.weight[mask]
    element = toy.answers[task.name].element_weights
    if element is not None:
        weights = weights * torch.tensor(element)[labels]
    own = LogisticRegression(C=1 / (l2 * len(labels)), tol=1e-10, max_iter=10_000)
    own.fit(columns, labels, sample_weight=weights.double().numpy())
    weight, bias = own.coef_, own.intercept_
    if len(weight) == 1:  # one row of weights w stands for the two rows -w/2 and w/2 at half the penalty
        pytest.fail("compare tasks of three classes and more")
    weight = weight.copy()
    weight[:, width:] *= stretch
    return weight, bias - bias.mean()


@pytest.mark.parametrize("l2", [0.3, 0.01])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"classes": (0.5, 1.0, 3.0)},
        {"weights": True},
        {"holes": True},
        {"covariates": 3},
        {"tasks": 2, "holes": True, "weights": True, "covariates": 2, "classes": (2.0, 1.0, 0.5)},
    ],
    ids=["plain", "class weights", "row weights", "holes", "covariates", "all of it"],
)
def test_weights_agree_with_scikit_learns_logistic_regression_at_the_same_penalty(toy, fields, l2):
    own = toy(l2=l2, **fields)
    fit_on_features(*own.job, fitter="lbfgs")
    weight, bias = reference(own, own.tasks[0], l2)
    layer = own.heads.heads[0]
    found = layer.bias.detach().double().numpy()
    np.testing.assert_allclose(layer.weight.detach().numpy(), weight, atol=TOLERANCE)
    np.testing.assert_allclose(found - found.mean(), bias, atol=TOLERANCE)


def test_the_gradient_of_every_task_vanishes_where_it_stops(toy):
    own = toy(tasks=2, holes=True, weights=True, covariates=2)
    fit = fit_on_features(*own.job, fitter="lbfgs")
    data, rows = own.data, own.data.train
    targets = {name: target.take(rows) for name, target in data.targets.items()}
    logits = own.heads(data.inputs.features[rows], data.covariates[rows])
    (total_loss(logits, targets, own.tasks, own.answers) + own.heads.penalty(0.01)).backward()
    assert max(float(parameter.grad.abs().max()) for parameter in own.heads.parameters()) < 1e-5
    assert fit.remarks[0].startswith("L-BFGS converged in ")
    assert (fit.learning_rate, fit.head_l2, fit.fitter) == (None, 0.01, "lbfgs")


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_slices_of_rows_give_the_same_heads_as_all_rows_at_once(toy, monkeypatch, head):
    found = []
    for size in (2**28, 7 * 4 * 8):
        monkeypatch.setattr(slices, "SLICE_BYTES", size)
        monkeypatch.setattr(lbfgs, "ITERATIONS", 10)
        own = toy(head, tasks=2, holes=True, weights=True, l2=0.1)
        fit = fit_on_features(*own.job, fitter="lbfgs")
        found.append((own.heads.state_dict(), fit.history[0]["train_loss"], own.data.inputs.asked))
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-4)
    assert found[0][2] < 10 < found[1][2]
    for name, value in found[0][0].items():
        assert torch.allclose(value, found[1][0][name], atol=2e-3), name


@pytest.mark.parametrize(("head", "tokens"), [("cosine", 0), ("mlp", 0), ("attention", 5)])
def test_any_head_lowers_its_loss_and_keeps_its_best_validation(toy, head, tokens):
    own = toy(head, tokens=tokens, l2=1e-4)
    fit = fit_on_features(*own.job, fitter="lbfgs")
    values = [row["kind/log_loss"] for row in fit.history]
    assert fit.best_value == min(values) == values[fit.best_epoch - 1]
    assert fit.history[-1]["train_loss"] < math.log(3)
    logits = own.heads(own.data.inputs.features[own.data.val])
    targets = {name: target.take(own.data.val) for name, target in own.data.targets.items()}
    assert float(total_loss(logits, targets, own.tasks, own.answers).detach()) == pytest.approx(
        fit.best_value, rel=1e-4
    )


def test_the_history_has_what_reports_read_and_the_last_row_of_a_linear_head_is_kept(toy):
    own = toy(l2=0.0001)
    fit = fit_on_features(*own.job, fitter="lbfgs")
    assert fit.best_epoch == len(fit.history)
    assert fit.best_value == fit.history[-1]["kind/log_loss"]
    assert {"epoch", "train_loss", "val_loss", "kind/log_loss", "seconds"} <= set(fit.history[0])
    assert [row["epoch"] for row in fit.history] == list(range(1, len(fit.history) + 1))
    assert fit.rows_per_second > 0


def test_a_run_that_had_to_be_stopped_says_so(toy, monkeypatch):
    monkeypatch.setattr(lbfgs, "ITERATIONS", 10)
    own = toy("mlp", l2=0.0)
    fit = fit_on_features(*own.job, fitter="lbfgs")
    assert fit.remarks == ("L-BFGS was stopped after 10 iterations, before it had converged",)


def test_progress_ends_within_what_it_announced(toy):
    seen = []
    fit_on_features(*toy().job, fitter="lbfgs", progress=lambda done, all_: seen.append((done, all_)))
    assert seen == sorted(seen)
    assert all(done <= rows for done, rows in seen)


def test_features_that_are_not_finite_stop_it_with_a_hint(toy):
    own = toy()
    own.data.inputs.features[own.data.train[3], 0] = float("inf")
    with pytest.raises(ZooError, match=r"the loss under --fitter lbfgs is nan; features, or weights of rows, are not"):
        fit_on_features(*own.job, fitter="lbfgs")


def test_the_callers_frozen_parameters_stand_still(toy):
    own = toy("cosine")
    own.heads.heads[0].log_gain.requires_grad_(False)
    fit_on_features(*own.job, fitter="lbfgs")
    assert float(own.heads.heads[0].log_gain) == 0.0


def test_answers_with_a_criterion_of_their_own_are_minimised_too(toy):
    def squared(logits, target):
        known = torch.where(target.mask, target.value, 0)
        return (logits - torch.nn.functional.one_hot(known, 3)).square().sum(1)

    own = toy(l2=0.05)
    own.answers["kind"] = dataclasses.replace(own.answers["kind"], criterion=squared)
    fit_on_features(*own.job, fitter="lbfgs")
    rows = own.data.train
    loss = squared(own.heads(own.data.inputs.features[rows])["kind"], own.data.targets["kind"].take(rows)).mean()
    (loss + own.heads.penalty(0.05)).backward()
    assert max(float(parameter.grad.abs().max()) for parameter in own.heads.parameters()) < 1e-3
