"""The views of torchvision's classifiers: complete, widths as declared, classifiers that come off and on."""

from __future__ import annotations

import math
import pickle
import urllib.error

import pytest
import torch
import torchvision.models
from torch import nn

from zoo.errors import UnknownNameError, WeightsError, ZooError
from zoo.model.view import check_view
from zoo_torchvision import zoo_backbones

(SOURCE,) = zoo_backbones()
ENTRIES = {entry.name: entry for entry in SOURCE.entries()}

# One of each family; RegNet reads tensors while it is built, which the meta device cannot give.
FAMILIES = [
    "alexnet",
    "vgg11_bn",
    "squeezenet1_0",
    "squeezenet1_1",
    "resnet18",
    "densenet121",
    "googlenet",
    "inception_v3",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "convnext_tiny",
    "swin_t",
    "swin_v2_t",
    "vit_b_32",
    "maxvit_t",
    "shufflenet_v2_x0_5",
    "mnasnet0_5",
    "regnet_y_400mf",
]


def _build(name):
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        return SOURCE.build(name, None)


def _images(view):
    module = view.module.eval()
    return torch.zeros(2, 3, *view.input.size, device=next(module.parameters()).device)


def test_every_classifier_and_nothing_else_is_listed():
    assert len(ENTRIES) >= 80
    assert {"resnet50", "vit_b_16", "maxvit_t"} <= ENTRIES.keys()
    assert not [name for name in ENTRIES if "rcnn" in name or "lraspp" in name or "quantized" in name or "r3d" in name]


def test_entries_say_what_the_weights_metadata_say():
    entry = ENTRIES["resnet50"]
    assert entry.tags == ("IMAGENET1K_V2", "IMAGENET1K_V1")
    assert (entry.parameters, entry.gmacs, entry.input_size) == (25_557_032, 4.089, 224)
    assert entry.weights[0].top1 == pytest.approx(80.858)
    assert entry.weights[0].licence == ""
    assert "SWAG" in ENTRIES["vit_h_14"].weights[0].licence
    assert not any(math.isnan(each.top1 or 0) for entry in ENTRIES.values() for each in entry.weights)


def test_weights_without_a_classifier_are_not_offered():
    assert ENTRIES["vgg16"].tags == ("IMAGENET1K_V1",)


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_view_is_complete_and_the_classifier_comes_off_and_on(name):
    view = _build(name)
    check_view(view)
    images, width = _images(view), view.features[0].width
    assert view.name == f"torchvision/{name}"
    assert view.weights == "none"
    assert view.stage_names[0] == "stem"
    assert all(stage.parameters for stage in view.stages)
    assert view.classifier
    assert view.auxiliary == ()
    for kind in view.features:
        assert view.extract(view.module, images, kind.name).shape == (2, kind.width)
    view.reset_classifier(view.module, 0)
    assert view.module(images).shape == (2, width)
    bare = SOURCE.describe(view.module)
    assert (bare.classifier, bare.features, bare.stages) == ((), view.features, view.stages)
    bare.reset_classifier(view.module, 10)
    assert view.module(images).shape == (2, 10)
    again = SOURCE.describe(view.module)
    check_view(again)
    assert again.classifier == view.classifier
    assert again.name == view.name


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("resnet18", "stem layer1 layer2 layer3 layer4"),
        ("vgg11_bn", "stem stage1 stage2 stage3 stage4 neck"),
        ("densenet121", "stem denseblock1 denseblock2 denseblock3 denseblock4 neck"),
        ("mobilenet_v3_small", "stem stage1 stage2 stage3 stage4 neck"),
        ("convnext_tiny", "stem stage1 stage2 stage3 stage4 neck"),
        ("vit_b_32", f"stem {' '.join(f'block{index}' for index in range(12))} neck"),
    ],
)
def test_stages_have_names_that_people_know(name, stages):
    assert " ".join(_build(name).stage_names) == stages


def test_what_is_pretrained_behind_the_last_stage_is_the_neck():
    assert _build("vgg11_bn").stages[-1].parameters == tuple(
        f"classifier.{index}.{kind}" for index in (0, 3) for kind in ("weight", "bias")
    )
    assert _build("convnext_tiny").stages[-1].parameters == ("classifier.0.weight", "classifier.0.bias")
    assert _build("swin_t").stages[-1].modules == ("norm",)
    assert "class_token" in _build("vit_b_32").stages[0].parameters


def test_features_are_what_reached_the_classifier():
    torch.manual_seed(0)
    for name in ("squeezenet1_1", "resnet18", "mobilenet_v3_small"):
        view = SOURCE.build(name, None)
        images = torch.rand(1, 3, 64, 64)
        view.module.eval()
        with torch.no_grad():
            before = view.extract(view.module, images, "pooled")
            view.reset_classifier(view.module, 0)
            assert torch.equal(view.module(images), before)
            assert before.abs().sum() > 0


def test_input_follows_the_weights():
    view = _build("inception_v3")
    assert (view.input.size, view.input.resize, view.input.fixed) == ((299, 299), 342, False)
    assert _build("efficientnet_b0").input.interpolation == "bicubic"
    assert _build("vit_b_32").input.fixed
    assert _build("vit_h_14").input.size == (224, 224)  # the default weights are those of a larger network


def test_a_fresh_classifier_keeps_the_kind_of_the_old_one():
    squeezenet, maxvit = _build("squeezenet1_1"), _build("maxvit_t")
    squeezenet.reset_classifier(squeezenet.module, 7)
    maxvit.reset_classifier(maxvit.module, 7)
    assert isinstance(squeezenet.module.classifier[1], nn.Conv2d)
    assert isinstance(squeezenet.module.classifier[2], nn.Identity)  # logits below zero must be possible
    assert maxvit.module.classifier[5].bias is None


def test_a_network_of_the_users_own_is_recognised_whatever_its_classes():
    with torch.device("meta"):
        view = SOURCE.describe(torchvision.models.resnet34(num_classes=3))
    check_view(view)
    assert (view.name, view.weights) == ("torchvision/resnet34", "unknown")
    assert SOURCE.describe(nn.Linear(2, 2)) is None


def test_a_network_of_no_known_size_is_named_after_its_class():
    with torch.device("meta"):
        module = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1])
    assert SOURCE.describe(module).name == "torchvision/ResNet"


def test_auxiliary_classifiers_are_taken_off_when_built_and_kept_apart_when_brought():
    assert "auxiliary" in _build("inception_v3").notes[0]
    with torch.device("meta"):
        module = torchvision.models.googlenet(init_weights=False, aux_logits=True)
    view = SOURCE.describe(module)
    check_view(view)
    assert view.auxiliary_modules == ("aux1", "aux2")
    view.reset_classifier(module, 5)
    assert [len(output[0]) for output in module.train()(torch.zeros(2, 3, 224, 224, device="meta"))] == [5, 5, 5]
    view.reset_classifier(module, 0)
    assert SOURCE.describe(module).auxiliary == ()
    assert module(torch.zeros(2, 3, 224, 224, device="meta")).shape == (2, 1024)


def test_users_who_replaced_the_whole_classifier_are_understood_or_told():
    with torch.device("meta"):
        mobile, vgg = torchvision.models.mobilenet_v2(), torchvision.models.vgg11()
        mobile.classifier = nn.Sequential(nn.Linear(1280, 64), nn.ReLU(), nn.Linear(64, 4))
        vgg.classifier = nn.Linear(25088, 4)
    view = SOURCE.describe(mobile)
    check_view(view)
    assert len(view.classifier) == 4
    view.reset_classifier(mobile, 2)
    assert mobile.classifier.out_features == 2
    with pytest.raises(ZooError, match=r"has no classifier\.6"):
        SOURCE.describe(vgg)


def test_other_layers_of_the_users_are_refused_by_name():
    with torch.device("meta"):
        module = torchvision.models.resnet18()
        module.extra = nn.Linear(2, 2)
    with pytest.raises(ZooError, match=r"parameter extra\.weight belongs to no stage"):
        SOURCE.describe(module)


def test_unknown_models_tags_and_features_are_refused():
    with pytest.raises(UnknownNameError, match="no classifier 'resnet19'"):
        SOURCE.build("resnet19", None)
    with pytest.raises(WeightsError, match="no weights 'best'; there are IMAGENET1K_V1, and none"):
        SOURCE.build("resnet18", "best")
    view = _build("resnet18")
    with pytest.raises(ValueError, match="no 'cls' features"):
        view.extract(view.module, _images(view), "cls")


@pytest.mark.parametrize(
    "failure",
    [
        urllib.error.URLError("no route to host"),
        RuntimeError("invalid hash value"),
        pickle.UnpicklingError("not a checkpoint"),
    ],
)
def test_weights_that_cannot_be_had_say_where_to_put_the_file(monkeypatch, failure):
    def fail(*_, **__):
        raise failure

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", fail)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with (
        torch.device("meta"),
        pytest.raises(
            WeightsError, match=r"(?s)download\.pytorch\.org.*checkpoints/resnet18-f37072fd\.pth.*weights none"
        ),
    ):
        SOURCE.build("resnet18", "IMAGENET1K_V1")


def test_weights_are_loaded_and_named(monkeypatch):
    state = torchvision.models.shufflenet_v2_x0_5().state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: state)
    view = SOURCE.build("shufflenet_v2_x0_5", "IMAGENET1K_V1")
    assert view.weights == "IMAGENET1K_V1"
    assert torch.equal(view.module.state_dict()["conv1.0.weight"], state["conv1.0.weight"])
