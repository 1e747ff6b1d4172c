"""What commands print: text for people on a terminal, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, TypeVar

C = TypeVar("C")


def parse(config: type[C], command: str, words: Sequence[str]) -> C:
    """The command's options from its words; prints help or an error and exits where that is asked for or due."""
    import tyro

    return tyro.cli(config, prog=f"zoo {command}", args=list(words))


def write(text: str = "") -> None:
    """A line on standard output."""
    sys.stdout.write(text + "\n")


def write_json(value: Any) -> None:
    """JSON on standard output."""
    write(json.dumps(value, indent=2, ensure_ascii=False, default=str))
