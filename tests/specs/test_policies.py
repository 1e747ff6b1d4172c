"""Freeze policies: what each of them selects in real networks, and what is refused."""

import pytest
import torch

from zoo.errors import OptionError
from zoo.model.view import build_view
from zoo.specs import block_modules, parse_policy
from zoo.specs.blocks import blocks_of


def view_of(name):
    with torch.device("meta"):
        return build_view(name, "none")


@pytest.fixture(scope="module")
def resnet():
    return view_of("timm/resnet18")


@pytest.fixture(scope="module")
def vit():
    return view_of("timm/vit_tiny_patch16_224")


def below(view, *prefixes):
    held = {name for stage in view.stages for name in stage.parameters}
    return {name for name in held if name.startswith(prefixes)}


def everything(view):
    return below(view, "")


@pytest.mark.parametrize(
    ("policy", "prefixes", "before"),
    [
        ("none", ("",), "stem"),
        ("last(1)", ("layer4.",), "stage4"),
        ("last(2)", ("layer3.", "layer4."), "stage3"),
        ("until(stage3)", ("layer3.", "layer4."), "stage3"),
        ("until('stem')", ("",), "stem"),
        # 9 blocks: the stem and two in each of the four stages; round(4.5) of them are frozen.
        ("depth(0.5)", ("layer2.1.", "layer3.", "layer4."), "layer2.1"),
        ("depth(0.9)", ("layer4.1.",), "layer4.1"),
    ],
)
def test_where(resnet, policy, prefixes, before):
    found = parse_policy(policy).select(resnet)
    assert found.parameters == found.behind == below(resnet, *prefixes)
    assert found.before == before


def test_head_selects_nothing(resnet):
    found = parse_policy("head").select(resnet)
    assert (found.parameters, found.stages, found.behind, found.before) == (frozenset(), (), frozenset(), None)
    assert parse_policy("head").head_alone
    assert not parse_policy("bias").head_alone


def test_norm_selects_the_vectors_of_normalisation_layers(resnet, vit):
    found = parse_policy("norm@last(1)").select(resnet)
    norms = {"layer4.0.bn1", "layer4.0.bn2", "layer4.0.downsample.1", "layer4.1.bn1", "layer4.1.bn2"}
    assert found.parameters == {f"{name}.{part}" for name in norms for part in ("weight", "bias")}
    # The boundary stays at the stage's start: inside a block more numbers cross than before it.
    assert found.behind == below(resnet, "layer4.")
    assert found.before == "stage4"
    of_all = parse_policy("norm").select(vit)
    assert of_all.parameters == {name for name in everything(vit) if "norm" in name}
    assert len(of_all.parameters) == 2 * (2 * 12 + 1)


def test_bias_selects_every_bias_and_no_table_of_positions(vit):
    found = parse_policy("bias@last(3)").select(vit)
    stages = {name for stage in parse_policy("last(3)").select(vit).stages for name in stage.parameters}
    assert found.parameters == {name for name in stages if name.endswith(".bias")}
    swin = view_of("timm/swin_tiny_patch4_window7_224")
    names = parse_policy("bias").select(swin).parameters
    assert names
    assert not any("table" in name for name in names)


def test_regex_selects_by_name_and_cuts_at_the_stage(resnet):
    found = parse_policy(r'regex("layer3\.1\..*conv2")').select(resnet)
    assert found.parameters == {"layer3.1.conv2.weight"}
    assert found.before == "stage3"
    assert [stage.name for stage in found.stages] == ["stage3"]
    assert found.behind == below(resnet, "layer3.", "layer4.")


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("timm/vit_tiny_patch16_224", 12),
        ("timm/convnext_atto", 12),
        ("torchvision/mobilenet_v2", 17),
        ("torchvision/swin_t", 12),
        ("timm/efficientnet_b0", 16),
        ("torchvision/densenet121", 9),
    ],
)
def test_depth_counts_blocks_and_leaves_them_whole(name, blocks):
    """At least every residual block (or dense block) is one piece, and none is taken apart into layers."""
    view = view_of(name)
    found = [parse_policy(f"depth({share / 100})").select(view) for share in range(10, 95, 5)]
    sizes = [len(each.parameters) for each in found]
    assert sizes == sorted(sizes, reverse=True)
    pieces = [own for _, own in blocks_of(view)]
    assert blocks <= len(pieces) <= blocks + 10
    assert {name for own in pieces for name in own} == everything(view)
    assert sum(map(len, pieces)) == len(everything(view))


def test_a_stage_that_is_called_as_a_module_is_no_block():
    """Position embeddings of the root belong to stage2; the module of that name holds blocks, and not them."""
    view = view_of("timm/visformer_tiny")
    assert ("stage2", ("pos_embed2",)) in list(blocks_of(view))
    found = block_modules(view)
    assert "stage2" not in found
    assert {"patch_embed2", "stage2.0"} <= found.keys()
    names = [name for own in found.values() for name in own]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ("lats(1)", "did you mean last"),
        ("nrom", "did you mean norm"),
        ("last", "last(1)"),
        ("last(0)", "K ≥ 1"),
        ("depth", "depth(0.5)"),
        ("depth(1)", "between 0 and 1"),
        ("depth(0)", "between 0 and 1"),
        ('regex("(")', "no regular expression"),
        ("norm@head", "say head"),
        ("last(1)@norm", "what@where"),
        ("norm@bias", "unknown freeze policy"),
        ("norm@last(1)@last(2)", "what@where"),
        ("head+last(1)", "without +"),
        ("norm(2)", "one value is too many"),
        ("regex(layer4.*conv)", 'a pattern stands in quotes, as in regex("layer4.*conv")'),
        ("nrom@last(2)", "unknown freeze policy 'nrom'; there are"),
        ("nrom@last(2)", "did you mean norm?"),
        ("last(2)@lpft(1)", "did you mean lp-ft?"),
    ],
)
def test_what_does_not_parse(policy, says):
    with pytest.raises(OptionError) as caught:
        parse_policy(policy)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ("last(7)", "5 stages"),
        ("until(stage5)", "did you mean stage"),
        ("regex(nothing)", "no parameter of"),
        ("norm@regex(conv)", "no parameter of kind norm"),
        ("depth(0.01)", "none or all"),
    ],
)
def test_what_the_network_does_not_have(resnet, policy, says):
    with pytest.raises(OptionError) as caught:
        parse_policy(policy).select(resnet)
    assert says in str(caught.value)
