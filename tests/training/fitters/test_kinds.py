"""Heads of numbers, ranks and labels fitted in every way that there is for them."""

import dataclasses

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as Oracle

from zoo.errors import ZooError
from zoo.model.network import NUMBERS_PRIOR, TaskHeads
from zoo.specs import Target, Task
from zoo.training.fitters.choose import fit_on_features
from zoo.training.fitters.sweep import Grid
from zoo.training.strategy import Answer

AGE = Task(name="age", kind="regression", center=50.0, scale=10.0)
GRADE = Task(name="grade", kind="ordinal", classes=("low", "mid", "high"))
TAGS = Task(name="tags", kind="multilabel", classes=("a", "b"))


@pytest.fixture
def made(toy):
    """The toy with targets of these kinds, which its features can teach, and every fifth label missing."""

    def make(*tasks, **fields):
        own = toy(**fields)
        features = own.joined(torch.arange(120))
        draws = torch.Generator().manual_seed(2)
        score = features[:, :2] + 0.5 * torch.randn(120, 2, generator=draws)
        mask = torch.arange(120) % 5 != 0
        targets = {
            "age": Target(value=torch.where(mask[:, None], score[:, :1], torch.nan), mask=mask),
            "grade": Target(value=torch.bucketize(score[:, 0].contiguous(), torch.tensor([-0.5, 0.5])), mask=mask),
            "tags": Target(value=(score > 0).float(), mask=torch.stack([mask, mask.roll(1)], dim=1)),
        }
        heads = TaskHeads(tasks, own.heads.width, covariates=own.heads.covariates)
        heads.standardise.load_state_dict(own.heads.standardise.state_dict())
        data = dataclasses.replace(own.data, targets={task.name: targets[task.name] for task in tasks})
        settings = dataclasses.replace(own.settings, metric=None)
        answers = {task.name: Answer() for task in tasks}
        return dataclasses.replace(own, heads=heads, data=data, tasks=tasks, answers=answers, settings=settings)

    return make


def known(own, name):
    target, train = own.data.targets[name], own.data.train
    rows = train[target.mask[train] if target.mask.ndim == 1 else target.mask[train].all(dim=1)]
    return own.joined(rows).numpy(), target.value[rows].numpy()


def test_ridge_of_numbers_is_scikit_learns_and_chooses_its_strength_by_squared_error(made):
    own = made(AGE)
    fit = fit_on_features(*own.job, fitter="ridge", head_l2=0.1)
    features, values = known(own, "age")
    oracle = Oracle(alpha=len(values) * 0.1 * NUMBERS_PRIOR).fit(features, values[:, 0])
    layer = own.heads.heads[0]
    assert layer.weight[0].tolist() == pytest.approx(oracle.coef_.tolist(), abs=1e-4)
    assert float(layer.bias.detach()) == pytest.approx(oracle.intercept_, abs=1e-4)
    assert fit.scales == {"age": 1.0}
    chosen = fit_on_features(*made(AGE).job, fitter="ridge")
    assert chosen.best_value == pytest.approx(min(each.value for each in chosen.candidates))


def test_lbfgs_finds_the_minimum_for_numbers_as_ridge_does(made):
    solved, searched = made(AGE, l2=0.1), made(AGE, l2=0.1)
    fit_on_features(*solved.job, fitter="ridge", head_l2=0.1)
    fit = fit_on_features(*searched.job, fitter="lbfgs")
    torch.testing.assert_close(searched.heads.heads[0].weight, solved.heads.heads[0].weight, rtol=1e-3, atol=1e-4)
    assert "converged" in fit.remarks[0]


def test_each_label_gets_the_logistic_regression_of_its_own_rows(made):
    own = made(TAGS, l2=0.05)
    fit_on_features(*own.job, fitter="lbfgs")
    target, train = own.data.targets["tags"], own.data.train
    entries = int(target.mask[train].sum())
    for label in range(2):
        rows = train[target.mask[train, label]]
        # K labels over all known entries: each label's sum is divided by their mean number a label.
        oracle = LogisticRegression(C=1 / (0.05 * entries / 2), tol=1e-8, max_iter=1000)
        oracle.fit(own.joined(rows).numpy(), target.value[rows, label].numpy())
        assert own.heads.heads[0].weight[label].tolist() == pytest.approx(oracle.coef_[0].tolist(), abs=2e-3)


def test_every_kind_trains_together_by_the_loop_by_a_sweep_and_by_lbfgs(made):
    values = []
    for options in ({}, {"grid": Grid(learning_rates=(0.05, 0.01), strengths=(0.01,))}, {"fitter": "lbfgs"}):
        own = made(AGE, GRADE, TAGS, epochs=20, lr=0.05)
        fit = fit_on_features(*own.job, **options)
        last = fit.history[-1]
        assert {"age/nmse", "grade/log_loss", "tags/log_loss", "mean"} <= last.keys()
        assert last["age/nmse"] < 0.6  # the mean of the training rows would have 1
        values.append(fit.best_value)
    assert max(values) == pytest.approx(min(values), rel=0.1)


@pytest.mark.parametrize("task", [GRADE, TAGS])
def test_ridge_refuses_what_is_neither_a_number_nor_a_class(made, task):
    with pytest.raises(ZooError, match=f"solves for numbers and classes, and {task.name} is {task.kind}; use --fitter"):
        fit_on_features(*made(AGE, task).job, fitter="ridge")
