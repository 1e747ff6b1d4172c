"""tyro's marks for options, which load tyro when a command line is made of them and not when they are defined.

Annotations are text until then, so that `zoo.train` from Python and a `zoo list` of names never import it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tyro.conf import Positional, Suppress, UseAppendAction, arg
else:

    class _Mark:
        def __init__(self, name: str) -> None:
            self.name = name

        def __getitem__(self, item: Any) -> Any:
            import tyro.conf

            return getattr(tyro.conf, self.name)[item]

        def __call__(self, **options: Any) -> Any:
            import tyro.conf

            return getattr(tyro.conf, self.name)(**options)

    Positional, Suppress, UseAppendAction, arg = map(_Mark, ("Positional", "Suppress", "UseAppendAction", "arg"))

__all__ = ["Positional", "Suppress", "UseAppendAction", "arg"]
