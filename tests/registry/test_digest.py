"""The hash of a package changes with each of its files and with nothing else."""

import os

import pytest

from zoo.registry import digest
from zoo.registry.digest import package_digest


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of two files, and a function that hashes it anew."""
    folder = tmp_path / "acme_nets"
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").write_text("one = 1")
    (folder / "data" / "means.json").write_text("[0.5]")
    monkeypatch.syspath_prepend(tmp_path)

    def fresh(module="acme_nets", **options):
        package_digest.cache_clear()
        return package_digest(module, **options)

    return folder, fresh


def test_every_file_of_code_or_data_counts_and_others_do_not(package):
    folder, fresh = package
    seen = [fresh()]
    (folder / "README.md").write_text("words")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "a.pyc").write_bytes(b"1")
    (folder / ".#lock.py").symlink_to(folder / "gone")
    assert fresh() == seen[0]
    (folder / "__init__.py").write_text("one = 2")
    seen.append(fresh())
    (folder / "data" / "means.json").write_text("[0.4]")
    seen.append(fresh())
    (folder / "data" / "means.json").rename(folder / "means.json")
    seen.append(fresh())
    assert len(set(seen)) == 4
    assert fresh(without=folder / "means.json") not in seen


def test_a_large_file_counts_by_its_size_and_time_and_is_not_read(package, monkeypatch):
    folder, fresh = package
    monkeypatch.setattr(digest, "LARGE", 10)
    large = folder / "weights.safetensors"
    large.write_bytes(b"a" * 11)
    os.utime(large, ns=(10**18, 10**18))
    before = fresh()
    large.write_bytes(b"b" * 11)
    os.utime(large, ns=(10**18, 10**18))
    assert fresh() == before
    os.utime(large, ns=(10**18, 10**18 + 1))
    assert fresh() != before


def test_a_module_of_one_file_counts_and_one_that_is_not_there_is_nothing(package):
    folder, fresh = package
    (folder.parent / "single.py").write_text("one = 1")
    before = fresh("single")
    (folder.parent / "single.py").write_text("one = 3")
    nothing = fresh("acme_gone")
    assert len({before, fresh("single"), nothing}) == 3
    assert nothing == fresh("") == fresh("acme_gone.sub") == fresh("sys")


def test_it_is_computed_once_in_a_process(package):
    folder, fresh = package
    before = fresh()
    (folder / "__init__.py").write_text("one = 2")
    assert package_digest("acme_nets") == before
