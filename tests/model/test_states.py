"""Tensors of a file go back into networks whose layers ask for their version."""

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

import zoo
from zoo.model.states import with_versions


def test_a_network_that_asks_for_its_version_gets_it(tmp_path):
    network = torchvision.models.mnasnet0_5(num_classes=3)
    save_file(network.state_dict(), tmp_path / "own.safetensors")
    other, tensors = torchvision.models.mnasnet0_5(num_classes=3), load_file(tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match="version should be set"):
        other.load_state_dict(tensors)
    other.load_state_dict(with_versions(other, tensors))
    assert all(torch.equal(own, other.state_dict()[name]) for name, own in network.state_dict().items())


def test_such_a_network_is_fine_tuned_read_again_and_exported(shape_folder, tmp_path):
    root = shape_folder(12, 12)
    options = {"size": 64, "epochs": 2, "quiet": True, "deterministic": True, "weights": "none", "batch_size": 8}
    run = zoo.train(root, backbone="torchvision/mnasnet0_5", freeze="none", out=tmp_path / "run", **options)
    assert run.metrics["label"]["test"]["rows"] == 6
    assert zoo.evaluate(tmp_path / "run", root).metrics["label"]["rows"] == 6
    zoo.train(root, start=tmp_path / "run", freeze="head", out=tmp_path / "more", epochs=1, quiet=True)
    given = {name: own for name, own in options.items() if name != "weights"}
    again = {"weights": str(tmp_path / "run"), "freeze": "head", "out": tmp_path / "anew"}
    zoo.train(root, backbone="torchvision/mnasnet0_5", **again, **given)
    found = zoo.export(tmp_path / "run", format="safetensors", out=tmp_path / "export")
    assert found.checked
