"""Where caches lie, and files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from zoo.errors import RunError


def cache_folder() -> Path:
    """Where this user's caches lie; the environment variable ZOO_CACHE overrides the platform's place."""
    if chosen := os.environ.get("ZOO_CACHE"):
        return Path(chosen)
    import platformdirs

    return Path(platformdirs.user_cache_dir("backbone-zoo", appauthor=False))


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
