"""`zoo cache` shows and clears, says what it did, and fails with one clear message."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from zoo.cli import main
from zoo.data.store import RowStore
from zoo.disk import cache_folder

PREFIX = {"backbone": "timm/vit_tiny", "kind": "cls", "size": [224, 224], "precision": "bf16"}


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ZOO_CACHE_LIMIT", "5GB")
    for name in ("timm/vit_tiny", "lite/small"):
        store = RowStore(cache_folder() / "features", {**PREFIX, "backbone": name}, (2,), torch.float32)
        store.append(np.zeros((1, 16), dtype=np.uint8), torch.zeros(1, 2))
    return cache_folder()


def test_the_list_ends_with_total_limit_and_place(cache, capsys):
    assert main(["cache"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("KIND ")
    assert len(lines) == 4
    assert lines[-1].endswith(f" of images and features, limit 5.00 GB (ZOO_CACHE_LIMIT), in {cache}")


def test_the_list_as_json_parses(cache, capsys):
    assert main(["cache", "--json", "--backbone", "lite/*"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["folder"], found["limit_bytes"]) == (str(cache), 5 * 10**9)
    assert [entry["backbone"] for entry in found["entries"]] == ["lite/small"]
    assert found["total_bytes"] > found["entries"][0]["bytes"]


def test_clearing_says_what_is_gone_and_a_dry_run_what_would_be(cache, capsys):
    assert main(["cache", "--clear", "features", "--backbone", "timm/*", "--dry-run"]) == 0
    planned = capsys.readouterr().out
    assert planned.endswith(f") would be removed from {cache}\n")
    assert len(list((cache / "features").iterdir())) == 2
    assert main(["cache", "--clear", "features", "--backbone", "timm/*"]) == 0
    assert capsys.readouterr().out == planned.replace("would be removed", "removed")
    assert len(list((cache / "features").iterdir())) == 1
    assert main(["cache", "--clear"]) == 0
    assert "lite/small" in capsys.readouterr().out
    assert list((cache / "features").iterdir()) == []


def test_clearing_as_json_parses(cache, capsys):
    store = RowStore(cache / "features", PREFIX, (2,), torch.float32)
    assert main(["cache", "--clear", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [entry["backbone"] for entry in found["removed"]] == ["lite/small"]
    assert found["freed_bytes"] > 0
    assert "in use" in found["left"][0]
    assert len(store) == 1


def test_what_stays_is_told_to_people_too(cache, capsys):
    store = RowStore(cache / "features", PREFIX, (2,), torch.float32)
    assert main(["cache", "--clear", "--backbone", "timm/*"]) == 0
    assert capsys.readouterr().out.startswith("note: features timm/vit_tiny, cls, 224x224, bf16 is in use")
    assert len(store) == 1


def test_an_absent_cache_is_told_and_no_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "nowhere"))
    monkeypatch.setenv("ZOO_CACHE_LIMIT", "none")
    assert main(["cache"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"nothing is cached yet: there is no folder {tmp_path}/nowhere\n")
    assert "no limit" in out
    assert main(["cache", "--clear"]) == 0
    assert capsys.readouterr().out == f"0 (0 B) removed from {tmp_path}/nowhere\n"
    assert not (tmp_path / "nowhere").exists()


def test_a_filter_that_leaves_nothing_says_so(cache, capsys):
    assert main(["cache", "--older-than", "30d"]) == 0
    assert capsys.readouterr().out.startswith("nothing in the cache fits\n")


def test_a_cache_that_cannot_be_read_is_one_message(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file"))
    assert main(["cache"]) == 2
    assert capsys.readouterr().err.startswith(f"zoo cache: the cache folder {tmp_path}/file cannot be read: Not a dir")


def test_a_dry_run_of_nothing_is_refused(cache, capsys):
    assert main(["cache", "--dry-run"]) == 2
    assert capsys.readouterr().err == "zoo cache: --dry-run says what --clear would remove; give --clear too\n"


def test_a_kind_that_there_is_not_is_refused(cache, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["cache", "--clear", "pictures"])
    assert stopped.value.code == 2
    assert "pictures" in capsys.readouterr().err
