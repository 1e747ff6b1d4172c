"""The policy `lora`: how it is written, which layers it names, and what is refused."""

import pytest
import torch
from torch import nn

from zoo.errors import OptionError
from zoo.model.view import build_view
from zoo.specs import Lora, adapter_size, is_adapter, parse_policy, parse_schedule, plain_name


def view_of(name):
    with torch.device("meta"):
        return build_view(name, "none")


@pytest.fixture(scope="module")
def vit():
    return view_of("timm/vit_tiny_patch16_224")


def test_parameters_are_read():
    policy = parse_policy("lora(r=4, alpha=8, dropout=0.1)@last(3)")
    assert policy.lora == Lora(r=4, alpha=8.0, dropout=0.1)
    assert str(policy.where) == "last(3)"
    assert parse_policy("lora").lora == Lora(r=8, alpha=16.0, dropout=0.0)
    assert parse_policy("norm").lora is None


def test_in_a_transformer_the_linear_layers_of_blocks_are_adapted(vit):
    found = parse_policy("lora@none").select(vit)
    assert {name.split(".", 2)[2] for name in found.parameters} == {
        "attn.qkv.weight",
        "attn.proj.weight",
        "mlp.fc1.weight",
        "mlp.fc2.weight",
    }
    assert len(found.parameters) == 4 * 12


def test_in_a_convnet_the_plain_convolutions_are_adapted():
    found = parse_policy("lora@last(1)").select(view_of("timm/resnet18"))
    assert found.before == "stage4"
    assert found.parameters == {
        "layer4.0.conv1.weight",
        "layer4.0.conv2.weight",
        "layer4.0.downsample.0.weight",
        "layer4.1.conv1.weight",
        "layer4.1.conv2.weight",
    }


def test_depthwise_convolutions_are_not_adapted():
    view = view_of("timm/mobilenetv2_100")
    found = parse_policy("lora").select(view).parameters
    assert found
    assert {view.module.get_submodule(name.removesuffix(".weight")).groups for name in found} == {1}


def test_it_grows_with_a_schedule():
    intervals = parse_schedule("lora(r=2)@last(2)@gradual").intervals(view_of("timm/resnet18"), 3)
    assert [each.policy.text for each in intervals] == ["head", "lora(r=2)@last(1)", "lora(r=2)@last(2)"]
    intervals = parse_schedule("lora(r=2)@lp-ft(2)").intervals(view_of("timm/resnet18"), 3)
    assert [each.policy.text for each in intervals] == ["head", "lora(r=2)"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lora(r=0)", "r is a rank, at least 1, not 0"),
        ("lora(r=2.5)", "r must be int"),
        ("lora(alpha=0)", "alpha is a positive number"),
        ("lora(dropout=1)", "dropout is a share"),
        ("lora(rank=2)", "lora has no parameter 'rank'; it takes r, alpha, dropout"),
        ("lora@head", "trains nothing of the backbone"),
    ],
)
def test_what_is_refused(text, said):
    with pytest.raises(OptionError, match=said):
        parse_policy(text)


def test_a_place_without_such_a_layer_is_refused(vit):
    with pytest.raises(OptionError, match="no layer that takes adapters there"):
        parse_policy('lora@regex("norm")').select(vit)


def test_names():
    assert plain_name("blocks.0.fc.lora_A.default.weight") == "blocks.0.fc.weight"
    assert plain_name("blocks.0.fc.base_layer.bias") == "blocks.0.fc.bias"
    assert plain_name("blocks.0.fc.weight") == "blocks.0.fc.weight"
    assert is_adapter("a.lora_B.default.weight")
    assert not is_adapter("a.base_layer.weight")


def test_size():
    assert adapter_size(nn.Linear(10, 4).weight, 2) == 2 * (10 + 4)
    assert adapter_size(nn.Conv2d(3, 8, 5).weight, 2) == 2 * (3 * 25 + 8)
