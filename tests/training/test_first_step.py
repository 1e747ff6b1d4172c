"""The first step shows whether gradients reach what trains, and only that."""

import pytest
import torch
from torch import nn

from zoo.errors import IntegrityError
from zoo.training.first_step import FirstStep


def step(model, *, without=(), reached=None):
    """The optimiser over all of `model` but what is named, and a first step that may ask everything of it."""
    own = dict(model.named_parameters())
    optimiser = torch.optim.SGD([each for name, each in own.items() if name not in without], lr=0.1)
    names = own if reached is None else reached
    return optimiser, FirstStep(reached=frozenset(id(own[name]) for name in names), verify=lambda: 0)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def test_a_step_that_reaches_everything_passes():
    model = network()
    optimiser, first = step(model)
    model(torch.randn(5, 3)).square().sum().backward()
    first.check_gradients(model, optimiser)
    assert first.pushed


def test_what_autograd_does_not_see_is_named():
    model = network()
    optimiser, first = step(model)
    model[2](model[0](torch.randn(5, 3)).detach()).sum().backward()
    with pytest.raises(IntegrityError, match=r"2 trainable tensors got no gradient .*: 0.weight, 0.bias$"):
        first.check_gradients(model, optimiser)


def test_what_the_loss_does_not_depend_on_may_go_without():
    model = network()
    optimiser, first = step(model, reached=("2.weight", "2.bias"))
    model[2](model[0](torch.randn(5, 3)).detach()).sum().backward()
    first.check_gradients(model, optimiser)


def test_a_gradient_of_zero_is_one():
    """Behind a dead ReLU; nothing is pushed there, and nothing is wrong."""
    model = network()
    optimiser, first = step(model)
    with torch.no_grad():
        model[0].bias.fill_(-100)
    (0 * model(torch.randn(5, 3))).sum().backward()
    first.check_gradients(model, optimiser)
    assert not first.pushed


def test_what_the_optimiser_does_not_hold_is_named():
    model = network()
    optimiser, first = step(model, without=("2.bias",))
    model(torch.randn(5, 3)).sum().backward()
    with pytest.raises(IntegrityError, match=r"1 trainable tensors are not in the optimiser .*: 2.bias$"):
        first.check_gradients(model, optimiser)


def test_a_gradient_of_something_frozen_is_named():
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(8)))
    optimiser, first = step(model, reached=())
    model(torch.randn(5, 2)).sum().backward()
    model.requires_grad_(False)
    with pytest.raises(IntegrityError, match=r"16 frozen tensors got a gradient .*: 0.weight, .* and 11 more$"):
        first.check_gradients(model, optimiser)
