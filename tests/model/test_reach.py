"""Which trainable parameters the logits depend on."""

import torch
from torch import nn

import zoo
from zoo.model.reach import reached_parameters


def small(freeze):
    return zoo.load("timm/test_efficientnet", num_classes=3, weights="none", freeze=freeze)


def test_all_that_trains_is_reached_behind_a_head_of_zeros_too():
    model = small("last(1)")
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.zero_()
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert set(reached_parameters(model)) == trainable
    assert any(name.startswith("backbone.") for name in trainable)


def test_what_no_way_leads_from_is_left_out():
    model = small("none")
    model.backbone.spare = nn.Parameter(torch.ones(2))
    names = {name for name, _ in model.named_parameters()}
    assert set(reached_parameters(model)) == names - {"backbone.spare"}


def test_nothing_changes_in_the_network():
    model = small("none")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    reached_parameters(model)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_covariates_go_along():
    from zoo.model.load import assemble, strip
    from zoo.model.view import build_view
    from zoo.specs import Task

    view = strip(build_view("timm/test_efficientnet", "none"))
    model = assemble(view, [Task(name="shape", classes=("disc", "square"))], covariates=3)
    zoo.freeze(model, "head")
    assert set(reached_parameters(model)) == {"heads.heads.0.weight", "heads.heads.0.bias"}
