"""Where core calls into a plugin's record: whatever breaks there is told in one line that names the plugin."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from zoo.errors import PluginError, ZooError
from zoo.registry.lookup import SOURCES
from zoo.registry.plugins import Plugin, one_line


def fault(plugin: Plugin, what: str, said: str) -> PluginError:
    """The error for what a plugin did wrong.

    Args:
        plugin: whose record it is.
        what: kind and name of the thing, as in `head cosine`.
        said: what happened.
    """
    whose = f"plugin {plugin.distribution} {plugin.version} ({what})"
    return PluginError(f"{whose}: {said}; `zoo check {plugin.name}` shows more")


def view_fault(name: str, said: str) -> PluginError:
    """The error for what is wrong with the view of a backbone `source/model`."""
    source, _, model = name.rpartition("/")
    try:
        return fault(SOURCES.home(source), f"backbone {model}", said)
    except ZooError:  # a view that somebody made by hand
        return PluginError(f"the source of {name}: {said}")


@contextmanager
def guarded_view(name: str, what: str) -> Iterator[None]:
    """The same as `guarded`, for `what` the view of a backbone `source/model` is asked to do."""
    try:
        yield
    except ZooError:
        raise
    except (Exception, SystemExit) as error:
        raise view_fault(name, f"{what}: {one_line(error)}") from error


@contextmanager
def guarded(plugin: Plugin, what: str) -> Iterator[None]:
    """Turn what a plugin raises within into a `PluginError`; errors that the user can mend pass as they are.

    Even `sys.exit` within a plugin does not end the program; Ctrl-C does.

    Args:
        plugin: whose record is called.
        what: kind and name of the thing, as in `head cosine`.

    Raises:
        PluginError: whatever was raised within, but a `ZooError`, names the plugin and what it raised.
    """
    try:
        yield
    except ZooError:
        raise
    except (Exception, SystemExit) as error:
        raise fault(plugin, what, one_line(error)) from error
