"""A store in use is never removed, however its user ends; what is not ours is never touched."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from zoo.data import store_folder
from zoo.data.store import RowStore
from zoo.data.store_folder import (
    CheckedShards,
    InUseError,
    count_rows,
    find_stores,
    hold,
    is_used,
    remove_store,
    store_size,
)

USER = """
import sys, time
from pathlib import Path
from zoo.data.store_folder import hold
handle = hold(Path(sys.argv[1]))
print("open", flush=True)
time.sleep(60)
"""


def make_store(folder, rows=3, description=None):
    """A store of `rows` rows on disk that nobody has open; gives its folder."""
    store = RowStore(folder, description or {}, (2,), torch.float32)
    digests = np.zeros((rows, 16), dtype=np.uint8)
    digests[:, 0] = range(rows)
    store.append(digests, torch.zeros(rows, 2))
    return store.folder


def test_a_store_that_is_open_is_used_and_stays_until_it_is_let_go_of(tmp_path):
    store = RowStore(tmp_path, {}, (2,), torch.float32)
    folder = store.folder
    assert is_used(folder)
    with pytest.raises(InUseError, match=folder.name):
        remove_store(folder)
    assert (folder / "key.json").exists()
    del store
    gc.collect()
    assert not is_used(folder)
    assert remove_store(folder) > 0
    assert not folder.exists()


def test_a_store_that_another_process_has_open_stays_until_that_is_killed(tmp_path):
    folder = make_store(tmp_path)
    with subprocess.Popen([sys.executable, "-c", USER, str(folder)], stdout=subprocess.PIPE, text=True) as user:
        assert user.stdout.readline() == "open\n"
        assert is_used(folder)
        with pytest.raises(InUseError):
            remove_store(folder)
        user.kill()
        user.wait()
    assert not is_used(folder)
    assert remove_store(folder) > 0


def test_opening_waits_for_a_removal_and_then_makes_the_store_anew(tmp_path):
    folder = make_store(tmp_path)
    handle = os.open(folder / "in-use.lock", os.O_RDWR)
    store_folder.fcntl.flock(handle, store_folder.fcntl.LOCK_EX)
    opened = []
    thread = threading.Thread(target=lambda: opened.append(RowStore(tmp_path, {}, (2,), torch.float32)))
    thread.start()
    time.sleep(0.1)
    assert opened == []
    shutil.rmtree(folder)
    os.close(handle)
    thread.join(timeout=30)
    assert len(opened[0]) == 0
    assert is_used(folder)


def test_a_removal_that_comes_second_removes_nothing(tmp_path, monkeypatch):
    folder = make_store(tmp_path)
    monkeypatch.setattr(store_folder, "_is_at", lambda *_: False)
    assert remove_store(folder) == 0
    assert len(list(folder.glob("*.safetensors"))) == 1
    assert remove_store(tmp_path / "nowhere") == 0
    assert not is_used(tmp_path / "nowhere")


def test_a_folder_that_always_goes_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(store_folder, "_is_at", lambda *_: False)
    assert hold(tmp_path / "store") is None


def test_a_strangers_file_in_a_store_stays_where_it_is(tmp_path):
    folder = make_store(tmp_path)
    (folder / "notes.txt").write_text("mine")
    remove_store(folder)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    assert find_stores(tmp_path) == []


def test_only_folders_that_hold_files_of_ours_are_stores(tmp_path):
    ours = make_store(tmp_path)
    for name in ("thesis", "0" * 32):
        (tmp_path / name).mkdir()
        (tmp_path / name / "chapter.tex").write_text("x")
    (tmp_path / ("f" * 32)).symlink_to(ours)
    (tmp_path / ("a" * 32)).write_text("a file")
    assert find_stores(tmp_path) == [ours]


def test_size_rows_and_last_use_are_read_without_opening_a_store(tmp_path):
    folder = make_store(tmp_path, rows=5)
    size = store_size(folder)
    assert size.nbytes == sum(path.stat().st_size for path in folder.iterdir())
    assert time.time() - size.used < 60
    for path in folder.iterdir():
        os.utime(path, (1e9, 1e9))
    assert store_size(folder).used == 1e9
    assert count_rows(folder) == 5
    RowStore(tmp_path, {}, (2,), torch.float32)
    assert time.time() - store_size(folder).used < 60


@pytest.mark.parametrize("content", [b"", b"short", (20).to_bytes(8, "little") + b"{}", b"\xff" * 64])
def test_a_torn_shard_counts_no_rows(tmp_path, content):
    folder = make_store(tmp_path, rows=5)
    (folder / f"{'0' * 32}.safetensors").write_bytes(content)
    assert count_rows(folder) == 5


def test_a_folder_that_may_only_be_read_is_used_without_a_lock(tmp_path, monkeypatch):
    folder = make_store(tmp_path)

    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(store_folder.os, "open", refuse)
    assert hold(folder) is None
    assert len(RowStore(tmp_path, {}, (2,), torch.float32)) == 3


def test_without_locks_of_the_file_system_a_store_works_and_is_never_removed(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(store_folder.fcntl, "flock", refuse)
    folder = make_store(tmp_path)
    with pytest.raises(OSError, match="No locks available"):
        remove_store(folder)
    with pytest.raises(OSError, match="No locks available"):
        is_used(folder)
    assert count_rows(folder) == 3


def test_where_the_system_has_no_such_locks_a_store_can_be_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(store_folder, "fcntl", None)
    folder = make_store(tmp_path)
    assert not is_used(folder)
    assert remove_store(folder) > 0
    assert not folder.exists()


def test_processes_that_check_at_once_all_remember(tmp_path):
    shard = tmp_path / "a"
    shard.write_bytes(b"x")
    os.utime(shard, (1e9, 1e9))
    mine, theirs = CheckedShards(tmp_path), CheckedShards(tmp_path)
    mine.add("a", shard.stat())
    theirs.add("b", shard.stat())
    third = CheckedShards(tmp_path)
    third.read()
    assert third.holds("a", shard.stat())
    assert third.holds("b", shard.stat())
    assert not third.holds("c", shard.stat())
