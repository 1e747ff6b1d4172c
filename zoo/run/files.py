"""Writing files whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.errors import RunError


def write_whole(path: Path, content: bytes | str) -> None:
    """Write `path` so that it is either there whole or not there: a temporary file beside it, synced, then renamed.

    Raises:
        RunError: the folder cannot be written or the disk is full; what was there before is untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = ""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = file.name
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise RunError(f"cannot write {path}: {error.strerror or error}") from None


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
