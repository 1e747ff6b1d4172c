"""The store: what went in comes out, whole shards only, damage is found and costs nothing but work."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from zoo.data import store as module
from zoo.data.store import RowStore
from zoo.errors import DataError


def digests_of(*numbers: int):
    return np.array([[number % 256, number // 256, *[0] * 14] for number in numbers], dtype=np.uint8).reshape(-1, 16)


def rows_of(*numbers: int, dtype=torch.float32):
    return torch.tensor([[number, number + 0.5] for number in numbers], dtype=dtype).reshape(-1, 2)


@pytest.fixture
def open_store(tmp_path):
    def open_store(dtype=torch.float32, description=None):
        return RowStore(tmp_path, description or {"kind": "test"}, (2,), dtype)

    return open_store


def shards(store):
    return sorted(store.folder.glob("*.safetensors"))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float32])
def test_rows_come_back_by_digest_in_any_order(open_store, dtype):
    store = open_store(dtype)
    store.append(digests_of(1, 2, 3), rows_of(1, 2, 3, dtype=dtype))
    store.append(digests_of(4, 5), rows_of(4, 5, dtype=dtype))
    for opened in (store, open_store(dtype)):
        ids = opened.find(digests_of(5, 9, 1, 4, 1))
        assert (ids >= 0).tolist() == [True, False, True, True, True]
        got = opened.gather(ids[ids >= 0])
        assert got.dtype == dtype
        assert torch.equal(got, rows_of(5, 1, 4, 1, dtype=dtype))
    assert (len(store), store.nbytes) == (5, 5 * 2 * dtype.itemsize)


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=5), wanted=st.lists(st.integers(0, 24), max_size=40))
def test_gathering_is_indexing(tmp_path_factory, sizes, wanted):
    store = RowStore(tmp_path_factory.mktemp("store"), {}, (2,), torch.float32)
    numbers = list(range(sum(sizes)))
    for size in sizes:
        start = len(store)
        store.append(digests_of(*numbers[start : start + size]), rows_of(*numbers[start : start + size]))
    ids = [number for number in wanted if number in numbers]
    assert torch.equal(store.gather(np.array(ids, dtype=np.int64)), rows_of(*ids))
    assert torch.equal(store.gather(torch.tensor(numbers)), rows_of(*numbers))


def test_the_answer_is_memory_of_its_own(open_store):
    store = open_store()
    store.append(digests_of(1), rows_of(1))
    store.gather(np.array([0]))[0, 0] = 99
    assert torch.equal(store.gather(np.array([0])), rows_of(1))


def test_digests_are_compared_whole(open_store):
    store = open_store()
    ends = np.zeros((3, 16), dtype=np.uint8)
    ends[1, 15], ends[2, 0] = 1, 1
    store.append(ends[:2], rows_of(1, 2))
    assert store.find(ends).tolist() == [0, 1, -1]


def test_duplicates_do_no_harm(open_store):
    store = open_store()
    store.append(digests_of(1, 1, 2), rows_of(1, 1, 2))
    store.append(digests_of(1), rows_of(1))
    assert torch.equal(store.gather(store.find(digests_of(2, 1))), rows_of(2, 1))


def test_an_empty_store_and_empty_questions_are_fine(open_store):
    store = open_store()
    assert store.find(digests_of(1)).tolist() == [-1]
    assert store.gather(np.empty(0, dtype=np.int64)).shape == (0, 2)
    assert store.digests().shape == (0, 16)
    store.append(digests_of(), rows_of())
    assert shards(store) == []


def test_ids_that_are_not_there_are_refused(open_store):
    store = open_store()
    store.append(digests_of(1), rows_of(1))
    for ids in ([-1], [1]):
        with pytest.raises(IndexError, match="row ids must lie in 0 … 0"):
            store.gather(np.array(ids))


def test_each_key_has_its_own_folder_which_says_what_it_is(open_store):
    stores = [open_store(), open_store(torch.bfloat16), open_store(description={"kind": "other"})]
    assert len({store.folder for store in stores}) == 3
    key = json.loads((stores[1].folder / "key.json").read_text())
    assert key == {"description": {"kind": "test"}, "shape": [2], "dtype": "bfloat16"}
    assert open_store().folder == stores[0].folder


def test_the_order_of_a_description_does_not_matter(open_store):
    assert open_store(description={"a": 1, "b": 2}).folder == open_store(description={"b": 2, "a": 1}).folder


def test_what_another_process_appends_is_found_and_ids_stay(open_store):
    mine, theirs = open_store(), open_store()
    mine.append(digests_of(1), rows_of(1))
    theirs.append(digests_of(2), rows_of(2))
    assert mine.find(digests_of(1, 2)).tolist() == [0, 1]
    assert theirs.find(digests_of(1, 2)).tolist() == [1, 0]
    assert torch.equal(theirs.gather(np.array([1, 0])), rows_of(1, 2))


def test_rows_that_do_not_fit_are_refused(open_store):
    store = open_store()
    for digests, rows in (
        (digests_of(1), rows_of(1, dtype=torch.float16)),
        (digests_of(1), rows_of(1, 2)),
        (digests_of(1), rows_of(1)[:, :1]),
        (digests_of(1)[:, :8], rows_of(1)),
    ):
        with pytest.raises(ValueError, match=r"for \(2,\) of torch.float32"):
            store.append(digests, rows)


# damage


def damage_truncate(path):
    path.write_bytes(path.read_bytes()[:-3])


def damage_empty(path):
    path.write_bytes(b"")


def damage_foreign(path):
    save_file({"weight": torch.zeros(3)}, path)


def damage_dtype(path):
    held = load_file(path)
    save_file({**held, "rows": held["rows"].half()}, path)


def damage_digests(path):
    held = load_file(path)
    save_file({**held, "digests": held["digests"].float()}, path)


def damage_flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def damage_flip_digest(path):
    content = bytearray(path.read_bytes())
    at = content.index(bytes([1, *[0] * 15]))
    content[at + 7] ^= 128
    path.write_bytes(content)


def damage_checksum(path):
    save_file(load_file(path), path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (damage_truncate, "incomplete"),
        (damage_empty, "header too small"),
        (damage_foreign, "not written by this program"),
        (damage_dtype, r"it holds \(1, 2\) of torch.float16"),
        (damage_digests, r"its digests are \(1, 16\) of torch.float32"),
        (damage_flip, "its content is not what was written"),
        (damage_flip_digest, "its content is not what was written"),
        (damage_checksum, "it has no checksum"),
    ],
)
def test_a_damaged_shard_is_removed_and_told_and_the_rest_stays(open_store, damage, reason):
    store = open_store()
    store.append(digests_of(1), rows_of(1))
    (first,) = shards(store)
    store.append(digests_of(2), rows_of(2))
    damage(first)
    again = open_store()
    assert again.find(digests_of(1, 2)).tolist() == [-1, 0]
    assert torch.equal(again.gather(np.array([0])), rows_of(2))
    assert not first.exists()
    assert len(again.problems) == 1
    assert re.search(rf"was removed, its rows are made anew: .*{reason}", again.problems[0])
    again.append(digests_of(1), rows_of(1))
    last = open_store()
    assert torch.equal(last.gather(last.find(digests_of(1, 2))), rows_of(1, 2))
    assert last.problems == []


def test_damage_that_another_process_wrote_meanwhile_is_found_before_an_id_is_given(open_store):
    mine, theirs = open_store(), open_store()
    theirs.append(digests_of(1), rows_of(1))
    damage_flip(*shards(theirs))
    assert mine.find(digests_of(1)).tolist() == [-1]
    assert "its content is not what was written" in mine.problems[0]


def test_a_shard_that_was_written_to_while_in_use_is_an_error_and_made_anew_the_next_time(open_store):
    store = open_store()
    store.append(digests_of(1), rows_of(1))
    damage_flip(*shards(store))
    with pytest.raises(
        DataError, match=r"changed while it was in use \(it was written to\); run again to make it anew"
    ):
        store.gather(np.array([0]))
    assert open_store().find(digests_of(1)).tolist() == [-1]


@pytest.fixture
def reads(monkeypatch):
    """Names of the shards that are read whole."""
    names, check = [], module.check_shard

    def count(path, shape, dtype):
        names.append(path.name)
        check(path, shape, dtype)

    monkeypatch.setattr(module, "check_shard", count)
    return names


def test_a_shard_is_not_read_again_until_it_changes_or_a_month_has_gone(open_store, reads, monkeypatch):
    store = open_store()
    store.append(digests_of(1), rows_of(1))
    (shard,) = shards(store)
    open_store()
    open_store()
    assert reads == [shard.name]  # by the next one alone: whoever wrote it did not wait for the disk
    os.utime(shard, (1e9, 1e9))
    open_store()
    open_store()
    assert reads == [shard.name] * 2  # changed once, read once
    later = time.time() + 31 * 24 * 3600
    monkeypatch.setattr("zoo.data.store_folder.time.time", lambda: later)
    open_store()
    open_store()
    assert reads == [shard.name] * 3


def test_a_shard_that_has_just_changed_is_not_remembered_because_it_may_change_again(open_store, reads):
    store = open_store()
    store.append(digests_of(1), rows_of(1))
    (shard,) = shards(store)
    os.utime(shard)
    open_store()
    open_store()
    assert reads == [shard.name] * 2


@pytest.mark.parametrize("lines", [b"\xff\x00 1 2", b"a\n\nb 1 2 3 4 5\n", b"half a li"])
def test_a_damaged_memory_of_what_was_checked_costs_a_check_and_nothing_else(open_store, reads, lines):
    store = open_store()
    store.append(digests_of(1), rows_of(1))
    (store.folder / "checked.txt").write_bytes(lines)
    assert torch.equal(open_store().gather(np.array([0])), rows_of(1))
    assert len(reads) == 1


def test_a_memory_that_cannot_be_written_costs_a_check_and_nothing_else(open_store, reads):
    store = open_store()
    (store.folder / "checked.txt").mkdir()
    store.append(digests_of(1), rows_of(1))
    assert torch.equal(open_store().gather(np.array([0])), rows_of(1))
    assert len(reads) == 1


def test_a_shard_that_cannot_be_opened_is_told_and_kept(open_store):
    store = open_store()
    (store.folder / "odd.safetensors").symlink_to("nowhere")
    again = open_store()
    assert len(again) == 0
    assert "odd.safetensors cannot be read, its rows are made anew" in again.problems[0]
    assert (store.folder / "odd.safetensors").is_symlink()


def test_a_shard_that_goes_while_in_use_is_an_error_that_says_so(open_store):
    store = open_store()
    store.append(digests_of(1), rows_of(1))
    shards(store)[0].unlink()
    with pytest.raises(DataError, match=r"changed while it was in use .*; run again to make it anew"):
        store.gather(np.array([0]))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SafetensorError("I/O error: No space left on device (os error 28)"), "No space left on device"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_a_full_disk_is_a_clear_error_and_leaves_nothing_behind(open_store, monkeypatch, error, reason):
    store = open_store()

    def fail(_tensors, path, metadata):
        path.write_bytes(b"half a shard")
        raise error

    monkeypatch.setattr("zoo.data.shards.save_file", fail)
    with pytest.raises(DataError, match=rf"the cache .* cannot be written: .*{reason}.*\. Make room there, or choose"):
        store.append(digests_of(1), rows_of(1))
    assert sorted(path.name for path in store.folder.iterdir()) == ["in-use.lock", "key.json"]
    assert open_store().find(digests_of(1)).tolist() == [-1]


def test_a_stop_while_writing_leaves_nothing_behind(open_store, monkeypatch):
    store = open_store()

    def stop(_tensors, path, metadata):
        path.write_bytes(b"half a shard")
        raise KeyboardInterrupt

    monkeypatch.setattr("zoo.data.shards.save_file", stop)
    with pytest.raises(KeyboardInterrupt):
        store.append(digests_of(1), rows_of(1))
    assert sorted(path.name for path in store.folder.iterdir()) == ["in-use.lock", "key.json"]


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=r"the cache .*file.* cannot be written: Not a directory\. Make room"):
        RowStore(tmp_path / "file", {}, (2,), torch.uint8)


def test_a_folder_that_goes_is_a_clear_error(open_store):
    store = open_store()
    shutil.rmtree(store.folder)
    with pytest.raises(DataError, match=r"the cache .* cannot be read: No such file or directory"):
        store.find(digests_of(1))


def test_what_a_killed_process_left_is_cleared_after_a_day(open_store):
    store = open_store()
    old, new = store.folder / ".old.tmp", store.folder / ".new.tmp"
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (time.time() - 2 * 24 * 3600,) * 2)
    open_store()
    assert (old.exists(), new.exists()) == (False, True)


def test_processes_that_append_at_once_lose_nothing(tmp_path):
    code = """
import sys, numpy as np, torch
from pathlib import Path
from zoo.data.store import RowStore
store = RowStore(Path(sys.argv[1]), {}, (2,), torch.float32)
for k in range(20):
    number = int(sys.argv[2]) * 20 + k
    digest = np.zeros((1, 16), dtype=np.uint8); digest[0, 0] = number
    store.append(digest, torch.full((1, 2), float(number)))
"""
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(n)]) for n in range(2)]
    assert [process.wait() for process in running] == [0, 0]
    store = RowStore(tmp_path, {}, (2,), torch.float32)
    ids = store.find(digests_of(*range(40)))
    assert (ids >= 0).all()
    assert store.gather(ids)[:, 0].tolist() == list(range(40))
    assert store.problems == []
