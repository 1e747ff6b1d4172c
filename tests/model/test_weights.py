"""Weights from a user's file: everything fits, or the error lists what does not."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import zoo
from zoo.errors import WeightsError, ZooError
from zoo.model.checkpoint import is_file, read_checkpoint, strip_prefixes
from zoo.model.view import build_view
from zoo.model.weights import load_weights
from zoo.run.artifact import Artifact, write_model
from zoo.specs import BackboneView, FeatureKind, InputSpec, partition


class Net(nn.Module):
    """A stem with BatchNorm, a body with a buffer that is not saved, a classifier and an auxiliary one."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.body = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))
        self.register_buffer("mask", torch.ones(4), persistent=False)
        self.head, self.aux = nn.Linear(4, 2), nn.Linear(4, 2)


def _view(module=None):
    module = module or Net()
    groups = [("stem", "stem", ["stem", "norm"]), ("stage1", "stage", ["body"])]
    return BackboneView(
        name="acme/net",
        module=module,
        features=(FeatureKind(name="pooled", width=4),),
        input=InputSpec(size=(8, 8), resize=8),
        extract=lambda *_: None,
        reset_classifier=lambda *_: None,
        licence="MIT",
        **partition(module, groups, classifier=["head"], auxiliary=["aux"]),
    )


@pytest.fixture
def state():
    """Tensors that no fresh network has."""
    torch.manual_seed(1)
    return {name: torch.rand_like(t) if t.is_floating_point() else t + 7 for name, t in Net().state_dict().items()}


@pytest.fixture
def save(tmp_path):
    def write(content, name="weights.pth"):
        path = tmp_path / name
        if name.endswith(".safetensors"):
            save_file(content, path)
        else:
            torch.save(content, path)
        return path

    return write


def _same(view, state, but=()):
    return all(torch.equal(t, state[name]) for name, t in view.module.state_dict().items() if not name.startswith(but))


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth", "no_suffix_is_needed"])
def test_a_file_is_loaded_bit_for_bit_and_named(state, save, name):
    path = save(state, name)
    view = load_weights(_view(), path)
    assert _same(view, state)
    assert (view.weights, view.licence) == (f"file {name}", "")
    assert view.notes == (
        f"weights from the file {name}, sha256 {read_checkpoint(path).digest}; "
        "images are prepared as for the weights that acme offers first",
    )
    assert len(read_checkpoint(path).digest) == 16


def test_a_header_whose_length_starts_like_a_pickle_or_an_archive_is_still_one_of_safetensors(tmp_path):
    path, seen = tmp_path / "weights", set()
    for length in range(0, 2048, 8):
        save_file({"a": torch.ones(1)}, path, metadata={"x": "x" * length})
        seen.add(path.read_bytes()[:1])
        assert read_checkpoint(path).header.keys() == {"x"}
    assert b"\x80" in seen


@pytest.mark.parametrize(
    ("weights", "means_file"),
    [
        ("a.safetensors", True),
        ("checkpoint.pth.tar", True),
        ("runs/first", True),
        ("imagenet", False),
        ("augreg_in21k.ft", False),
        ("none", False),
    ],
)
def test_files_are_told_from_tags(weights, means_file):
    assert is_file(weights) is means_file


@pytest.mark.parametrize(
    ("nest", "note"),
    [
        (lambda s: {"state_dict": s, "epoch": 3}, "tensors of state_dict in the file"),
        (lambda s: {"model": {"state_dict": s}}, "tensors of model.state_dict in the file"),
        (lambda s: {"model_state_dict": s, "optimizer": {"state": {0: {"m": torch.ones(1)}}}}, "not of optimizer"),
        (lambda s: {"state_dict": {"x": torch.ones(1)}, "state_dict_ema": s}, "of state_dict_ema .*not of state_dict"),
        (lambda s: {"model": {"x": torch.ones(1)}, "model_ema": s}, "of model_ema in the file, not of model$"),
        (lambda s: {"student": {"x": torch.ones(1)}, "teacher": s}, "of teacher in the file, not of student"),
        (lambda s: {"my_own_name": s, "epoch": 1}, "tensors of my_own_name in the file"),
        (lambda s: {"model": s, "args": argparse.Namespace(lr=0.1)}, "tensors of model in the file"),
        (lambda s: {"model": "resnet50", "state_dict": s}, "tensors of state_dict in the file"),
    ],
)
def test_what_training_scripts_wrap_around_a_network_is_taken_off_and_noted(state, save, nest, note):
    view = load_weights(_view(), save(nest(state)))
    assert _same(view, state)
    assert view.notes[1] == re.search(f".*{note}.*", view.notes[1]).group()


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "backbone.", "model.encoder.", "net."]
)
def test_prefixes_that_every_name_bears_are_taken_off(state, save, prefix):
    view = load_weights(_view(), save({f"{prefix}{name}": tensor for name, tensor in state.items()}))
    assert _same(view, state)
    assert "begin with" in view.notes[1]


def test_heads_beside_a_prefixed_backbone_are_left_out(state, save):
    wrapped = {f"backbone.{name}": tensor for name, tensor in state.items()} | {"heads.0.weight": torch.ones(9, 4)}
    view = load_weights(_view(), save(wrapped))
    assert _same(view, state)
    assert "1 tensors without it were left out, such as heads.0.weight" in view.notes[1]


def test_a_prefix_that_some_layer_lacks_or_the_network_bears_stays():
    some = {"model.a": torch.ones(1), "b": torch.ones(1)}
    assert strip_prefixes(some, ["a", "b"]) == (some, ())
    own = {"encoder.a": torch.ones(1), "head.b": torch.ones(1)}
    assert strip_prefixes(own, ["encoder.a", "head.b"]) == (own, ())


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"head.weight": torch.ones(9, 4), "head.bias": torch.ones(9)}, r"head stays random: the file holds head\.wei"),
        ({"head.weight": None, "head.bias": None}, "the classifier head stays random: the file holds nothing for it"),
        ({"aux.weight": None, "aux.bias": None}, "the classifier aux stays random"),
        ({"head.extra.bias": torch.ones(1)}, "the classifier head stays random"),
    ],
)
def test_classifiers_may_differ_and_the_notes_say_so(state, save, change, note):
    changed = {name: tensor for name, tensor in (state | change).items() if tensor is not None}
    view = load_weights(_view(), save(changed))
    assert _same(view, state, but=("head.", "aux."))
    assert [n for n in view.notes if re.search(note, n)]


def test_buffers_that_the_network_computes_itself_may_come_and_go(state, save):
    del state["norm.num_batches_tracked"]
    view = load_weights(_view(), save(state | {"mask": torch.zeros(4), "body.relative_position_index": torch.ones(2)}))
    assert view.module.norm.num_batches_tracked == 0
    assert torch.equal(view.module.mask, torch.ones(4))
    assert "2 tensors that the network computes itself were left out, such as mask" in view.notes
    assert (
        "1 tensors that are not in the file keep the network's own value, such as norm.num_batches_tracked"
        in view.notes
    )


def test_nothing_else_may_be_missing_unexpected_or_of_another_shape(state, save):
    for index in range(3):
        del state[f"body.{index}.weight"], state[f"body.{index}.bias"]
    path = save(state | {"neck.bias": torch.ones(1), "stem.weight": torch.ones(4, 1, 1, 1)})
    view = _view()
    before = view.module.stem.bias.clone()
    with pytest.raises(WeightsError, match=r"weights\.pth does not fit acme/net\. Tensors 6 missing") as caught:
        load_weights(view, path)
    message = str(caught.value)
    assert "6 missing: body.0.weight; body.0.bias; body.1.weight; body.1.bias; body.2.weight …" in message
    assert "1 unexpected: neck.bias." in message
    assert "1 of another shape: stem.weight: file (4, 1, 1, 1), network (4, 3, 1, 1)" in message
    assert torch.equal(view.module.stem.bias, before), "a file that does not fit must change nothing"


def test_running_statistics_are_no_buffers_to_be_guessed(state, save):
    del state["norm.running_mean"]
    with pytest.raises(WeightsError, match=r"1 missing: norm\.running_mean"):
        load_weights(_view(), save(state))


def test_the_source_converts_what_does_not_fit_as_it_is(state, save):
    foreign = {name.replace("stem", "conv1"): tensor for name, tensor in state.items()}

    def convert(module, tensors):
        assert isinstance(module, Net)
        return {name.replace("conv1", "stem"): tensor for name, tensor in tensors.items()}

    view = load_weights(_view(), save(foreign), convert)
    assert _same(view, state)
    assert "names and shapes were converted by acme" in view.notes
    assert "converted" not in " ".join(load_weights(_view(), save(state), convert).notes)


def test_the_report_is_about_the_better_fit(state, save):
    foreign = {name.replace("stem", "conv1"): tensor for name, tensor in state.items()} | {"odd": torch.ones(1)}
    better = {name.replace("conv1", "stem"): tensor for name, tensor in foreign.items()}
    with pytest.raises(WeightsError, match=r"\(names and shapes were converted by acme\)\. Tensors 1 unexpected: odd"):
        load_weights(_view(), save(foreign), lambda *_: better)
    with pytest.raises(WeightsError, match=r"acme/net\. Tensors 2 missing: stem\.weight; stem\.bias\. 3 unexpected"):
        load_weights(_view(), save(foreign), lambda *_: {})
    with pytest.raises(WeightsError, match=r"\(acme could not convert it \(KeyError: 'pos'\)\)\. Tensors 2 missing"):
        load_weights(_view(), save(foreign), lambda _, tensors: tensors["pos"])


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused_and_runs_none(state, tmp_path, zipped):
    path, trace = tmp_path / "weights.pth", tmp_path / "it-ran"
    torch.save({"state_dict": state, "hook": Evil(trace)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"(?s)Python objects beside tensors \(.*mkdir\).*torch\.save\(model"):
        load_weights(_view(), path)
    assert not trace.exists()


def _cut(path):
    path.write_bytes(path.read_bytes()[:-200])
    return path


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_half_a_file_is_called_damaged(state, save, name):
    with pytest.raises(WeightsError, match=rf"{name} cannot be read .*: it is damaged, half downloaded"):
        load_weights(_view(), _cut(save(state, name)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"weights\.pth is empty; fetch it again"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n",
            "a git-lfs pointer and not .* `git lfs pull`",
        ),
        (b"\n<!DOCTYPE html><html>Sign in</html>", "a web page and not weights"),
        (b'{"error": "not found"}', r"cannot be read \(UnpicklingError: .*it is damaged"),
        (b"\x00" * 300, "it is damaged, half downloaded, or no file of weights"),
    ],
)
def test_files_that_are_no_weights_say_what_they_are(tmp_path, content, message):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        load_weights(_view(), path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(1)], "holds a list and not named tensors"),
        (torch.ones(1), "holds a Tensor and not named tensors"),
        ({"epoch": 1, "lr": 0.1}, "holds no network under a name that is known; it holds epoch, lr"),
        ({}, "it holds nothing"),
        (
            {"generator": {"a": torch.ones(1)}, "critic": {"b": torch.ones(1)}},
            "no network under a name that is known; it holds generator, critic",
        ),
    ],
)
def test_files_without_a_network_say_what_they_hold(save, content, message):
    with pytest.raises(WeightsError, match=message):
        load_weights(_view(), save(content))


def test_files_without_tensors_and_files_that_are_not_there(save, tmp_path):
    with pytest.raises(WeightsError, match=r"a\.safetensors holds no tensors"):
        load_weights(_view(), save({}, "a.safetensors"))
    with pytest.raises(WeightsError, match=r"there is no file .*b\.pth; weights are a file, or a tag"):
        load_weights(_view(), tmp_path / "b.pth")


def test_names_take_files_where_they_take_tags(tmp_path):
    state = build_view("timm/test_resnet", "none").module.state_dict()
    path = tmp_path / "mine.safetensors"
    save_file(state, path)
    model = zoo.load("timm/test_resnet", weights=str(path), num_classes=2)
    assert model.view.weights == "file mine.safetensors"
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.backbone.state_dict().items())
    with pytest.raises(ZooError, match="names the weights 'r160_in1k' and --weights says"):
        build_view("timm/test_resnet.r160_in1k", str(path))
    with pytest.raises(WeightsError, match=r"there is no file .*other\.pth"):
        build_view("timm/test_resnet", str(tmp_path / "other.pth"))


def test_a_finished_run_serves_as_weights_with_its_input(tmp_path):
    model = zoo.load("timm/test_vit", weights="none", num_classes=3, size=192, channels=("red", "nir"))
    spec = dataclasses.replace(model.view.input, crop="squash")
    view = dataclasses.replace(model.view, input=spec, licence="CC-BY-NC-4.0")
    model.view = view
    write_model(tmp_path, Artifact(model=model, tag="none"))
    again = build_view("timm/test_vit", str(tmp_path) + "/")
    assert again.weights == "file model.safetensors"
    assert (again.input, again.licence) == (view.input, "CC-BY-NC-4.0")
    state = again.module.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.backbone.state_dict().items())
    assert any("a run of timm/test_vit; images are prepared as in that run" in note for note in again.notes)
    with pytest.raises(WeightsError, match=r"does not fit timm/test_resnet.*it is a run of timm/test_vit"):
        build_view("timm/test_resnet", str(tmp_path))
    assert json.loads(json.dumps(again.notes))  # they go into run.json


def test_numbers_of_another_kind_are_refused_by_name(state, save):
    with pytest.raises(
        WeightsError, match=r"Tensors 1 of another kind: stem\.weight: file torch\.int64, network torch\.float32"
    ):
        load_weights(_view(), save({**state, "stem.weight": state["stem.weight"].long()}))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_taken(state, save, dtype):
    view = load_weights(_view(), save({**state, "stem.weight": state["stem.weight"].to(dtype)}))
    assert torch.allclose(view.module.stem.weight, state["stem.weight"], atol=1e-2)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused_naming_up_to_five_tensors(state, save, value):
    bad = {name: torch.full_like(t, value) if t.is_floating_point() else t for name, t in state.items()}
    with pytest.raises(WeightsError, match=r"NaN or infinite numbers in 1 tensors: norm\.bias; the training"):
        load_weights(_view(), save({**state, "norm.bias": bad["norm.bias"]}))
    with pytest.raises(WeightsError, match=r"tensors: ([\w.]+; ){4}[\w.]+ …; the training"):
        load_weights(_view(), save(bad))


def test_a_mask_that_is_infinite_in_the_network_itself_may_be_so_in_the_file(save):
    def masked():
        net = Net()
        net.register_buffer("causal", torch.full((2,), float("-inf")))
        return net

    assert load_weights(_view(masked()), save(masked().state_dict())).weights == "file weights.pth"
