"""The cache can be listed and cleared in parts; what is in use and what is not ours stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from filelock import FileLock

from zoo.data.store import RowStore
from zoo.disk import cache_folder
from zoo.errors import ZooError
from zoo.jobs import cache as module
from zoo.jobs.cache import clear_cache, entry_json, list_cache, table_lines, title

PREFIX = {"backbone": "timm/vit_tiny", "kind": "cls", "size": [224, 224], "precision": "bf16"}
PIXELS = {"kind": "pixels", "size": [32, 48], "interpolation": "bicubic", "crop": "center", "resize": 40}


def add_store(kind, description, days=0.0):
    store = RowStore(cache_folder() / kind, description, (2,), torch.float32)
    store.append(np.arange(48, dtype=np.uint8).reshape(3, 16), torch.zeros(3, 2))
    age(store.folder, days)
    return store


def age(folder, days):
    for path in folder.iterdir():
        os.utime(path, (time.time() - days * 86400 - 60,) * 2)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """A cache with images, features of two backbones, and one file of every other kind."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    add_store("images", PIXELS, 1)
    add_store("features", PREFIX, 2)
    add_store("features", {**PREFIX, "backbone": "lite/small"}, 40)
    names = ["catalogue.json", "checks.jsonl", f"speeds/{'0' * 32}.json", "tables/a-b.json", "thesis.tex"]
    for name in [*names, f"lite/small-{'0' * 16}.safetensors"]:
        (cache_folder() / name).parent.mkdir(exist_ok=True)
        (cache_folder() / name).write_text("{}")
    return cache_folder()


def kinds(entries):
    return sorted(entry.kind for entry in entries)


ALL = sorted(["images", "features", "features", "catalogue", "checks", "speeds", "tables", "weights"])


def test_everything_is_listed_most_recently_used_first(cache):
    found = list_cache()
    assert kinds(found.entries) == ALL
    assert [title(entry) for entry in found.entries if entry.kind in ("images", "features")] == [
        "32x48, bicubic, center crop of 40",
        "timm/vit_tiny, cls, 224x224, bf16",
        "lite/small, cls, 224x224, bf16",
    ]
    assert found.folder == cache
    assert found.total == sum(entry.nbytes for entry in found.entries if entry.rows is not None)
    assert found.limit > 0


def test_the_table_has_rows_sizes_and_last_use():
    lines = table_lines(list_cache(backbone="vit").entries)
    assert lines[0].split() == ["KIND", "WHAT", "ROWS", "SIZE", "LAST", "USED"]
    assert lines[1].startswith("features  timm/vit_tiny, cls, 224x224, bf16     3  ")
    assert lines[1].endswith("2 days ago")


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"boundary": ["blocks.10:1", "norm:1"]}, "timm/vit_tiny, before blocks.10:1, norm:1, 224x224, bf16"),
        ({"augment": "flip", "view": 3}, "timm/vit_tiny, cls, 224x224, bf16, augment flip, view 3"),
        ({"augment": {"flip": 0.5}, "view": None}, 'timm/vit_tiny, cls, 224x224, bf16, augment {"flip": 0.5}'),
    ],
)
def test_boundary_and_views_are_shown_where_there_are_any(more, text):
    add_store("features", {**PREFIX, **more})
    assert title(list_cache().entries[0]) != ""
    assert text in [title(entry) for entry in list_cache().entries]


def test_damaged_and_nameless_stores_are_shown_as_what_they_are():
    (add_store("images", {"size": [1, 1]}).folder / "key.json").write_text("{")
    add_store("features", {"kind": "cls", "size": [2, 2], "precision": "fp32"})
    titles = " | ".join(title(entry) for entry in list_cache().entries)
    assert "key.json is damaged" in titles
    assert "unnamed backbone, cls, 2x2, fp32" in titles


def test_an_entry_as_json_has_units_and_times():
    (entry,) = list_cache(backbone="timm/*").entries
    found = entry_json(entry)
    assert (found["kind"], found["backbone"], found["rows"], found["bytes"]) == (
        "features",
        "timm/vit_tiny",
        3,
        entry.nbytes,
    )
    assert found["last_used"].endswith("+00:00")
    assert found["description"] == PREFIX


def test_clearing_removes_everything_of_ours_and_nothing_else(cache):
    done = clear_cache()
    assert kinds(done.removed) == ALL
    assert done.left == ()
    assert done.freed > 0
    assert list_cache().entries == ()
    assert {path.name for path in cache.rglob("*") if path.is_file()} <= {"thesis.tex", "checks.jsonl.lock"}
    assert (cache / "thesis.tex").read_text() == "{}"


@pytest.mark.parametrize(
    ("kinds_", "options", "gone"),
    [
        (["images"], {}, ["images"]),
        (["images", "speeds"], {}, ["images", "speeds"]),
        ([], {"backbone": "timm/*"}, ["features"]),
        ([], {"backbone": "small"}, ["features", "weights"]),
        (["features"], {"backbone": "*"}, ["features", "features"]),
        ([], {"older_than": "30d"}, ["features"]),
        ([], {"older_than": "24h"}, ["features", "features", "images"]),
        ([], {"older_than": "5w", "backbone": "timm/*"}, []),
    ],
)
def test_clearing_a_part_leaves_the_rest(kinds_, options, gone):
    planned = clear_cache(*kinds_, **options, dry_run=True)
    assert kinds(list_cache().entries) == ALL
    done = clear_cache(*kinds_, **options)
    assert kinds(done.removed) == kinds(planned.removed) == gone
    assert done.freed == planned.freed
    assert len(list_cache().entries) == len(ALL) - len(gone)


@pytest.mark.parametrize("dry_run", [True, False])
def test_what_is_open_stays_and_is_told(dry_run):
    store = RowStore(cache_folder() / "features", PREFIX, (2,), torch.float32)
    done = clear_cache("features", dry_run=dry_run)
    assert done.left == ("features timm/vit_tiny, cls, 224x224, bf16 is in use by a running process and stays",)
    assert kinds(done.removed) == ["features"]
    assert store.gather(np.arange(3)).shape == (3, 2)


def test_outcomes_that_a_check_adds_to_stay(cache):
    with FileLock(f"{cache / 'checks.jsonl'}.lock"):
        assert "checks outcomes of zoo check is in use" in clear_cache("checks").left[0]
    assert (cache / "checks.jsonl").exists()


def test_what_cannot_be_removed_is_told(monkeypatch):
    def refuse(_folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module, "remove_store", refuse)
    done = clear_cache("images")
    assert done.left == ("images 32x48, bicubic, center crop of 40 cannot be removed: Permission denied",)
    assert (done.removed, done.freed) == ((), 0)


def test_a_kind_that_there_is_not_is_refused():
    with pytest.raises(ZooError, match=r"the cache has no kind 'pictures'; there are images, features, speeds"):
        clear_cache("pictures")


@pytest.mark.parametrize("text", ["30", "d", "30days", "-1d", "1m"])
def test_a_time_that_is_none_is_refused(text):
    with pytest.raises(ZooError, match=rf"--older-than '{text}' is no time; say hours, days or weeks"):
        list_cache(older_than=text)


def test_listing_imports_no_torch():
    code = "import sys; from zoo.jobs.cache import list_cache; list_cache(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout == "False\n"
