"""A linear layer is the same layer when many of them are one product."""

import pytest
import torch
from torch import nn

from zoo.training.fitters.wide_linear import WideLinear


@pytest.mark.parametrize("shape", [(6,), (5, 6), (2, 3, 6)])
@pytest.mark.parametrize("bias", [True, False])
def test_logits_and_gradients_are_those_of_the_layers_one_by_one(shape, bias):
    torch.manual_seed(0)
    layers, features = [nn.Linear(6, 4, bias=bias) for _ in range(3)], torch.randn(shape)
    weights, _ = torch.func.stack_module_state(layers)
    with WideLinear():
        stacked = torch.vmap(lambda state: torch.func.functional_call(layers[0], state, (features,)))(weights)
    alone = torch.stack([layer(features) for layer in layers])
    torch.testing.assert_close(stacked, alone)
    found = torch.autograd.grad(stacked.square().sum(), [weights["weight"]])[0]
    expected = torch.autograd.grad(alone.square().sum(), [layer.weight for layer in layers])
    torch.testing.assert_close(found, torch.stack(expected))
