"""The views of torchvision's classifiers: complete, widths as declared, classifiers that come off and on."""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import re
import urllib.error
from email.message import Message

import pytest
import torch
import torchvision.models
from torch import nn

from zoo.errors import UnknownNameError, WeightsError, ZooError
from zoo.model.adapt import adapt_input
from zoo.model.view import check_view
from zoo.model.weights import load_weights
from zoo_torchvision import zoo_backbones
from zoo_torchvision._input import prepared, take_transform_out

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
    assert _build("vit_h_14").input.size == (518, 518)  # as its default weights are, not as torchvision builds it


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


def _served(monkeypatch, tmp_path, content):
    """The next download is `content`."""

    class Answer(io.BytesIO):
        def info(self):
            return Message()

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", lambda *_, **__: Answer(content))


def test_a_download_whose_hash_is_not_the_published_one_is_refused_and_not_kept(monkeypatch, tmp_path):
    file = io.BytesIO()
    torch.save(torchvision.models.shufflenet_v2_x0_5().state_dict(), file)
    _served(monkeypatch, tmp_path, file.getvalue())
    with pytest.raises(WeightsError, match=r"could not be loaded from https://.*invalid hash value"):
        SOURCE.build("shufflenet_v2_x0_5", "IMAGENET1K_V1")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    # The hash that is compared is part of the published name.
    weights = torchvision.models.get_model_weights("shufflenet_v2_x0_5").IMAGENET1K_V1
    digest = hashlib.sha256(file.getvalue()).hexdigest()[:8]
    monkeypatch.setattr(weights.value, "url", re.sub(r"-[0-9a-f]+\.pth", f"-{digest}.pth", weights.url), raising=False)
    assert SOURCE.build("shufflenet_v2_x0_5", "IMAGENET1K_V1").weights == "IMAGENET1K_V1"


@pytest.mark.parametrize("build", [torchvision.models.googlenet, torchvision.models.inception_v3])
@torch.no_grad()
def test_images_scaled_otherwise_are_the_same_function_as_torchvisions_own_renormalisation(build):
    torch.manual_seed(0)
    module = build(init_weights=False, aux_logits=False, transform_input=True)
    images = torch.rand(1, 3, 8, 8)

    def read_by_the_first_convolution(spec):
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (spec.mean, spec.std))
        return module._transform_input((images - mean) / std)

    spec = SOURCE.describe(module).input
    assert (spec.mean, prepared(module, spec)) == ((0.485, 0.456, 0.406), spec)
    assert SOURCE.describe(module).input_layers == ()
    before = read_by_the_first_convolution(spec)
    take_transform_out(module)
    after = SOURCE.describe(module)
    assert (after.input.mean, after.input.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    torch.testing.assert_close(read_by_the_first_convolution(after.input), before)
    assert not torch.allclose(read_by_the_first_convolution(spec), before)
    assert len(after.input_layers) == 1


def test_networks_built_by_name_never_renormalise_inside():
    for name in ("googlenet", "inception_v3"):
        view = _build(name)
        assert view.input.mean == (0.5, 0.5, 0.5)
        assert not view.module.transform_input


def _small_vit():
    torch.manual_seed(0)
    module = torchvision.models.VisionTransformer(
        image_size=64, patch_size=16, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64
    )
    nn.init.normal_(module.heads.head.weight)
    return module.eval()


@torch.no_grad()
def test_a_vit_takes_another_size_as_torchvision_interpolates_it():
    module, fresh = _small_vit(), torchvision.models.VisionTransformer(96, 16, 2, 2, 32, 64).eval()
    state = torchvision.models.vision_transformer.interpolate_embeddings(96, 16, dict(module.state_dict()))
    fresh.load_state_dict(state)
    view = adapt_input(SOURCE.describe(module), size=96)
    check_view(view)
    images = torch.randn(1, 3, 96, 96)
    torch.testing.assert_close(module(images), fresh(images))
    assert "encoder.pos_embedding from (1, 17, 32) to (1, 37, 32)" in view.notes[0]
    assert SOURCE.describe(module).input.size == (96, 96)
    for size in (100, (96, 64)):
        with pytest.raises(ZooError, match=r"squares of whole patches of 16 pixels; near are 96"):
            adapt_input(view, size=size)


@torch.no_grad()
def test_a_maxvit_takes_whole_windows():
    torch.manual_seed(0)
    options = {"stem_channels": 8, "partition_size": 2, "block_channels": [8, 16], "block_layers": [1, 1]}
    options |= {"head_dim": 4, "stochastic_depth_prob": 0.0}
    module = torchvision.models.MaxVit(input_size=(64, 64), **options).eval()
    fresh = torchvision.models.MaxVit(input_size=(128, 128), **options).eval()
    fresh.load_state_dict(module.state_dict())
    view = adapt_input(SOURCE.describe(module), size=128)
    images = torch.randn(1, 3, 128, 128)
    torch.testing.assert_close(module(images), fresh(images))
    assert "more windows" in view.notes[0]
    with pytest.raises(ZooError, match="squares of 64 pixels or a multiple: windows keep the 2 x 2 positions"):
        adapt_input(view, size=96)


@pytest.mark.parametrize("name", ["swin_t", "swin_v2_t", "resnet18", "maxvit_t", "vit_b_32"])
def test_sizes_and_channels_of_the_real_networks_change(name):
    view = adapt_input(_build(name), size=448, channels=("red", "green", "blue", "nir"))
    check_view(view)
    assert (view.input.size, view.input.channels) == ((448, 448), 4)


def test_every_family_names_the_convolution_that_reads_the_image():
    for name in FAMILIES:
        view = _build(name)
        assert [view.module.get_submodule(path).in_channels for path in view.input_layers] == [3], name


def test_checkpoints_as_torchvision_published_them_are_converted(tmp_path):
    module = torchvision.models.DenseNet(4, (2, 2), 8)
    state = module.state_dict()
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", name): value for name, value in state.items()}
    assert old.keys() != state.keys()
    torch.save(old, tmp_path / "densenet.pth")
    view = load_weights(
        SOURCE.describe(torchvision.models.DenseNet(4, (2, 2), 8)), tmp_path / "densenet.pth", SOURCE.convert
    )
    assert all(torch.equal(value, state[name]) for name, value in view.module.state_dict().items())


def test_auxiliary_classifiers_in_a_file_are_left_out(tmp_path):
    state = torchvision.models.googlenet(init_weights=False, aux_logits=True).state_dict()
    torch.save(state, tmp_path / "googlenet.pth")
    view = load_weights(SOURCE.build("googlenet", None), tmp_path / "googlenet.pth", SOURCE.convert)
    assert all(torch.equal(value, state[name]) for name, value in view.module.state_dict().items())
    assert "names and shapes were converted by torchvision" in view.notes
