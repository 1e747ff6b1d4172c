"""What goes together when heads are fitted on features, and what is refused before it costs anything."""

import re
from pathlib import Path

import pytest
import torch

from zoo.config import TrainConfig
from zoo.errors import ZooError
from zoo.model.network import TaskHeads
from zoo.specs import Task, parse_options, parse_schedule
from zoo.training.fitters.choose import check_fitter, check_options, fit_on_features
from zoo.training.fitters.sweep import Grid
from zoo.training.loop import Trainer
from zoo.training.strategy import Answer

TASK = Task(name="kind", classes=("a", "b"))
NONE = {"kind": Answer()}


def heads(text):
    return TaskHeads([TASK], 8, head=parse_options(text)[0])


def config(**fields):
    return TrainConfig(data="x", backbone="x", out=Path("x"), **fields)


@pytest.mark.parametrize(
    ("fields", "freeze", "message"),
    [
        ({"sweep_lr": (0.1,)}, "head", "--sweep-lr and --sweep-l2 are the grid of a sweep; say --sweep too"),
        ({"sweep_l2": (0.1,)}, "head", "--sweep-lr and --sweep-l2 are the grid of a sweep; say --sweep too"),
        ({"sweep": True, "sweep_lr": (0.0,)}, "head", "--sweep-lr must be positive, not 0.0"),
        ({"sweep": True, "sweep_l2": (-1.0,)}, "head", "--sweep-l2 must be at least 0, not -1.0"),
        ({"sweep": True, "fitter": "ridge"}, "head", "--sweep trains its candidates with adamw; leave out --sweep or"),
        (
            {"sweep": True},
            "last(1)",
            "--sweep fits heads on features of a frozen backbone, and --freeze last(1) trains part of it; "
            "leave out --sweep, or say --freeze head",
        ),
        ({"fitter": "ridge"}, "none", "--fitter ridge fits heads on features of a frozen backbone, and --freeze none"),
        ({"fitter": "lbfgs", "cache": False}, "head", "--fitter lbfgs goes over all features some fifty times; leave"),
    ],
)
def test_options_that_do_not_go_together_are_refused(fields, freeze, message):
    with pytest.raises(ZooError, match=re.escape(message)):
        check_options(config(**fields), parse_schedule(freeze))


@pytest.mark.parametrize(
    ("fields", "freeze"),
    [
        ({}, "none"),
        ({"sweep": True, "cache": False}, "head"),
        ({"sweep": True, "sweep_lr": (0.1, 0.2), "sweep_l2": (0.0,)}, "head"),
        ({"fitter": "ridge", "cache": False}, "head"),
        ({"fitter": "lbfgs"}, "head"),
    ],
)
def test_options_that_go_together_pass(fields, freeze):
    check_options(config(**fields), parse_schedule(freeze))


@pytest.mark.parametrize("fitter", ["lbfgs", "ridge"])
def test_dropout_is_refused_and_none_of_it_is_not(fitter):
    check_fitter(heads("linear"), NONE, fitter)
    expected = (
        f"--fitter {fitter} looks for one minimum, and the dropout of --head linear(dropout=0.2) moves it with every "
        "look; leave out the dropout, or use --fitter adamw"
    )
    with pytest.raises(ZooError, match=re.escape(expected)):
        check_fitter(heads("linear(dropout=0.2)"), NONE, fitter)
    check_fitter(heads("mlp"), NONE, "lbfgs")
    check_fitter(heads("mlp(dropout=0.2)"), NONE, "adamw", sweep=True)


@pytest.mark.parametrize("name", ["mlp", "cosine", "attention"])
def test_ridge_refuses_what_is_not_one_linear_layer(name):
    expected = f"--fitter ridge solves for one linear layer, and --head {name} is more; use --head linear, --fitter lbf"
    with pytest.raises(ZooError, match=re.escape(expected)):
        check_fitter(heads(name), NONE, "ridge")


@pytest.mark.parametrize("fitter", ["lbfgs", "ridge"])
def test_a_sampler_is_refused_by_name(fitter):
    answers = {"kind": Answer(strategies=("balanced-sampler",), sampler=lambda labels, epoch, generator: labels)}
    expected = (
        f"--fitter {fitter} has no use for the sampler of balanced-sampler (target kind): it sees every row as often as"
    )
    with pytest.raises(ZooError, match=re.escape(expected)):
        check_fitter(heads("linear"), answers, fitter)


def test_a_criterion_is_refused_by_ridge_alone():
    answers = {"kind": Answer(strategies=("focal",), criterion=lambda logits, target: logits.sum(1))}
    check_fitter(heads("linear"), answers, "lbfgs")
    with pytest.raises(
        ZooError, match=r"no use for the criterion of focal \(target kind\): its loss is the squared err"
    ):
        check_fitter(heads("linear"), answers, "ridge")


def test_a_sweep_of_another_fitter_is_refused(toy):
    grid = Grid(learning_rates=(0.1,), strengths=(0.1,))
    with pytest.raises(ZooError, match=r"--sweep trains its candidates with adamw; leave out --sweep or --fitter lbfg"):
        fit_on_features(*toy().job, fitter="lbfgs", grid=grid)


def test_adamw_is_the_loop_itself(toy):
    one, other = toy(tasks=2, covariates=2), toy(tasks=2, covariates=2)
    fit = fit_on_features(*one.job)
    own = other.heads
    plain = Trainer(own, own, lambda given, c: own(given[0], c), *other.job[1:]).fit()
    assert all(torch.equal(value, own.state_dict()[name]) for name, value in one.heads.state_dict().items())
    assert (fit.best_epoch, fit.best_value) == (plain.best_epoch, plain.best_value)
    assert (fit.fitter, fit.learning_rate, fit.head_l2, fit.candidates) == ("adamw", 0.01, 0.01, ())
