"""Whether weights lie on this disk is answered from the folders that torch.hub and huggingface_hub themselves use."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.registry.origins import Disk, describe_origin, how_to_fetch, on_disk

VARIABLES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "TORCH_HOME")
FILE = "https://download.pytorch.org/models/resnet18-f37072fd.pth"
HUB = "hf-hub:timm/resnet18.a1_in1k"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def in_environment(code, tmp_path, **variables):
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment |= {"HOME": str(tmp_path / "home"), **variables}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    return json.loads(done.stdout)


ASK_US = """
import json, sys
from zoo.registry.origins import checkpoints_folder, hub_folder
print(json.dumps([str(hub_folder()), str(checkpoints_folder())]))
assert not {'torch', 'huggingface_hub'} & set(sys.modules)
"""
# One process for all environments: importing torch takes seconds. Both modules read the environment when imported.
ASK_THEM = """
import importlib, json, os, sys
import torch.hub
from huggingface_hub import constants
found = []
for variables in json.loads(sys.argv[1]):
    for name in %r:
        os.environ.pop(name, None)
    os.environ.update(variables)
    importlib.reload(constants)
    found.append([constants.HF_HUB_CACHE, os.path.join(torch.hub.get_dir(), 'checkpoints')])
print(json.dumps(found))
"""


def test_the_folders_are_those_of_the_hub_and_of_torch_and_neither_is_imported(tmp_path):
    other = str(tmp_path / "other")
    environments = [
        {},
        {"XDG_CACHE_HOME": other},
        {"HF_HOME": other, "TORCH_HOME": "~/torch"},
        {"HF_HOME": other, "HF_HUB_CACHE": "$HOME/hub", "TORCH_HOME": other},
        {"HF_HOME": "~/$USER_OF_NOBODY", "XDG_CACHE_HOME": other},
        {"HUGGINGFACE_HUB_CACHE": other, "XDG_CACHE_HOME": "~/cache"},
    ]
    code = ASK_THEM.replace("json.loads(sys.argv[1])", repr(environments)) % (VARIABLES,)
    theirs = in_environment(code, tmp_path)
    ours = [in_environment(ASK_US, tmp_path, **variables) for variables in environments]
    assert ours == theirs
    assert len({tuple(pair) for pair in ours}) == len(environments)


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """Folders of the hub and of torch that a test may fill."""
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.delenv("HUGGINGFACE_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "hf" / "hub", tmp_path / "torch" / "hub" / "checkpoints"


def put(hub, repository="timm/resnet18.a1_in1k", name="model.safetensors", *, branch="main", commit=COMMIT):
    """A repository as huggingface_hub lays it out; gives the blob of its file."""
    root = hub / f"models--{repository.replace('/', '--')}"
    snapshot, blob = root / "snapshots" / commit, root / "blobs" / name
    for folder in (snapshot, blob.parent, root / "refs"):
        folder.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(b"weights")
    (snapshot / name).symlink_to(Path("../../blobs") / name)
    if branch:
        (root / "refs" / branch).write_text(commit)
    return blob


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin"])
def test_a_repository_with_a_file_of_weights_is_on_disk(caches, name):
    assert not on_disk(HUB)
    put(caches[0], name=name)
    assert on_disk(HUB)
    assert not on_disk("hf-hub:timm/resnet18.a2_in1k")


def test_a_repository_is_found_where_the_hub_itself_finds_it(caches):
    from huggingface_hub import try_to_load_from_cache

    put(caches[0])
    assert try_to_load_from_cache("timm/resnet18.a1_in1k", "model.safetensors", cache_dir=caches[0])


def test_a_repository_without_weights_or_whose_blob_is_gone_is_not_on_disk(caches):
    put(caches[0], name="config.json")
    assert not on_disk(HUB)
    blob = put(caches[0])
    assert on_disk(HUB)
    blob.unlink()
    assert not on_disk(HUB)


def test_a_revision_is_a_branch_or_a_commit(caches):
    put(caches[0], branch="v2")
    assert on_disk(f"{HUB}@v2")
    assert on_disk(f"{HUB}@{COMMIT}")
    assert not on_disk(f"{HUB}@v1")
    assert not on_disk(HUB)  # the hub itself would ask for the branch main


def test_a_file_of_torch_hub_is_on_disk_under_its_own_name(caches):
    assert not on_disk(FILE)
    caches[1].mkdir(parents=True)
    (caches[1] / "resnet18-f37072fd.pth").touch()
    assert on_disk(FILE)
    assert on_disk(f"{FILE}?download=true")
    assert not on_disk(FILE.replace("18", "34"))


def test_a_wheel_is_on_disk_when_it_is_installed(caches):
    assert on_disk("wheel:pytest")
    assert not on_disk("wheel:no_such_package")
    assert not on_disk("wheel:")


def test_a_file_of_a_wheel_is_on_disk_when_it_is_there_and_not_by_the_package_alone(caches):
    assert on_disk("wheel:pytest/_pytest/py.typed")
    assert not on_disk("wheel:pytest/_pytest/weights.pth")
    assert not on_disk("wheel:pytest/no_such_package/py.typed")
    assert not on_disk("wheel:typing-extensions/typing_extensions/py.typed")


def test_weights_without_an_origin_are_not_on_disk(caches):
    caches[1].mkdir(parents=True)
    (caches[1] / "x.pth").touch()
    assert not on_disk("")


def test_a_disk_looks_once_and_a_new_one_looks_again(caches):
    disk = Disk()
    caches[1].mkdir(parents=True)
    (caches[1] / "resnet18-f37072fd.pth").touch()
    assert not disk.holds(FILE)
    assert Disk().holds(FILE)


def test_every_origin_is_described_and_says_what_to_do_without_a_network(caches):
    hub, checkpoints = caches
    assert describe_origin(HUB) == "https://huggingface.co/timm/resnet18.a1_in1k"
    assert describe_origin(f"{HUB}@v2").endswith("timm/resnet18.a1_in1k at revision v2")
    assert describe_origin(FILE) == FILE
    assert describe_origin("wheel:some_package") == "the Python package some_package"
    assert describe_origin("") == "not stated"
    assert "`hf download timm/resnet18.a1_in1k --revision v2`" in how_to_fetch(f"{HUB}@v2")
    assert f"its folder models--timm--resnet18.a1_in1k into {hub}" in how_to_fetch(HUB)
    assert how_to_fetch(FILE).endswith(f"copy it into {checkpoints}")
    assert how_to_fetch("wheel:some_package") == "pip install some-package"
    assert describe_origin("wheel:acme-nets/acme_nets/a/b.pth") == "acme_nets/a/b.pth of acme-nets"
    assert how_to_fetch("wheel:acme-nets/acme_nets/a/b.pth") == "pip install acme-nets"
    assert how_to_fetch("") == ""
