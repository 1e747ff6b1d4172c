"""Training, saving and reading back with images of another size than the backbone was pretrained on."""

import json

import pytest
import torch

import zoo
from zoo.errors import ZooError
from zoo.model.view import build_view
from zoo.run.artifact import load_artifact

OPTIONS = {"epochs": 2, "batch_size": 8, "quiet": True, "device": "cpu", "precision": "fp32"}


@pytest.mark.parametrize(("backbone", "freeze"), [("tiny/test_vit", "head"), ("tiny/test_efficientnet", "last(1)")])
def test_a_run_of_another_size_is_read_back_and_predicts_the_same(shape_folder, tmp_path, backbone, freeze):
    data, out = shape_folder(20, 20), tmp_path / "run"
    zoo.train(data, backbone=backbone, out=out, size=96, freeze=freeze, **OPTIONS)
    run = json.loads((out / "run.json").read_text())
    assert "'size': [96, 96]" in str(run)
    artifact = load_artifact(out)
    assert artifact.model.view.input.size == (96, 96)
    metrics = json.loads((out / "metrics.json").read_text())
    assert zoo.evaluate(out, data).metrics["label"]["accuracy"] == metrics["label"]["test"]["accuracy"]


def test_the_backbone_of_a_run_is_fine_tuned_further(shape_folder, tmp_path):
    data = shape_folder(20, 20)
    zoo.train(data, backbone="tiny/test_vit", out=tmp_path / "one", size=96, freeze="last(1)", **OPTIONS)
    again = build_view("tiny/test_vit", str(tmp_path / "one"))
    state = load_artifact(tmp_path / "one").model.backbone.state_dict()
    assert again.input.size == (96, 96)
    assert all(torch.equal(tensor, again.module.state_dict()[name]) for name, tensor in state.items())
    options = {"weights": str(tmp_path / "one"), "size": 128}
    zoo.train(data, backbone="tiny/test_vit", out=tmp_path / "two", **options, **OPTIONS)
    assert load_artifact(tmp_path / "two").tag == "file model.safetensors"
    assert load_artifact(tmp_path / "two").model.view.input.size == (128, 128)


def test_a_size_that_cannot_be_is_refused_before_anything_is_computed(shape_folder, tmp_path):
    with pytest.raises(ZooError, match="try 96 x 96 pixels or 112 x 112 pixels"):
        zoo.train(shape_folder(), backbone="tiny/test_vit", out=tmp_path / "run", size=100, **OPTIONS)
