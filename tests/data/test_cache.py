"""The cache stays below its limit, loses what was not used for longest, and never what is in use or not ours."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest
import torch

from zoo.data import cache as module
from zoo.data.cache import cache_limit, find_entries, format_size, make_room, trim
from zoo.data.store import RowStore
from zoo.errors import ZooError


@pytest.fixture
def add(tmp_path):
    """Adds a store of about 8 kB, last used at a given second since 1970; gives its folder."""

    def add(name, used, kind="features"):
        store = RowStore(tmp_path / kind, {"backbone": name}, (20,), torch.float32)
        store.append(np.arange(1600, dtype=np.uint8).reshape(100, 16), torch.zeros(100, 20))
        for path in store.folder.iterdir():
            os.utime(path, (used, used))
        return store.folder

    return add


def left(cache):
    return {entry.description["backbone"] for entry in find_entries(cache)}


def test_the_least_recently_used_stores_go_first_and_no_more_than_needed(add, tmp_path):
    for name, used in (("b", 2e8), ("a", 1e8), ("d", 4e8), ("c", 3e8)):
        add(name, used, "images" if name == "a" else "features")
    done = trim(tmp_path, 25_000)
    assert left(tmp_path) == {"c", "d"}
    assert len(done.removed) == 2
    assert done.removed[0].parent.name == "images"
    assert done.left == sum(entry.nbytes for entry in find_entries(tmp_path)) <= 25_000
    assert done.freed > 16_000
    assert trim(tmp_path, 25_000).removed == ()


def test_opening_a_store_is_using_it(add, tmp_path):
    add("old", 1e8)
    add("new", 2e8)
    RowStore(tmp_path / "features", {"backbone": "old"}, (20,), torch.float32)
    trim(tmp_path, 12_000)
    assert left(tmp_path) == {"old"}


def test_what_is_open_and_what_is_kept_stays_whatever_the_limit(add, tmp_path):
    add("open", 1e8)
    kept = add("kept", 2e8)
    add("other", 3e8)
    store = RowStore(tmp_path / "features", {"backbone": "open"}, (20,), torch.float32)
    done = trim(tmp_path, 0, keep=[kept])
    assert left(tmp_path) == {"open", "kept"}
    assert done.left > 16_000
    assert store.gather(np.arange(100)).shape == (100, 20)


def test_a_store_that_cannot_be_removed_is_passed_over(add, tmp_path, monkeypatch):
    stuck, _ = add("stuck", 1e8), add("other", 2e8)
    remove = module.remove_store

    def refuse(folder):
        if folder == stuck:
            raise OSError(errno.EPERM, "Operation not permitted")
        return remove(folder)

    monkeypatch.setattr(module, "remove_store", refuse)
    assert len(trim(tmp_path, 0).removed) == 1
    assert left(tmp_path) == {"stuck"}


def test_files_and_folders_that_are_not_ours_stay_and_are_not_listed(tmp_path):
    strangers = [
        "thesis.tex",
        "images",
        "speeds/notes.txt",
        "lite/readme.md",
        "features/thesis/key.json",
        "tables/a.txt",
    ]
    for name in strangers:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    (tmp_path / "catalogue.json").symlink_to("thesis.tex")
    assert find_entries(tmp_path) == []
    assert trim(tmp_path, 0).removed == ()
    assert all((tmp_path / name).read_text() == "mine" for name in strangers)


def test_a_folder_that_is_a_link_is_not_followed(add, tmp_path):
    add("a", 1e8)
    (tmp_path / "speeds.real").mkdir()
    (tmp_path / "speeds.real" / f"{'0' * 32}.json").write_text("{}")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "features").symlink_to(tmp_path / "features")
    (tmp_path / "elsewhere" / "speeds").symlink_to(tmp_path / "speeds.real")
    assert find_entries(tmp_path / "elsewhere") == []


def test_other_files_of_ours_are_listed_by_kind(tmp_path):
    names = {
        "catalogue": ["catalogue.json"],
        "checks": ["checks.jsonl"],
        "speeds": [f"speeds/{'0' * 32}.json", f"speeds/{'1' * 32}.json"],
        "tables": ["tables/backbone-zoo-timm.json"],
        "weights": [f"lite/efficientnet_lite0-{'0' * 16}.safetensors"],
    }
    for name in (name for group in names.values() for name in group):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("12")
    found = {entry.kind: entry for entry in find_entries(tmp_path)}
    assert {kind: entry.nbytes for kind, entry in found.items()} == {k: 2 * len(v) for k, v in names.items()}
    assert {kind: [str(p.relative_to(tmp_path)) for p in entry.paths] for kind, entry in found.items()} == names


@pytest.mark.parametrize("key", ["", "[]", "{}", '{"description": 3}', "\xff"])
def test_a_damaged_key_hides_no_store(add, tmp_path, key):
    folder = add("a", 1e8)
    (folder / "key.json").write_text(key, encoding="latin-1")
    (entry,) = find_entries(tmp_path)
    assert (entry.kind, entry.rows, entry.description) == ("features", 100, {})


def test_an_absent_cache_holds_nothing(tmp_path):
    assert find_entries(tmp_path / "nowhere") == []
    assert make_room(tmp_path / "nowhere") == ()


def test_a_cache_that_cannot_be_read_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(
        ZooError, match=r"the cache folder .*file cannot be read: Not a directory; .* ZOO_CACHE names it"
    ):
        find_entries(tmp_path / "file")


# the limit


@pytest.mark.parametrize(
    ("text", "limit"),
    [("50GB", 50 * 10**9), ("200mb", 2 * 10**8), (" 1.5 TB ", 15 * 10**11), ("2GiB", 2**31), ("0B", 0), ("none", None)],
)
def test_the_limit_is_what_the_environment_says(monkeypatch, tmp_path, text, limit):
    monkeypatch.setenv("ZOO_CACHE_LIMIT", text)
    assert cache_limit(tmp_path) == limit


@pytest.mark.parametrize("text", ["50", "GB", "-5GB", "5 bananas", "nan", "1e3GB", "all"])
def test_a_limit_that_is_no_size_is_a_clear_error(monkeypatch, tmp_path, text):
    monkeypatch.setenv("ZOO_CACHE_LIMIT", text)
    with pytest.raises(
        ZooError, match=rf"ZOO_CACHE_LIMIT is '{text}', which is no size; say 50GB, 200MB, 1.5TB or none"
    ):
        make_room(tmp_path)


@pytest.mark.parametrize(("disk", "limit"), [(10**12, 50 * 10**9), (10**11, 2 * 10**10)])
def test_by_default_it_is_50_gb_or_a_fifth_of_the_disk(monkeypatch, tmp_path, disk, limit):
    monkeypatch.delenv("ZOO_CACHE_LIMIT", raising=False)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda place: type("Usage", (), {"total": disk * place.is_dir()}))
    assert cache_limit(tmp_path / "not" / "yet") == limit


def test_room_is_made_for_what_is_about_to_be_written_and_told(add, tmp_path, monkeypatch):
    add("old", 1e8)
    add("new", 2e8)
    monkeypatch.setenv("ZOO_CACHE_LIMIT", "25KB")
    assert make_room(tmp_path) == ()
    (said,) = make_room(tmp_path, needed=10_000)
    assert said.startswith("the cache would have passed its limit of 25.0 KB: 1 least recently used store (9.")
    assert left(tmp_path) == {"new"}


def test_where_the_limit_cannot_be_kept_it_is_told(add, tmp_path, monkeypatch):
    add("old", 1e8)
    add("own", 2e8)
    store = RowStore(tmp_path / "features", {"backbone": "own"}, (20,), torch.float32)
    monkeypatch.setenv("ZOO_CACHE_LIMIT", "1KB")
    first, second = make_room(tmp_path, needed=5000)
    assert "1 least recently used store" in first
    assert "above its limit of 1.00 KB: what is in use stays" in second
    assert left(tmp_path) == {"own"}
    assert len(store) == 100


def test_without_a_limit_nothing_goes(add, tmp_path, monkeypatch):
    add("a", 1e8)
    monkeypatch.setenv("ZOO_CACHE_LIMIT", "none")
    assert make_room(tmp_path, needed=10**15) == ()
    assert left(tmp_path) == {"a"}


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1234, "1.23 KB"),
        (12_345, "12.3 KB"),
        (123_456_789, "123 MB"),
        (2 * 10**12, "2.00 TB"),
    ],
)
def test_sizes_are_said_in_three_digits(nbytes, text):
    assert format_size(nbytes) == text
