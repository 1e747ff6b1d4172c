"""Measurements of this machine, and what is remembered of them."""

import ctypes
import os
import platform
import time

import pytest
import torch

from zoo import probe


def test_what_was_measured_is_read_again_and_measured_anew_after_a_week_or_damage(tmp_path):
    path = tmp_path / "speeds" / "x.json"
    values = iter([[1.0], [2.0], [3.0]])

    def measure():
        return next(values)

    assert probe.remembered(path, measure) == ([1.0], False)
    assert probe.remembered(path, measure) == ([1.0], True)
    old = time.time() - probe.STALE_SECONDS - 1
    os.utime(path, (old, old))
    assert probe.remembered(path, measure) == ([2.0], False)
    path.write_text("{", encoding="utf-8")
    assert probe.remembered(path, measure) == ([3.0], False)


def test_what_cannot_be_kept_is_measured_all_the_same(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert probe.remembered(tmp_path / "file" / "x.json", lambda: 5) == (5, False)


def test_the_speed_of_the_disk_leaves_no_file_but_what_is_remembered(tmp_path):
    write, read = probe.disk_speed(tmp_path)
    assert write > 0
    assert read > 0
    assert [path.parent.name for path in tmp_path.rglob("*") if path.is_file()] == ["speeds"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_glibc_is_told_to_keep_what_is_freed(monkeypatch):
    asked = []

    class Library:
        @staticmethod
        def mallopt(option, value):
            asked.append((option, value))
            return 0 if option == -3 else 1  # a release that bounds the threshold

    probe.reuse_memory.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library)
    assert probe.reuse_memory()
    assert asked == [(-3, 2**30), (-4, 0), (-1, 2**31 - 1)]
    probe.reuse_memory.cache_clear()


def test_another_c_library_is_left_as_it_is(monkeypatch):
    probe.reuse_memory.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert not probe.reuse_memory()
    probe.reuse_memory.cache_clear()


def test_one_hiccup_does_not_decide_a_race(monkeypatch):
    """The faster call stumbles once, and is timed again; a call that is slow twice is not."""
    clock, calls = [0.0], {"fast": iter([1.0, 9.0, 1.0, 1.0]), "slow": iter([3.0] * 9), "slower": iter([5.0] * 9)}
    counts = dict.fromkeys(calls, 0)

    def call(name):
        counts[name] += 1
        clock[0] += next(calls[name])

    monkeypatch.setattr(probe.time, "perf_counter", lambda: clock[0])
    names = list(calls)
    found = probe.race([lambda name=name: call(name) for name in names], probe.pick_device("cpu"))
    assert found == [1.0, 3.0, 5.0]
    assert counts == {"fast": 4, "slow": 3, "slower": 3}


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="these tests run in one process")
def test_each_of_several_test_processes_takes_one_thread():
    """Several threads of each would wait for one another."""
    assert torch.get_num_threads() == 1
