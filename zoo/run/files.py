"""The text files of a run: JSON written and read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.disk import write_whole
from zoo.errors import RunError

__all__ = ["read_json", "to_json", "write_whole"]


def to_json(value: Mapping[str, Any]) -> str:
    """JSON with a newline at its end; what is not finite is refused, because other readers refuse it."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a run.

    Raises:
        RunError: the file is not there or does not parse.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content
    except FileNotFoundError:
        raise RunError(f"{path.parent} is no finished run: it has no {path.name}") from None
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {path}: {error}") from None
