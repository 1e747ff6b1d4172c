"""The views of timm's networks: complete, widths as declared, pretrained layers kept when the classifier comes off."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest.mock import Mock

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

import zoo_timm._hub
import zoo_timm._source
from zoo.errors import UnknownNameError, WeightsError, ZooError
from zoo.model.adapt import adapt_input
from zoo.model.view import check_view
from zoo.model.weights import load_weights
from zoo_timm import zoo_backbones
from zoo_timm._checkpoint import convert
from zoo_timm._input import resize_of

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


class _Hub(BaseHTTPRequestHandler):
    """One file of one repository, as the hub answers for it."""

    content = b""
    digest = ""

    def _answer(self):
        wanted = self.path.endswith("/resolve/main/model.safetensors")
        self.send_response(200 if wanted else 404)
        if wanted:
            self.send_header("ETag", f'"{self.digest}"')
            self.send_header("X-Repo-Commit", "1" * 40)
        self.send_header("Content-Length", str(len(self.content) if wanted else 0))
        self.end_headers()
        return wanted

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        if self._answer():
            self.wfile.write(self.content)

    def log_message(self, *_):
        pass


@contextmanager
def _hub(monkeypatch, tmp_path, content, digest):
    handler = type("Handler", (_Hub,), {"content": content, "digest": digest})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(zoo_timm._hub, "get_session", Mock())
    monkeypatch.setattr(zoo_timm._hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(zoo_timm._hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(zoo_timm._hub, "hf_hub_download", _from(server, tmp_path))
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def _from(server, folder):
    from huggingface_hub import hf_hub_download

    def download(*names, **options):
        return hf_hub_download(
            *names, **options, endpoint=f"http://127.0.0.1:{server.server_port}", cache_dir=folder, token=False
        )

    return download


def test_a_download_that_is_not_what_the_hub_published_is_deleted(monkeypatch, tmp_path):
    content = b"some weights"
    with (
        _hub(monkeypatch, tmp_path, content, hashlib.sha256(content + b"!").hexdigest()),
        pytest.raises(WeightsError, match=r"model\.safetensors came damaged: its SHA-256 is .* was deleted"),
    ):
        zoo_timm._hub.fetch("test_vit", "r160_in1k")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == content]
    assert not list(tmp_path.rglob("model.safetensors"))


def test_a_download_that_is_whole_is_kept(monkeypatch, tmp_path):
    content = b"some weights"
    with _hub(monkeypatch, tmp_path, content, hashlib.sha256(content).hexdigest()):
        path = zoo_timm._hub.fetch("test_vit", "r160_in1k")
        assert path.read_bytes() == content
    assert zoo_timm._hub.fetch("test_vit", "r160_in1k") == path  # and found again without a server


def test_files_that_git_keeps_itself_bear_no_sha256_and_pass(monkeypatch, tmp_path):
    with _hub(monkeypatch, tmp_path, b"small", "1f" * 20):
        assert zoo_timm._hub.fetch("test_vit", "r160_in1k").read_bytes() == b"small"


# A network of each class that timm can give another size, small enough to run; the size in pixels.
RESIZED = [
    ("test_vit", 128, {}),
    ("test_vit_relpos", 192, {}),
    ("vit_srelpos_small_patch16_224", 160, {"depth": 1, "embed_dim": 64, "num_heads": 2}),
    ("deit_tiny_distilled_patch16_224", 160, {"depth": 1}),
    ("deit3_small_patch16_224", 160, {"depth": 1}),
    ("beit_base_patch16_224", 160, {"depth": 2, "embed_dim": 64, "num_heads": 2}),
    ("eva02_tiny_patch14_224", 168, {"depth": 2}),
    ("vit_tiny_patch16_dinov3_qkvb", 160, {"depth": 2}),
    ("swin_tiny_patch4_window7_224", 192, {"depths": (1, 2), "embed_dim": 24, "num_heads": (1, 2)}),
    ("swinv2_tiny_window8_256", 192, {"depths": (1, 2), "embed_dim": 24, "num_heads": (1, 2)}),
    ("swinv2_cr_tiny_224", 160, {"depths": (1, 2), "embed_dim": 24, "num_heads": (1, 2)}),
    ("test_coatnet", 192, {}),
    ("test_maxvit", 192, {}),
    ("efficientvit_m0", 160, {}),
    ("coat_lite_tiny", 160, {}),
    ("tnt_s_patch16_224", 160, {}),
]


@pytest.mark.parametrize(("name", "side", "options"), [row for row in RESIZED if row[0] in ENTRIES])
@torch.no_grad()
def test_another_size_keeps_what_was_pretrained_as_timm_keeps_it(name, side, options):
    torch.manual_seed(0)
    module = timm.create_model(name, **options).eval()
    for parameter in module.parameters():  # tables of positions that start as zeros prove nothing
        parameter.add_(torch.randn_like(parameter) * 0.02)
    fresh = timm.create_model(name, **options, img_size=side).eval()
    fresh.load_state_dict(convert(fresh, {key: tensor.clone() for key, tensor in module.state_dict().items()}))
    parameters = [key for key, _ in module.named_parameters()]
    note = resize_of(module)(module, (side, side))
    assert note.startswith(f"images of {side} x {side} pixels: ")
    assert [key for key, _ in module.named_parameters()] == parameters
    images = torch.randn(1, 3, side, side)
    torch.testing.assert_close(module(images), fresh(images), rtol=1e-4, atol=1e-5)
    check_view(SOURCE.describe(module))


def test_tables_that_grew_are_named_and_sizes_that_cannot_be_are_refused():
    view = adapt_input(SOURCE.build("test_vit", None), size=192)
    assert "pos_embed from (1, 101, 64) to (1, 145, 64)" in view.notes[0]
    with torch.device("meta"):
        rebuilt = SOURCE.build("mvitv2_tiny", None)
    with pytest.raises(ValueError, match="timm says "):
        rebuilt.resize(rebuilt.module, (0, 0))
    view.module.set_input_size = Mock(side_effect=AssertionError("no such window"))
    with pytest.raises(ZooError, match="cannot take images of 224 x 224 pixels: timm says no such window"):
        adapt_input(view, size=224)


@pytest.mark.parametrize(
    ("name", "fixed", "resizable"),
    [
        ("xcit_nano_12_p16_224", False, False),
        ("twins_svt_small", False, False),
        ("swiftformer_xs", False, False),
        ("resnet50_clip", False, False),
        ("samvit_base_patch16_224", False, False),
        ("resnet10t", False, False),
        ("vit_tiny_patch16_224", True, True),
        ("coat_lite_tiny", True, True),
        ("levit_128s", True, False),
        ("mixer_s32_224", True, False),
    ],
)
@torch.no_grad()
def test_fixed_is_true_of_the_network_as_it_stands(name, fixed, resizable):
    view = _build(name)
    assert (view.input.fixed, view.resize is not None) == (fixed, resizable)
    images = torch.zeros(1, 3, view.input.size[0] + 64, view.input.size[1] + 32, device="meta")
    if fixed:
        with pytest.raises((AssertionError, RuntimeError)):
            view.extract(view.module, images, view.features[0].name)
    else:
        assert view.extract(view.module, images, view.features[0].name).shape == (1, view.features[0].width)


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("resnet10t", ("conv1.0",)),
        ("crossvit_9_240", ("patch_embed.0.proj", "patch_embed.1.proj")),
        ("convnext_atto", ("stem.0",)),
        ("tresnet_m", ()),
        ("naflexvit_base_patch16_gap", ()),
    ],
)
def test_layers_that_read_the_image_are_those_of_three_channels(name, layers):
    assert _build(name).input_layers == layers


def _swin(name):
    stage = re.match(r"layers\.(\d+)\.downsample(.*)", name)
    return f"layers.{int(stage[1]) - 1}.downsample{stage[2]}" if stage else name.replace("head.fc.", "head.")


def _convnext(name):
    name = name.replace("head.fc.", "head.").replace("head.norm.", "norm.").replace("stem.", "downsample_layers.0.")
    name = re.sub(r"stages\.(\d)\.downsample\.", r"downsample_layers.\1.", name)
    return name.replace(".blocks.", ".").replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")


@pytest.mark.parametrize(
    ("name", "theirs", "options"),
    [
        ("swin_tiny_patch4_window7_224", _swin, {"depths": (1, 1), "embed_dim": 24, "num_heads": (1, 2)}),
        ("convnext_atto", _convnext, {"conv_mlp": False}),
        ("deit3_small_patch16_224", lambda name: re.sub(r"ls(\d)\.gamma", r"gamma_\1", name), {"depth": 1}),
    ],
)
def test_checkpoints_of_the_authors_are_converted(tmp_path, name, theirs, options):
    torch.manual_seed(0)
    state = timm.create_model(name, **options).state_dict()
    path = tmp_path / "published.pth"
    torch.save({"model": {theirs(key): tensor for key, tensor in state.items()}}, path)
    view = load_weights(SOURCE.describe(timm.create_model(name, **options)), path, SOURCE.convert)
    assert "names and shapes were converted by timm" in view.notes
    assert all(torch.equal(tensor, state[key]) for key, tensor in view.module.state_dict().items())


def test_architectures_without_a_filter_are_not_converted(tmp_path):
    module = timm.create_model("test_resnet")
    tensors = {"other": torch.ones(1)}
    assert convert(module, tensors) is tensors
    old = {"layers.0.norm.1.weight": torch.ones(1)}
    assert convert(timm.create_model("densenet121", growth_rate=4, block_config=(1,)), old).keys() == old.keys()
