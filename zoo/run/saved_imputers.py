"""Fitted imputers as a run keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.registry.guard import guarded
from zoo.registry.lookup import IMPUTERS


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedImputer:
    """One fitted imputer.

    Attributes:
        fills: the kind of hole.
        name: by which it is found.
        values: JSON values.
        arrays: by name.
    """

    fills: str
    name: str
    values: Mapping[str, Any]
    arrays: Mapping[str, NDArray[np.generic]]

    def load(self) -> Any:
        """The fitted imputer, as its plugin makes it anew.

        Raises:
            UnknownNameError: the plugin that made it is not installed.
            PluginError: the plugin broke.
        """
        shelf = IMPUTERS[self.fills]
        with guarded(shelf.home(self.name), f"{shelf.kind} {self.name}"):
            return shelf.get(self.name).load(self.arrays, self.values)


def of_kind(imputers: Sequence[SavedImputer], fills: str) -> SavedImputer | None:
    """The one that fills this kind of hole, or None."""
    return next((each for each in imputers if each.fills == fills), None)
