"""Runs single checks, and borrows the registry's fixtures that really install a plugin."""

import importlib.util
from pathlib import Path

import pytest

from zoo.testing.check import perform

_spec = importlib.util.spec_from_file_location("registry_fixtures", Path(__file__).parents[1] / "registry/conftest.py")
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)
site, install, head = _fixtures.site, _fixtures.install, _fixtures.head


@pytest.fixture
def result():
    """How the check of a name ends."""

    def run(checks, name):
        (check,) = [check for check in checks if check.name == name]
        return perform(check)

    return run


@pytest.fixture
def caught(result):
    """Asserts that the check of a name fails with a message."""

    def run(checks, name, message):
        found = result(checks, name)
        assert found.outcome == "failed", found
        assert message in found.message

    return run


@pytest.fixture
def ends():
    """The outcomes of all checks, by name, where they are not `passed`."""

    def run(checks):
        found = [perform(check) for check in checks]
        return {one.check: f"{one.outcome}: {one.message}" for one in found if one.outcome != "passed"}

    return run
