"""Ingestion: every file is decoded once, no bad file stops it, and what it promises about pixels holds."""

from __future__ import annotations

import threading
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo.data.ingest as module
from zoo.data.decode import decode
from zoo.data.ingest import ingest
from zoo.errors import DataError
from zoo.specs import InputSpec

SPEC = InputSpec(size=(8, 8), resize=9)


@pytest.fixture
def photos(tmp_path, picture, encoded):
    """Six readable files, the last a copy of the first."""
    paths = []
    for seed in range(6):
        path = tmp_path / f"{seed}.jpg"
        path.write_bytes(encoded(picture(seed % 5, (20, 16)), "JPEG"))
        paths.append(path)
    return paths


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def test_pixels_are_those_of_decode(photos, cache):
    images = ingest(photos, SPEC, cache)
    got = images.pixels(np.arange(6))
    assert (got.shape, got.dtype) == ((6, 3, 8, 8), torch.uint8)
    for row, path in enumerate(photos):
        np.testing.assert_array_equal(got[row].permute(1, 2, 0), decode(path.read_bytes(), SPEC))
    assert torch.equal(images.pixels(torch.tensor([4, 1])), got[[4, 1]])
    assert len(images) == 6
    assert images.seconds > 0
    assert (images.bad, images.spec) == ({}, SPEC)


def test_what_is_known_is_not_decoded_again(photos, cache, monkeypatch):
    first = ingest(photos, SPEC, cache, workers=1)
    assert (first.decoded, first.hits) == (5, 1)
    monkeypatch.setattr(module, "read_colours", lambda *_: pytest.fail("decoded again"))
    moved = photos[0].rename(photos[0].with_name("moved.jpg"))
    again = ingest([moved, *photos[1:]], SPEC, cache)
    assert (again.decoded, again.hits) == (0, 6)
    assert torch.equal(again.pixels(np.arange(6)), first.pixels(np.arange(6)))
    np.testing.assert_array_equal(again.digests, first.digests)


def test_a_changed_file_is_decoded_anew(photos, cache, picture, encoded):
    ingest(photos, SPEC, cache)
    photos[1].write_bytes(encoded(picture(77), "JPEG"))
    assert ingest(photos, SPEC, cache).decoded == 1


def test_what_changes_pixels_is_in_the_key_and_mean_and_std_are_not(photos, cache):
    ingest(photos, SPEC, cache)
    assert ingest(photos, replace(SPEC, mean=(0, 0, 0), std=(1, 1, 1), fixed=True), cache).decoded == 0
    for change in ({"resize": 10}, {"interpolation": "bicubic"}, {"size": (6, 8)}, {"crop": "squash"}):
        assert ingest(photos, replace(SPEC, **change), cache).decoded > 0
    squash = replace(SPEC, crop="squash")
    assert ingest(photos, replace(squash, resize=77), cache).decoded == 0


def test_bad_files_are_told_with_reasons_and_stop_nothing(photos, cache, tmp_path, monkeypatch):
    good = photos[0].read_bytes()
    contents = {"empty": b"", "cut": good[: len(good) // 2], "copy_of_cut": good[: len(good) // 2], "text": b"hello"}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "locked").write_bytes(good)
    read_bytes = Path.read_bytes

    def refuse(path):
        if path.name in ("locked", "worn"):
            raise PermissionError(13, "x") if path.name == "locked" else OSError(5, "Input/output error")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    names = [*contents, "gone", "locked", "worn", ".", "empty/below"]
    images = ingest([*photos[:1], *(tmp_path / name for name in names), photos[1]], SPEC, cache)
    assert images.bad == {
        1: "empty file",
        2: "truncated image",
        3: "truncated image",
        4: "not an image",
        5: "no such file",
        6: "no permission to read it",
        7: "cannot be read: Input/output error",
        8: "a folder, not a file",
        9: "no such file",
    }
    assert (images.ids < 0).tolist() == [row in images.bad for row in range(11)]
    assert (images.digests[1:10] == 0).all()
    assert (images.decoded, images.hits) == (2, 0)
    with pytest.raises(ValueError, match="row 1 has no pixels: empty file"):
        images.pixels(np.array([0, 1]))
    assert images.pixels(np.array([10])).shape == (1, 3, 8, 8)


def test_no_files_give_no_rows(cache):
    images = ingest([], SPEC, cache)
    assert (len(images), images.pixels(np.empty(0, dtype=np.int64)).shape) == (0, (0, 3, 8, 8))


def test_progress_is_told_in_the_calling_thread(photos, cache):
    seen = []
    ingest(photos, SPEC, cache, progress=lambda *done: seen.append((*done, threading.current_thread())))
    assert [done[:2] for done in seen] == [(count, 6) for count in range(1, 7)]
    assert {done[2] for done in seen} == {threading.current_thread()}


def test_shards_are_bounded(photos, cache, monkeypatch):
    monkeypatch.setattr(module, "_SHARD_BYTES", 2 * 3 * 8 * 8)
    images = ingest(photos, SPEC, cache, workers=1)
    assert len(list(images.store.folder.glob("*.safetensors"))) == 3
    assert images.pixels(np.arange(6)).shape == (6, 3, 8, 8)


@pytest.mark.parametrize("workers", [1, 3])
def test_only_a_bounded_number_of_files_is_read_ahead(photos, cache, monkeypatch, workers):
    many, submitted = photos * 20, []
    submit = module.ThreadPoolExecutor.submit

    def count(pool, work, path, *rest):
        submitted.append(path)
        return submit(pool, work, path, *rest)

    monkeypatch.setattr(module.ThreadPoolExecutor, "submit", count)
    monkeypatch.setattr(module, "_AHEAD", range(4, 9))
    ahead = []
    ingest(many, SPEC, cache, workers=workers, progress=lambda done, _: ahead.append(len(submitted) - done))
    assert max(ahead) <= 8 * workers


def test_a_stop_leaves_whole_shards_no_threads_and_the_filters_as_they_were(photos, cache, monkeypatch):
    monkeypatch.setattr(module, "_SHARD_BYTES", 2 * 3 * 8 * 8)

    def stop(done, _total):
        if done == 3:
            raise KeyboardInterrupt

    with warnings.catch_warnings():
        before = list(warnings.filters)
        with pytest.raises(KeyboardInterrupt):
            ingest(photos, SPEC, cache, workers=2, progress=stop)
        assert list(warnings.filters) == before
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("zoo-decode")]
    assert not [path for path in cache.rglob("*") if path.name.startswith(".")]
    assert ingest(photos, SPEC, cache, workers=1).decoded == 3


def test_a_damaged_shard_is_decoded_again(photos, cache):
    images = ingest(photos, SPEC, cache)
    next(images.store.folder.glob("*.safetensors")).write_bytes(b"torn")
    again = ingest(photos, SPEC, cache)
    assert again.decoded >= 5
    assert len(again.store.problems) == 1


def test_a_cache_that_loses_pixels_meanwhile_says_so(photos, cache, monkeypatch):
    monkeypatch.setattr(module.RowStore, "append", lambda *_: None)
    with pytest.raises(DataError, match=r"the cache .* lost the pixels of .*0\.jpg meanwhile; run again"):
        ingest(photos, SPEC, cache)


def test_a_network_of_other_channels_is_refused(photos, cache):
    with pytest.raises(DataError, match="decoded to 3 channels, but the network takes 1"):
        ingest(photos, InputSpec(size=(8, 8), resize=8, mean=(0.5,), std=(0.5,)), cache)


def test_pixels_that_a_disk_spoilt_are_decoded_anew_and_it_is_told(photos, cache):
    first = ingest(photos, SPEC, cache)
    before = first.pixels(np.arange(6))
    (shard,) = first.store.folder.glob("*.safetensors")
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    again = ingest(photos, SPEC, cache)
    assert (again.decoded, again.hits) == (5, 1)
    assert torch.equal(again.pixels(np.arange(6)), before)
    assert "its content is not what was written" in again.store.problems[0]
