"""All checks of what an installed plugin offers, for pytest and for `zoo check`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any

from zoo.registry.plugins import Plugin, find_plugins
from zoo.specs import BackboneSource
from zoo.testing.backbones import backbone_checks
from zoo.testing.check import Check, CheckFailedError, NotApplicable, perform
from zoo.testing.datasets import dataset_checks
from zoo.testing.generators import generator_checks
from zoo.testing.heads import head_checks
from zoo.testing.imputers import imputer_checks
from zoo.testing.plugin import checks_of_one
from zoo.testing.sources import source_checks
from zoo.testing.strategies import strategy_checks

if TYPE_CHECKING:
    import pytest

_CHECKS_OF: dict[str, Any] = {
    "zoo_backbones": source_checks,
    "zoo_heads": head_checks,
    "zoo_imbalance_strategies": strategy_checks,
    "zoo_imputers": imputer_checks,
    "zoo_generators": generator_checks,
    "zoo_datasets": dataset_checks,
}

Excluded = Mapping[str, str]
"""By name of a check, the reason why it is known not to hold."""


def checks_of(plugin: str, *, backbones: str = "*") -> list[Check]:
    """The checks of a plugin and of each thing that it offers.

    Args:
        plugin: name of an entry point, of its distribution, or `distribution:name`.
        backbones: pattern of the models to check, as in `*resnet*` or `acme/tiny`.

    Raises:
        UnknownNameError: nothing of this name is installed; the message suggests close names.
    """
    return [check for check, _ in collected(plugin, backbones=backbones)]


def collected(plugin: str, *, backbones: str = "*") -> list[tuple[Check, Excluded]]:
    """As `checks_of`, each check with what the author excluded for its backbone; `perform` takes both."""
    found: list[tuple[Check, Excluded]] = []
    for one in find_plugins(plugin):
        found += [(check, {}) for check in own_checks(one)]
        for source in one.records.get("zoo_backbones", ()):
            found += _of_backbones(source, backbones)
    return found


def own_checks(plugin: Plugin) -> list[Check]:
    """Every check of one plugin that concerns no single backbone."""
    found = checks_of_one(plugin)
    for hook, checks in _CHECKS_OF.items():
        for record in plugin.records.get(hook, ()):
            found += checks(record)
    return found


def _of_backbones(source: BackboneSource, pattern: str) -> Iterator[tuple[Check, Excluded]]:
    try:
        models = [entry.name for entry in source.entries()]
    except Exception as error:  # a check of the source tells it too, but no backbone must vanish in silence
        said = f"its backbones cannot be listed: {type(error).__name__}: {error}"
        yield _failing(f"source {source.name}", "its-backbones-can-be-listed", said), {}
        return
    for model in models:
        if fnmatchcase(model, pattern) or fnmatchcase(f"{source.name}/{model}", pattern):
            excluded = source.exclusions.get(model, {})
            yield from ((check, excluded) for check in backbone_checks(source, model))


def _failing(subject: str, name: str, message: str) -> Check:
    return Check(subject=subject, name=name, run=partial(_fail, message))


def _fail(message: str) -> None:
    raise CheckFailedError(message)


def parametrize_with_checks(plugin: str, *, backbones: str = "*") -> pytest.MarkDecorator:
    """Decorate a test function with one argument `check`; it runs once for each check of an installed plugin.

    A check that has nothing to look at is skipped with its reason. One that its author excluded is expected to fail,
    and fails where it holds after all. A plugin that is not installed is a check that fails.

    Example::

        @parametrize_with_checks("acme")
        def test_conformance(check):
            check()

    Args:
        plugin: name of an entry point, of its distribution, or `distribution:name`.
        backbones: pattern of the models to check, as in `*resnet*` or `acme/tiny`.

    Raises:
        ImportError: pytest is not installed.
    """
    try:
        import pytest
    except ImportError:
        raise ImportError("parametrize_with_checks needs pytest, which is not installed: pip install pytest") from None
    try:
        found = collected(plugin, backbones=backbones)
    except Exception as error:  # an error here would end the collection of every other test too
        said = f"{type(error).__name__}: {error}"
        found = [(_failing(f"plugin {plugin}", "its-checks-can-be-collected", said), {})]
    checks = [replace(check, run=partial(_for_pytest, check, excluded)) for check, excluded in found]
    return pytest.mark.parametrize("check", checks, ids=str)


def _for_pytest(check: Check, excluded: Excluded) -> None:
    import pytest

    if check.name not in excluded:
        try:
            check()  # not `perform`, which keeps no traceback
        except NotApplicable as reason:
            pytest.skip(str(reason))
        return
    result = perform(check, excluded)
    if result.outcome == "skipped":
        pytest.skip(result.message)
    if result.outcome == "excluded":
        pytest.xfail(result.message)
    raise CheckFailedError(result.message)
