"""Optimisers by name, and the groups that they are built over."""

import pytest
import torch

import zoo
from zoo.errors import OptionError
from zoo.specs import block_depths
from zoo.training.optimiser import Rates, begin_phase, build_optimiser, parse_optimiser

RATES = Rates(head=0.1, backbone=0.01, weight_decay=0.05, head_l2=0.0, warmup=0.0)


@pytest.fixture(scope="module")
def vit():
    return zoo.load("timm/test_vit", num_classes=2, weights="none")


def of(optimiser, model, name):
    """The group that holds a parameter."""
    [found] = [g for g in optimiser.param_groups if any(p is model.get_parameter(name) for p in g["params"])]
    return found


@pytest.mark.parametrize(
    ("text", "kind", "options"),
    [
        ("adamw", "AdamW", {"betas": (0.9, 0.999)}),
        ("adamw(beta2=0.99, eps=1e-6)", "AdamW", {"betas": (0.9, 0.99), "eps": 1e-6}),
        ("adam(amsgrad=true)", "Adam", {"amsgrad": True}),
        ("sgd", "SGD", {"momentum": 0.9, "nesterov": True}),
        ("sgd(momentum=0, nesterov=false)", "SGD", {"momentum": 0, "nesterov": False}),
        ("lion(beta1=0.95)", "Lion", {"betas": (0.95, 0.999)}),
        ("lamb", "Lamb", {}),
        ("muon", "Muon", {}),
    ],
)
def test_an_optimiser_by_name_steps_the_network(vit, text, kind, options):
    optimiser = build_optimiser(vit, vit.heads, RATES, parse_optimiser(text), vit.view)
    assert type(optimiser).__name__ == kind
    for group in optimiser.param_groups:
        assert {name: group[name] for name in options} == options
    name = "backbone.blocks.0.attn.qkv.weight"
    before = vit.get_parameter(name).detach().clone()
    vit.get_parameter(name).grad = torch.ones_like(before)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    after = vit.get_parameter(name)
    assert torch.isfinite(after).all()
    assert not torch.equal(after, before)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adamww", "did you mean adamw"),
        ("adamw+sgd", "there is one optimiser"),
        ("sgd(0.9)", "takes its options by name"),
        ("sgd(lr=0.1)", "lr is said by --lr"),
        ("adamw(weight_decay=0.1)", "said by --weight-decay"),
        ("sgd(moment=0.9)", "moment"),
        ("adamw(beta1=2)", "beta"),
        ("adahessian", "gradients of gradients"),
        ("bnbadamw", "bnbadamw: "),
    ],
)
def test_what_cannot_be_built_is_refused_when_it_is_read(text, message):
    with pytest.raises(OptionError, match=message):
        parse_optimiser(text)


def test_layer_decay_writes_real_rates_block_by_block(vit):
    rates = Rates(head=0.1, backbone=0.01, weight_decay=0.05, head_l2=0.0, warmup=0.0, layer_decay=0.5)
    optimiser = build_optimiser(vit, vit.heads, rates, view=vit.view)
    depths = block_depths(vit.view)
    last = max(int(name.split(".")[1]) for name in depths if name.startswith("blocks."))
    at = {number: of(optimiser, vit, f"backbone.blocks.{number}.mlp.fc1.weight")["lr"] for number in range(last + 1)}
    assert all(at[number] == pytest.approx(0.5 * at[number + 1]) for number in range(last))
    assert of(optimiser, vit, "backbone.patch_embed.proj.weight")["lr"] < at[0]
    assert all(of(optimiser, vit, name)["lr"] == 0.1 for name, _ in vit.named_parameters() if name.startswith("heads."))
    begin_phase(optimiser, rates, 0.1)
    assert of(optimiser, vit, f"backbone.blocks.{last}.mlp.fc1.weight")["lr"] == pytest.approx(0.1 * at[last])
    held = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    assert len(held) == len({id(parameter) for parameter in held}) == len(list(vit.parameters()))


def test_the_last_block_has_the_whole_rate_and_depths_grow_towards_the_image(vit):
    depths = block_depths(vit.view)
    assert min(depths.values()) == 0
    assert depths["patch_embed.proj.weight"] > depths["blocks.0.mlp.fc1.weight"] > depths["blocks.1.mlp.fc1.weight"]


def test_norms_biases_and_what_the_network_excepts_do_not_decay(vit):
    optimiser = build_optimiser(vit, vit.heads, RATES, view=vit.view)
    assert of(optimiser, vit, "backbone.blocks.0.mlp.fc1.weight")["weight_decay"] == 0.05
    for name in ("blocks.0.mlp.fc1.bias", "blocks.0.norm1.weight", "pos_embed", "cls_token"):
        assert of(optimiser, vit, f"backbone.{name}")["weight_decay"] == 0.0
