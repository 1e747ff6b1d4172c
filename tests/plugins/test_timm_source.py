"""The views of timm's networks: complete, widths as declared, pretrained layers kept when the classifier comes off."""

from __future__ import annotations

import time
from unittest.mock import Mock

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

import zoo_timm._hub
import zoo_timm._source
from zoo.errors import UnknownNameError, WeightsError, ZooError
from zoo.model.view import check_view
from zoo_timm import zoo_backbones

(SOURCE,) = zoo_backbones()
ENTRIES = {entry.name: entry for entry in SOURCE.entries()}

# Each for a way in which timm's families differ: tokens, distillation, heads with pretrained layers, many classifiers,
# no matcher, layer-wise matchers, several branches, attention pooling, shared tables, no class token.
# fmt: off
FAMILIES = [
    "test_resnet", "test_vit", "test_vit2", "test_vit3", "test_vit_relpos", "test_efficientnet", "test_convnext",
    "resnet10t", "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "swin_tiny_patch4_window7_224",
    "convnext_atto", "mobilenetv3_small_050", "levit_128s", "hrnet_w18_small", "ghostnet_050", "vgg11",
    "xcit_nano_12_p16_224", "crossvit_9_240", "volo_d1_224", "poolformer_s12", "caformer_s18", "pit_ti_224",
    "efficientvim_m1", "cait_xxs24_224", "dla34", "resnetv2_50", "vit_srelpos_small_patch16_224", "hiera_tiny_224",
    "repvit_m0_9",
]
# fmt: on
REAL = [name for name in FAMILIES if name in ENTRIES]  # an older timm may lack a few


def _build(name, tag=None):
    with torch.device("meta"):
        view = SOURCE.build(name, tag)
    view.module.eval()
    return view


def _images(view, count=2):
    return torch.zeros(count, view.input.channels, *view.input.size, device=next(view.module.parameters()).device)


def _parameters(view):
    return [name for stage in view.stages for name in stage.parameters]


def test_every_architecture_is_listed_with_its_tags_the_default_first():
    assert ENTRIES.keys() == set(timm.list_models())
    assert sum(len(entry.tags) for entry in ENTRIES.values()) == len(timm.list_pretrained())
    assert ENTRIES["resnet18"].tags[0] == timm.get_pretrained_cfg("resnet18").tag
    assert (ENTRIES["resnet18"].input_size, ENTRIES["resnet18"].weights[0].licence) == (224, "apache-2.0")
    assert ENTRIES["vit_tiny_patch16_224"].tags[0] == "augreg_in21k_ft_in1k"


@pytest.mark.parametrize("name", REAL)
@torch.no_grad()
def test_view_is_complete_and_the_classifier_comes_off_and_on(name):
    view = _build(name)
    check_view(view)
    images, width = _images(view), view.features[0].width
    assert (view.name, view.weights, view.licence) == (f"timm/{name}", "none", "")
    assert view.stage_names[0] == "stem"
    assert all(stage.parameters for stage in view.stages)
    assert len(view.stages) >= 4
    for kind in view.features:
        features = view.extract(view.module, images, kind.name)
        assert features.ndim == (3 if kind.name == "tokens" else 2)
        assert features.shape[-1] == kind.width
    view.reset_classifier(view.module, 0)
    assert view.module(images).shape == (2, width)
    bare = SOURCE.describe(view.module)
    assert (bare.classifier, bare.features) == ((), view.features)
    assert _parameters(bare) == _parameters(view), "taking the classifier off took pretrained layers along"
    bare.reset_classifier(view.module, 10)
    assert view.module(images).shape == (2, 10)
    again = SOURCE.describe(view.module)
    check_view(again)
    assert again.classifier == view.classifier
    assert again.stages == view.stages


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("resnet10t", "stem stage1 stage2 stage3 stage4"),
        ("mobilenetv3_small_050", "stem stage1 stage2 stage3 stage4 stage5 stage6 neck"),
        ("convnext_atto", "stem stage1 stage2 stage3 stage4 neck"),
        ("vgg11", "stem stage1 stage2 stage3 stage4 neck"),
        ("hiera_tiny_224", "stem stage1 stage2 stage3 stage4 neck"),
        ("poolformer_s12", "stem stage1 stage2 stage3 stage4 neck"),
        ("vit_tiny_patch16_224", f"stem {' '.join(f'block{index}' for index in range(12))} neck"),
    ],
)
def test_stages_follow_blocks_or_resolutions(name, stages):
    assert " ".join(_build(name).stage_names) == stages


def test_classifier_is_the_classifier_alone_and_the_neck_holds_what_is_pretrained():
    assert _build("convnext_atto").classifier == ("head.fc.weight", "head.fc.bias")
    assert _build("convnext_atto").stages[-1].parameters == ("head.norm.weight", "head.norm.bias")
    assert _build("mobilenetv3_small_050").stages[-1].modules == ("conv_head",)
    assert set(_build("levit_128s").stages[-1].modules) == {"head.bn", "head_dist.bn"}
    assert _build("vit_tiny_patch16_224").stages[-1].modules == ("norm",)
    assert {"cls_token", "pos_embed"} <= set(_build("vit_tiny_patch16_224").stages[0].parameters)
    # A table that every block shares: in the neck it would make a frozen prefix depend on something that trains.
    assert "shared_rel_pos.mlp.fc1.weight" in _build("vit_srelpos_small_patch16_224").stages[0].parameters


def test_kinds_of_features_follow_the_tokens():
    kinds = {kind.name: kind.width for kind in _build("vit_tiny_patch16_224").features}
    assert kinds == {"pooled": 192, "cls": 192, "cls+mean": 384, "mean": 192, "tokens": 192}
    assert [kind.name for kind in _build("test_vit2").features] == ["pooled", "mean", "tokens"]
    assert [kind.name for kind in _build("resnet10t").features] == ["pooled"]


@torch.no_grad()
def test_features_are_what_reached_the_classifier_and_what_timm_pools():
    torch.manual_seed(0)
    for name in ("test_vit", "test_vit2", "test_resnet", "levit_128s"):
        view = SOURCE.build(name, None)
        view.module.eval()
        images = torch.rand(2, 3, *view.input.size)
        before = view.extract(view.module, images, "pooled")
        if name != "levit_128s":  # timm stops before the BatchNorm of this head
            pooled = view.module.forward_head(view.module.forward_features(images), pre_logits=True)
            assert torch.equal(before, pooled)
        view.reset_classifier(view.module, 0)
        assert torch.equal(view.module(images), before)


@torch.no_grad()
def test_means_are_over_patches_and_class_tokens_come_first():
    view = SOURCE.build("test_vit", None)
    view.module.eval()
    images = torch.rand(2, 3, *view.input.size)
    got = {kind.name: view.extract(view.module, images, kind.name) for kind in view.features}
    torch.testing.assert_close(got["mean"], got["tokens"][:, 1:].mean(1))
    assert torch.equal(got["cls"], got["tokens"][:, 0])
    assert torch.equal(got["cls+mean"], torch.cat([got["cls"], got["mean"]], 1))
    with pytest.raises(ValueError, match="offers no 'cls' features"):
        view.extract(timm.create_model("test_resnet"), images, "cls")


def test_input_follows_the_weights_configuration():
    view = _build("vit_tiny_patch16_224")
    assert (view.input.size, view.input.resize, view.input.fixed) == ((224, 224), 248, True)
    assert view.input.mean == (0.5, 0.5, 0.5)
    with torch.device("meta"):
        grey = SOURCE.describe(timm.create_model("resnet10t", in_chans=1))
        small = SOURCE.describe(timm.create_model("test_vit", img_size=96))
    assert grey.input.channels == 1
    assert small.input.size == (96, 96)


def test_border_crops_are_noted(monkeypatch):
    module = _build("test_resnet").module
    monkeypatch.setitem(module.pretrained_cfg, "crop_mode", "border")
    view = SOURCE.describe(module)
    assert view.input.crop == "center"
    assert "'border'" in view.notes[0]


def test_networks_of_the_users_own_are_recognised_whatever_was_done_to_their_classifier():
    with torch.device("meta"):
        module = timm.create_model("test_vit", num_classes=3)
    assert (SOURCE.describe(module).name, SOURCE.describe(module).weights) == ("timm/test_vit", "unknown")
    module.reset_classifier(0)  # timm's own
    view = SOURCE.describe(module)
    assert view.classifier == ()
    view.reset_classifier(module, 4)
    assert module(_images(view)).shape == (2, 4)
    assert SOURCE.describe(nn.Linear(2, 2)) is None
    with torch.device("meta"):
        assert SOURCE.describe(timm.create_model("test_resnet", features_only=True)) is None


def test_a_network_without_any_stages_is_refused(monkeypatch):
    module = _build("poolformer_s12").module
    monkeypatch.setattr(module, "feature_info", [])
    with pytest.raises(ZooError, match=r"timm/poolformer_s12 cannot be divided into stages: timm says nothing"):
        SOURCE.describe(module)


def test_an_encoder_has_no_place_for_a_classifier():
    name = next((name for name in ENTRIES if name.startswith("qwen3_vit") and name.endswith("_enc")), None)
    if name is None:
        pytest.skip("this timm has no encoder-only networks")
    view = _build(name)
    check_view(view)
    assert (view.classifier, [kind.name for kind in view.features]) == ((), ["mean", "tokens"])
    assert view.extract(view.module, _images(view), "mean").shape == (2, view.features[0].width)
    view.reset_classifier(view.module, 0)
    with pytest.raises(ZooError, match="an encoder without a place for a classifier"):
        view.reset_classifier(view.module, 3)


def test_unknown_models_and_tags_are_refused():
    with pytest.raises(UnknownNameError, match="no architecture 'resnet10000'"):
        SOURCE.build("resnet10000", None)
    with pytest.raises(WeightsError, match="no weights 'best'; there are r160_in1k, and none"):
        SOURCE.build("test_vit", "best")
    bare = next(name for name, entry in ENTRIES.items() if not entry.tags)
    with pytest.raises(WeightsError, match="no weights 'best'; there are none"):
        SOURCE.build(bare, "best")


def test_without_a_network_the_answer_is_quick_and_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(zoo_timm._hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(zoo_timm._hub, "hf_hub_download", Mock(side_effect=FileNotFoundError("not here")))
    monkeypatch.setattr(zoo_timm._hub, "get_session", Mock(side_effect=ConnectionError("unreachable")))
    started = time.perf_counter()
    with pytest.raises(WeightsError, match=r"(?s)huggingface\.co/timm/test_vit\.r160_in1k.*hf download.*weights none"):
        SOURCE.build("test_vit", "r160_in1k")
    assert time.perf_counter() - started < 5


def _file(tmp_path, monkeypatch, state):
    path = tmp_path / "model.safetensors"
    save_file(state, path)
    monkeypatch.setattr(zoo_timm._source, "fetch", lambda *_: path)


def test_weights_on_this_machine_are_loaded_and_named(tmp_path, monkeypatch):
    state = timm.create_model("test_vit").state_dict()
    _file(tmp_path, monkeypatch, state)
    view = SOURCE.build("test_vit", "r160_in1k")
    assert (view.weights, view.licence, view.notes) == ("r160_in1k", "apache-2.0", ())
    assert all(torch.equal(tensor, state[name]) for name, tensor in view.module.state_dict().items())


def test_weights_that_lack_a_tensor_are_refused(tmp_path, monkeypatch):
    state = timm.create_model("test_vit").state_dict()
    del state["norm.weight"]
    _file(tmp_path, monkeypatch, state)
    with pytest.raises(WeightsError, match=r'(?s)loaded from .*model\.safetensors.*Missing key.*"norm\.weight"'):
        SOURCE.build("test_vit", "r160_in1k")


def test_what_timm_loads_leniently_is_noted_where_it_is_missing(tmp_path, monkeypatch):
    state = timm.create_model("dla46_c").state_dict()
    del state["level0.0.weight"]
    _file(tmp_path, monkeypatch, state)
    view = SOURCE.build("dla46_c", "in1k")
    assert view.notes == ("not among the weights, so untrained: level0.0.weight",)
