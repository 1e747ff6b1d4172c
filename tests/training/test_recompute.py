"""Blocks that are computed twice: the same gradients, fewer activations held."""

import pytest
import timm
import torch
from torch import nn

from zoo.model.freeze import freeze_parts
from zoo.model.view import describe
from zoo.specs import parse_policy
from zoo.training.recompute import recomputing


def gradients(model, images):
    """Gradients of one step, and how many numbers autograd held for it."""
    held = []

    def pack(tensor):
        held.append(tensor.numel())
        return tensor

    model.train()
    torch.manual_seed(0)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model(images).square().mean()
    loss.backward()
    found = {name: own.grad.clone() for name, own in model.named_parameters() if own.grad is not None}
    model.zero_grad()
    return found, sum(held)


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext"])
def test_gradients_are_the_same_and_less_is_held(name):
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=3, drop_rate=0.3)
    view = describe(network)
    policy = parse_policy("last(2)")
    freeze_parts(network, view, policy, batchnorm="frozen")
    images = torch.randn(4, 3, *view.input.size)
    plain, much = gradients(network, images)
    forwards = [type(part).forward for part in network.modules()]
    with recomputing(view, policy.select(view).parameters) as blocks:
        again, less = gradients(network, images)
    assert blocks >= 2
    assert plain.keys() == again.keys()
    assert all(torch.equal(plain[key], again[key]) for key in plain)
    assert less < 0.7 * much
    assert forwards == [type(part).forward for part in network.modules()]
    assert not any("forward" in vars(part) for part in network.modules())


def test_nothing_is_computed_twice_without_gradients():
    network = timm.create_model("test_vit")
    view = describe(network)
    calls = []
    network.blocks[-1].register_forward_hook(lambda *_: calls.append(1))
    with recomputing(view, {name for stage in view.stages for name in stage.parameters}), torch.no_grad():
        network(torch.randn(1, 3, *view.input.size))
    assert len(calls) == 1


def test_a_forward_of_the_users_own_is_put_back():
    network = timm.create_model("test_vit")
    view = describe(network)
    own = network.blocks[-1].forward
    network.blocks[-1].forward = own
    with recomputing(view, {name for stage in view.stages for name in stage.parameters}):
        assert network.blocks[-1].forward is not own
    assert network.blocks[-1].forward is own
    assert isinstance(network, nn.Module)
