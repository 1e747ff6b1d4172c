"""Borrows the registry's fixtures that really install a plugin."""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location("registry_fixtures", Path(__file__).parents[1] / "registry/conftest.py")
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)
site, install = _fixtures.site, _fixtures.install
