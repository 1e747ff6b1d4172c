"""Other sizes and channels: what was pretrained is kept, what cannot be is refused with the reason."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from timm.layers import Conv2dSame, ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from torch import nn

import zoo
from zoo.errors import ZooError
from zoo.model.adapt import adapt_input, read_input
from zoo.model.channels import SameConv2d, plain_in
from zoo.model.view import build_view, check_view
from zoo.run.artifact import Artifact, load_artifact, write_model
from zoo.specs import BackboneView, FeatureKind, InputSpec, partition

STANDARDISED = "timm/vit_tiny_r_s16_p8_224"
"""A small network whose first convolution standardises its kernel and holds no tensor that tells so."""


class Small(nn.Module):
    """One convolution that reads the image, the mean over the image, and a classifier."""

    def __init__(self, conv=None):
        super().__init__()
        self.in_chans = 3
        self.conv = conv or nn.Conv2d(3, 5, 3, stride=2, padding=1)
        self.head = nn.Linear(self.conv.out_channels, 2)

    def features(self, images):
        return self.conv(images).mean((2, 3))

    def forward(self, images):
        return self.head(self.features(images))


def _view(module=None, **changes):
    module = module or Small()
    fields = {
        "name": "acme/small",
        "module": module,
        "features": (FeatureKind(name="pooled", width=module.conv.out_channels),),
        "input": InputSpec(size=(32, 32), resize=40),
        "extract": lambda module, images, _: module.features(images),
        "reset_classifier": lambda *_: None,
        "input_layers": ("conv",),
        **partition(module, [("stem", "stem", ["conv"])], classifier=["head"]),
    }
    return BackboneView(**{**fields, **changes})


def _grey(view, count):
    torch.manual_seed(0)
    return torch.randn(2, 1, *view.input.size).expand(-1, count, -1, -1).contiguous()


@pytest.mark.parametrize(("size", "resize"), [(64, 80), ((48, 64), 64), ((64, 48), 64), (31, 39)])
def test_another_size_keeps_the_share_that_the_crop_takes(size, resize):
    view = adapt_input(_view(), size=size)
    assert view.input.size == (size if isinstance(size, tuple) else (size, size))
    assert view.input.resize == resize
    assert view.notes[0].endswith("it was made for 32 x 32 pixels")


def test_what_was_not_asked_for_stays():
    view = _view()
    assert adapt_input(view) is view
    assert adapt_input(view, size=32, channels=3) is view
    assert adapt_input(view, channels=("red", "green", "blue")) is view
    assert adapt_input(view, channels=("R", "G", "B")) is view


def test_networks_of_one_size_say_which_it_is():
    fixed = dataclasses.replace(_view().input, fixed=True)
    with pytest.raises(ZooError, match="acme/small takes images of 32 x 32 pixels and of no other size"):
        adapt_input(_view(input=fixed), size=64)

    def refuse(module, size):
        raise ValueError("its tables cannot grow")

    with pytest.raises(ZooError, match="acme/small cannot take images of 64 x 64 pixels: its tables cannot grow"):
        adapt_input(_view(input=fixed, resize=refuse), size=64)
    with pytest.raises(ZooError, match="images of 0 x 0 pixels: a size is at least 1"):
        adapt_input(_view(), size=0)


def test_resizing_is_told_in_a_note():
    asked = []
    view = adapt_input(_view(resize=lambda module, size: asked.append(size) or "tables grew"), size=(64, 96))
    assert asked == [(64, 96)]
    assert view.notes == ("tables grew; it was made for 32 x 32 pixels",)


def test_a_size_that_does_not_go_through_names_sizes_that_may():
    with pytest.raises(
        ZooError,
        match=r"170 x 160 pixels with 3 channels: Input height \(170\).*"
        r"try 160 x 160 pixels or 176 x 160 pixels \(multiples of 16\); it was made for 160 x 160 pixels",
    ):
        adapt_input(build_view("timm/test_vit", "none"), size=(170, 160))

    def fail(module, images, kind):
        raise RuntimeError("sizes must match\nand more")

    with pytest.raises(ZooError, match=r"sizes must match; try 32 x 32 pixels or 64 x 64 pixels \(multiples of 32\)"):
        adapt_input(_view(extract=fail), size=50)
    with pytest.raises(ZooError, match=r"sizes must match; it was made for 32 x 32 pixels$"):
        adapt_input(_view(extract=fail), size=64)

    def check(module, images, kind):
        raise AssertionError

    with pytest.raises(ZooError, match=r"a check inside the network failed \(AssertionError\); it was made for 32"):
        adapt_input(_view(extract=check), size=64)
    with pytest.raises(ZooError, match=r"turns two images of 64 x 64 pixels into features of shape \(2, 5, 32, 32\)"):
        adapt_input(_view(extract=lambda module, images, _: module.conv(images)), size=64)


def test_the_proof_leaves_every_mode_as_it_was():
    view = build_view("timm/test_resnet", "none")
    view.module.train()
    view.module.layer1.eval()
    before = {name: module.training for name, module in view.module.named_modules()}
    statistics = view.module.bn1.running_mean.clone()
    adapt_input(view, size=96)
    assert {name: module.training for name, module in view.module.named_modules()} == before
    assert torch.equal(view.module.bn1.running_mean, statistics)


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_efficientnet"])
@pytest.mark.parametrize("count", [1, 2, 4, 7])
@torch.no_grad()
def test_a_grey_image_in_any_number_of_channels_gives_the_features_that_it_gave(name, count):
    view = build_view(f"timm/{name}", "none")
    view.module.eval()
    before = view.extract(view.module, _grey(view, 3), "pooled")
    adapted = adapt_input(view, channels=count)
    check_view(adapted)
    after = adapted.extract(adapted.module, _grey(view, count), "pooled")
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
    assert adapted.module.in_chans == adapted.input.channels == count


CONVOLUTIONS = [
    lambda: nn.Conv2d(3, 5, (3, 5), stride=2, padding=(1, 2), dilation=2, padding_mode="reflect"),
    lambda: Conv2dSame(3, 5, 5, stride=2, bias=True),
    lambda: StdConv2d(3, 5, 3, stride=2),
    lambda: StdConv2dSame(3, 5, 7, stride=2),
    lambda: ScaledStdConv2d(3, 5, 3, stride=2),
    lambda: ScaledStdConv2dSame(3, 5, 4, stride=3),
    lambda: ScaledStdConv2dSame(3, 5, (4, 2), stride=(3, 2), dilation=2),
]


@pytest.mark.parametrize("make", CONVOLUTIONS)
@pytest.mark.parametrize("size", [(32, 32), (33, 47)])
@torch.no_grad()
def test_convolutions_of_every_class_keep_their_response(make, size):
    torch.manual_seed(0)
    view = _view(Small(make()))
    grey = torch.randn(2, 1, *size)
    before = view.module.conv(grey.expand(-1, 3, -1, -1).contiguous())
    adapted = adapt_input(view, channels=5)
    check_view(adapted)
    after = view.module.conv(grey.expand(-1, 5, -1, -1).contiguous())
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_kernel_that_is_standardised_anew_becomes_one_of_its_own():
    for make, kind in ((CONVOLUTIONS[2], nn.Conv2d), (CONVOLUTIONS[3], SameConv2d), (CONVOLUTIONS[1], Conv2dSame)):
        adapted = adapt_input(_view(Small(make())), channels=4)
        assert type(adapted.module.conv) is kind
    view = _view(Small(CONVOLUTIONS[4]()))
    assert "conv.gain" in view.stages[0].parameters
    assert adapt_input(view, channels=4).stages[0].parameters == ("conv.weight", "conv.bias")


@pytest.mark.parametrize("make", CONVOLUTIONS)
@pytest.mark.parametrize("channels", [("nir", "swir", "x"), ("g", "nir", "r"), ("b", "r", "g"), ("r", "g", "b", "nir")])
@torch.no_grad()
def test_any_bands_are_read_as_the_mixed_image_was(make, channels):
    torch.manual_seed(0)
    view = _view(Small(make()))
    kind = type(view.module.conv)
    images = torch.randn(2, len(channels), 33, 32)
    share = {"r": (1.0, 0.0, 0.0), "g": (0.0, 1.0, 0.0), "b": (0.0, 0.0, 1.0)}
    reordered = sorted(channels) == ["b", "g", "r"]
    rows = torch.tensor([share.get(name, (1 / 3, 1 / 3, 1 / 3)) for name in channels])
    mixed = torch.einsum("cj,bchw->bjhw", rows if reordered else rows * 3 / len(channels), images)
    before = view.module.conv(mixed)
    adapted = adapt_input(view, channels=channels)
    check_view(adapted)
    torch.testing.assert_close(view.module.conv(images), before, rtol=1e-4, atol=1e-4)
    assert not reordered or type(view.module.conv) is kind


def test_the_convolution_keeps_all_but_its_kernel():
    conv = nn.Conv2d(3, 5, 3, padding=2, dilation=2, padding_mode="circular", dtype=torch.float64)
    conv.weight.requires_grad_(False)
    bias = conv.bias
    view = adapt_input(_view(Small(conv).double()), channels=2)
    assert view.module.conv is conv
    assert (conv.in_channels, conv.weight.shape, conv.weight.dtype) == (2, (5, 2, 3, 3), torch.float64)
    assert (conv.padding_mode, conv.bias is bias, conv.weight.requires_grad) == ("circular", True, False)


@torch.no_grad()
def test_bands_in_another_order_are_read_by_their_own_kernels():
    view = build_view("timm/test_resnet", "none")
    view.module.eval()
    torch.manual_seed(0)
    images = torch.rand(2, 3, 64, 64)

    def features(view, images):
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (view.input.mean, view.input.std))
        return view.extract(view.module, (images - mean) / std, "pooled")

    view = dataclasses.replace(view, input=dataclasses.replace(view.input, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)))
    before = features(view, images)
    adapted = adapt_input(view, channels=("blue", "green", "red"))
    torch.testing.assert_close(features(adapted, images.flip(1)), before)
    assert adapted.input.mean == (0.3, 0.2, 0.1)
    assert adapted.input.std == (0.6, 0.5, 0.4)
    assert "scaled" not in adapted.notes[0]


@torch.no_grad()
def test_named_bands_have_the_kernel_and_the_statistics_of_their_colour():
    view = _view()
    kernel = view.module.conv.weight.clone()
    adapted = adapt_input(view, channels=("NIR", "b", "Green", "red", "swir"))
    new = view.module.conv.weight
    grey = kernel.mean(1)
    for band, expected in enumerate((grey, kernel[:, 2], kernel[:, 1], kernel[:, 0], grey)):
        torch.testing.assert_close(new[:, band], expected * 3 / 5)
    assert adapted.input.mean[1:4] == (0.406, 0.456, 0.485)
    assert adapted.input.mean[0] == pytest.approx((0.406 + 0.456 + 0.485) / 3)
    assert adapted.notes == (
        "conv reads 5 channels: b, green, red by the pretrained kernels of that colour, nir, swir by the mean of the "
        "three; kernels scaled by 3/5",
    )


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        (0, "an image with 0 channels: there is at least one"),
        ("rgb", r"a number or a list of names, such as \['red', 'nir'\], not 'rgb'"),
        ((), "name at least one, and leave no name empty"),
        (("red", ""), "name at least one, and leave no name empty"),
        (("red", "nir", "R"), "a channel is named twice: red, nir, r"),
        (("nir", "NIR"), "a channel is named twice: nir, nir"),
        (3.5, "a number or a list of names, .*, not 3.5"),
        (True, "a number or a list of names, .*, not True"),
        ((1, 2), r"a number or a list of names, .*, not \(1, 2\)"),
    ],
)
def test_channels_that_make_no_sense_are_refused(channels, message):
    with pytest.raises(ZooError, match=message):
        adapt_input(_view(), channels=channels)


def test_networks_that_read_their_image_otherwise_are_refused():
    with pytest.raises(ZooError, match="acme/small reads its image by no convolution that is known"):
        adapt_input(_view(input_layers=()), channels=4)
    with pytest.raises(ZooError, match="conv is no convolution of three channels"):
        adapt_input(_view(Small(nn.Conv2d(3, 6, 3, groups=3))), channels=4)
    grey = InputSpec(size=(32, 32), resize=40, mean=(0.5,), std=(0.5,))
    with pytest.raises(ZooError, match="reads 1 channel; only networks of red, green and blue can be given others"):
        adapt_input(_view(input=grey), channels=4)


def test_a_loaded_model_takes_other_images_and_learns_from_every_band():
    model = zoo.load(
        "timm/test_vit", weights="none", num_classes=2, size=(96, 128), channels=("r", "g", "b", "nir"), features="mean"
    )
    model.backbone.patch_embed.proj.weight.grad = None
    torch.manual_seed(0)
    torch.nn.init.normal_(model.heads.heads[0].weight)
    model(torch.randn(2, 4, 96, 128)).square().sum().backward()
    grads = model.backbone.patch_embed.proj.weight.grad
    assert grads.abs().sum((0, 2, 3)).gt(0).tolist() == [True] * 4
    with pytest.raises(ZooError, match="try 96 x 96 pixels or 112 x 112 pixels"):
        zoo.load("timm/test_vit", weights="none", num_classes=2, size=100)


@pytest.mark.parametrize(
    ("name", "size", "channels"),
    [
        ("timm/test_vit", 96, 4),
        ("timm/test_resnet", (64, 96), ("b", "g", "r")),
        ("timm/test_resnet", 64, ("nir", "g", "r")),
        ("timm/test_nfnet", 64, 1),
        ("timm/test_nfnet", 64, 3),
        ("timm/test_nfnet", 64, ("b", "g", "r")),
        ("timm/test_nfnet", 64, ("nir", "swir", "x")),
        (STANDARDISED, None, ("nir", "swir", "x")),
    ],
)
@torch.no_grad()
def test_a_run_with_other_images_is_read_back(tmp_path, name, size, channels):
    model = zoo.load(name, weights="none", num_classes=2, size=size, channels=channels).eval()
    write_model(tmp_path, Artifact(model=model, tag="none"))
    (tmp_path / "run.json").write_text("{}")
    again = load_artifact(tmp_path).model
    assert again.view.input == model.view.input
    assert again.view.stages == model.view.stages
    images = torch.randn(1, model.view.input.channels, *model.view.input.size)
    assert torch.equal(again(images), model(images))
    if model.view.input.channels == 3:  # and its backbone is fine-tuned further
        further = build_view(name, str(tmp_path))
        assert torch.equal(
            further.extract(further.module.eval(), images, model.kind),
            model.view.extract(model.backbone, images, model.kind),
        )


@torch.no_grad()
def test_a_run_of_the_first_releases_keeps_the_convolution_that_it_was_made_with(tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.run.artifact.plain_convolutions", lambda view: [])
    model = zoo.load("timm/test_nfnet", weights="none", num_classes=2).eval()
    write_model(tmp_path, Artifact(model=model, tag="none"))
    (tmp_path / "run.json").write_text("{}")
    assert type(load_artifact(tmp_path).model.backbone.stem.conv1) is type(model.backbone.stem.conv1)
    assert plain_in(tmp_path) == []
    assert plain_in(tmp_path / "run.json") == []


def test_a_run_states_the_convolutions_that_compute_with_their_own_kernel(tmp_path):
    model = zoo.load("timm/test_nfnet", weights="none", num_classes=2, channels=4)
    write_model(tmp_path, Artifact(model=model, tag="none"))
    assert plain_in(tmp_path) == plain_in(tmp_path / "model.safetensors") == ["stem.conv1"]
    write_model(tmp_path, Artifact(model=zoo.load("timm/test_nfnet", weights="none", num_classes=2), tag="none"))
    assert plain_in(tmp_path) == []


def test_inputs_are_read_back_from_json():
    assert read_input('{"size": [4, 4], "resize": 5, "mean": [0.5], "std": [0.1]}') == InputSpec(
        size=(4, 4), resize=5, mean=(0.5,), std=(0.1,)
    )


def test_a_size_at_which_nothing_is_left_of_the_image_is_refused():
    said = r"gives two different images of 7 x 7 pixels the same features: .* try 32 x 32 pixels \(multiples of 32\)"
    with pytest.raises(ZooError, match=said):
        zoo.load("lite/efficientnet_lite0", num_classes=2, size=7)
    assert zoo.load("lite/efficientnet_lite0", num_classes=2, size=32).view.input.size == (32, 32)
