"""Plugins that are really installed, each in a folder on sys.path, and a registry that forgets them afterwards."""

import importlib
import sys
from textwrap import dedent

import pytest

from zoo.registry.catalogue import catalogue
from zoo.registry.plugins import load_plugins


def _forget() -> None:
    load_plugins.cache_clear()
    catalogue.cache_clear()
    importlib.invalidate_caches()


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed distributions that comes before all others."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delenv("ZOO_DISABLE", raising=False)
    before = set(sys.modules)
    _forget()
    yield folder
    for module in set(sys.modules) - before:
        if getattr(sys.modules[module], "__file__", None) and sys.modules[module].__file__.startswith(str(folder)):
            del sys.modules[module]
    _forget()


@pytest.fixture
def install(site):
    """Installs a distribution with one module and the entry point `name`; gives the module's path."""

    def write(name, code, *, distribution=None, version="1.0", module=None, value=None, metadata=True):
        module = module or f"{name}_plugin"
        path = site / f"{module}.py"
        header = "from zoo.hooks import hookimpl\nfrom zoo.specs import BackboneSource, HeadRecord\n"
        path.write_text(header + dedent(code))
        folder = site / f"{(distribution or name).replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        if metadata:
            (folder / "METADATA").write_text(
                f"Metadata-Version: 2.1\nName: {distribution or name}\nVersion: {version}\n"
            )
        (folder / "entry_points.txt").write_text(f"[zoo]\n{name} = {value or module}\n")
        _forget()
        return path

    return write


@pytest.fixture
def head():
    """The code of a plugin that yields one head of a name."""

    def code(name):
        return f"""
        @hookimpl
        def zoo_heads():
            yield HeadRecord(name={name!r}, build=lambda width, outputs, parameters: None)
        """

    return code
