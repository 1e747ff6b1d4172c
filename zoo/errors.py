"""Errors that a user can act on.

Every `ZooError` is one clear message: what was asked, what there is, what to do. The command line prints it without
a traceback and exits with code 2. `IntegrityError` is different: the program broke a promise of its own.
"""

from __future__ import annotations


class ZooError(Exception):
    """A request that cannot be met; the message says why and what to do.

    Attributes:
        exit_code: of the command line.
    """

    exit_code = 2


class UnknownNameError(ZooError):
    """A name that no installed plugin offers."""


class NameClashError(ZooError):
    """A name that two distributions claim."""


class PluginError(ZooError):
    """A plugin that broke its contract; the message names its distribution."""


class DataError(ZooError):
    """A data set, table or file that cannot be used as it is."""


class WeightsError(ZooError):
    """Weights that cannot be fetched, or that do not fit the network."""


class RunError(ZooError):
    """A run folder that is missing, unfinished, foreign or in the way."""


class OptionError(ZooError):
    """An option that does not parse or names what does not exist; points at the place.

    Args:
        message: what is wrong and what is allowed.
        text: the whole option as the user wrote it.
        column: index into `text` where the trouble starts.
    """

    def __init__(self, message: str, *, text: str = "", column: int = 0) -> None:
        self.message = message
        self.text = text
        self.column = column
        pointer = f"\n    {text}\n    {' ' * column}^" if text else ""
        super().__init__(message + pointer)


class IntegrityError(RuntimeError):
    """A promise of the engine was broken, such as a frozen tensor that moved. Always a bug, never the user's fault."""
