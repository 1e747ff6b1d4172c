"""Adam for many candidates at once is AdamW without decay for each of them."""

import pytest
import torch

from zoo.training.fitters.batched_adam import BatchedAdam


@pytest.mark.parametrize("shape", [(4, 3), (5,), ()])
def test_every_slice_moves_as_its_own_adamw_would_move_it(shape):
    torch.manual_seed(0)
    rates, factors = torch.tensor([0.1, 0.003]), [0.5, 1.0, 0.2, 0.0]
    start, gradients = torch.randn(2, *shape), torch.randn(len(factors), 2, *shape)
    stacked = start.clone().requires_grad_()
    own = BatchedAdam([stacked], rates)
    alone = [torch.nn.Parameter(start[index].clone()) for index in range(2)]
    plain = [torch.optim.AdamW([each], weight_decay=0.0) for each in alone]
    for factor, gradient in zip(factors, gradients, strict=True):
        stacked.grad = gradient.clone()
        own.step(factor)
        assert stacked.grad is None
        for index, optimiser in enumerate(plain):
            alone[index].grad = gradient[index].clone()
            optimiser.param_groups[0]["lr"] = float(rates[index]) * factor
            optimiser.step()
    for index in range(2):
        torch.testing.assert_close(stacked[index], alone[index], rtol=1e-5, atol=1e-7)


def test_what_has_no_gradient_stands_still():
    parameter = torch.ones(2, 3, requires_grad=True)
    BatchedAdam([parameter], torch.tensor([0.1, 0.2])).step(1.0)
    assert torch.equal(parameter.detach(), torch.ones(2, 3))
