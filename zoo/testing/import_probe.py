"""Run as a script in a fresh process: imports one module and reports what that brought with it.

Its one argument is JSON: `module`, the search `path`, names of `heavy` packages and the file of the `report`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import FrameType


class Watch:
    """A finder that finds nothing and notes who asks for a heavy package first."""

    def __init__(self, heavy: list[str]) -> None:
        self.heavy = heavy
        self.seen: dict[str, str] = {}

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Note the files and lines on the way to the import of `name`."""
        root = name.partition(".")[0]
        if root in self.heavy and root not in self.seen:
            self.seen[root] = " -> ".join(way(sys._getframe(1)))  # noqa: SLF001  the one way to the importers


def way(frame: FrameType | None) -> list[str]:
    """Files and lines that were being imported, from the outermost on, without the import system and this script."""
    found: list[str] = []
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith("<frozen") and file != __file__:
            found.insert(0, f"{'/'.join(Path(file).parts[-2:])}:{frame.f_lineno}")
        frame = frame.f_back
    return found[:6]


def main(order: dict[str, str]) -> None:
    """Import the module between two looks at the clocks."""
    sys.path[:] = order["path"]
    import zoo.hooks
    import zoo.specs  # noqa: F401  what the core has imported before any plugin

    watch = Watch(list(order["heavy"]))
    sys.meta_path.insert(0, watch)
    failure, wall, cpu = "", time.perf_counter(), time.process_time()
    try:
        __import__(order["module"])
    except BaseException as error:  # even sys.exit is a failure to report
        failure = " ".join(f"{type(error).__name__}: {error}".split())
    report = {
        "failure": failure,
        "heavy": watch.seen,
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
    }
    Path(order["report"]).write_text(json.dumps(report), encoding="utf-8")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
