"""Progress bars on a terminal; nothing at all where they are not wanted or nobody looks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Reporter:
    """Shows what a job is doing on standard error, so that standard output stays for results."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._live = not quiet and sys.stderr.isatty()

    def say(self, text: str) -> None:
        """A line for people."""
        if not self._quiet:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    @contextmanager
    def bar(self, title: str, unit: str) -> Iterator[Callable[[int, int], None] | None]:
        """A bar with speed and time left; gives a function of things done and things to do, or None where silent."""
        if not self._live:
            yield None
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(title, total=None, speed="")

            def update(done: int, total: int) -> None:
                seconds = progress.tasks[task].elapsed or 0.0
                speed = f"{done / seconds:,.0f} {unit}/s" if seconds > 0 else ""
                progress.update(task, completed=done, total=total, speed=speed)

            yield update
