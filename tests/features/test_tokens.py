"""All tokens of an image go through the cache as vectors do, and what would not fit into memory is refused."""

import numpy as np
import pytest
import torch

from zoo.data.ingest import ingest
from zoo.errors import ZooError
from zoo.features import memory
from zoo.features.choose import accept
from zoo.features.extract import extract, keep
from zoo.features.memory import available_memory, check_memory
from zoo.features.prefix import Prefix, Recipe, normalise
from zoo.model.load import strip
from zoo.model.view import build_view

CPU = torch.device("cpu")


@pytest.fixture
def ready(shapes, tmp_path):
    """A small vision transformer and 6 decoded pictures."""
    torch.manual_seed(0)
    view = strip(build_view("timm/test_vit", "none"))
    paths, _ = shapes(6)
    return view, ingest(paths, view.input, tmp_path / "images")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_tokens_are_computed_once_and_found_again_in_their_precision(ready, tmp_path, precision):
    view, images = ready
    prefix = Prefix(view, "tokens", Recipe(precision=precision), CPU)
    first = keep(prefix, images, np.arange(6), digest="x", cache=tmp_path, batch=2)
    again = keep(prefix, images, np.array([4, 1]), digest="x", cache=tmp_path)
    assert (first.computed, again.computed) == (6, 0)
    assert first.load().shape == (6, *prefix.shape) == (6, 101, 64)
    assert first.load().dtype == prefix.dtype
    assert torch.equal(again.load(), first.load()[[4, 1]])
    if precision == "fp32":
        with torch.no_grad():
            reference = view.extract(view.module.eval(), normalise(images.pixels(np.arange(6)), view.input), "tokens")
        assert torch.allclose(first.load(), reference, rtol=1e-4, atol=1e-4)


def test_a_shard_holds_no_more_than_a_share_of_the_memory(ready, tmp_path, monkeypatch):
    view, images = ready
    monkeypatch.setattr("zoo.features.extract.SHARD_BYTES", 1)
    prefix = Prefix(view, "tokens", Recipe(), CPU)
    keep(prefix, images, np.arange(6), digest="x", cache=tmp_path, batch=2)
    assert len(list((tmp_path / "features").rglob("*.safetensors"))) == 3


def test_the_shape_of_vectors_needs_no_forward_pass(ready, monkeypatch):
    view, _ = ready
    prefix = Prefix(view, "cls", Recipe(), CPU)
    monkeypatch.setattr(Prefix, "__call__", None)
    assert prefix.shape == (64,)


class Fake:
    """Stands for a prefix: `accept` only hands it to `compute`."""


@pytest.mark.parametrize(("noise", "accepted"), [(0.01, True), (3.0, False)])
def test_reduced_precision_of_tokens_is_judged_by_tokens_and_cross_validated_on_their_mean(noise, accepted):
    generator = torch.Generator().manual_seed(0)
    labels = np.arange(40) % 2
    full = torch.randn(40, 9, 6, generator=generator) + 2.0 * torch.from_numpy(labels).view(-1, 1, 1)
    low = full + noise * torch.randn(full.shape, generator=generator)
    fast, reference = Fake(), Fake()
    found, why = accept(fast, reference, np.arange(40), labels, lambda one, rows: (low if one is fast else full)[rows])
    assert found == accepted
    assert why.startswith("cosine of bf16 to fp32 features ")
    assert ("cross-validated balanced accuracy" in why) == accepted


def test_features_that_do_not_fit_are_refused_with_what_they_take_and_what_there_is(ready, tmp_path, monkeypatch):
    view, images = ready
    monkeypatch.setattr(memory, "available_memory", lambda: 10_000_000)
    check_memory(1000, (2000,), torch.float32)
    check_memory(1000, (4000,), torch.bfloat16)  # two bytes a number; training converts them by batch
    with pytest.raises(ZooError, match=r"of 1000 images, 197 x 768 numbers each, take 0\.3 GB of memory, and 0\.0 GB"):
        check_memory(1000, (197, 768), torch.bfloat16)
    monkeypatch.setattr(memory, "available_memory", lambda: 1000)
    with pytest.raises(ZooError, match="use a head that takes one vector an image"):
        extract(Prefix(view, "tokens", Recipe(), CPU), images, np.arange(6), digest="x", cache=tmp_path)
    assert not list((tmp_path / "features").rglob("*.safetensors"))


def test_where_nobody_says_how_much_memory_is_left_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: None)
    check_memory(10**9, (197, 768), torch.float32)


def test_the_memory_that_is_left_is_the_smaller_of_the_machines_and_the_groups(tmp_path):
    system, group = tmp_path / "meminfo", tmp_path / "group"
    assert available_memory(system, group) is None
    system.write_text("MemTotal:  100 kB\nMemAvailable:    64 kB\n")
    assert available_memory(system, group) == 65536
    group.mkdir()
    (group / "memory.current").write_text("5000\n")
    (group / "memory.stat").write_text("anon 4000\ninactive_file 1000\n")
    (group / "memory.max").write_text("max\n")
    assert available_memory(system, group) == 65536
    (group / "memory.max").write_text("20000\n")
    assert available_memory(system, group) == 16000
    assert 10**6 < available_memory() < 10**15
