"""What the code of an installed package is, in one short text that changes when a file of it does."""

from __future__ import annotations

import hashlib
from collections.abc import Container
from functools import cache
from importlib.util import find_spec
from pathlib import Path

CONTENT = (
    ".py",
    ".so",
    ".pyd",
    ".json",
    ".toml",
    ".yaml",
    ".yml",
    ".csv",
    ".npy",
    ".npz",
    ".safetensors",
    ".pt",
    ".pth",
)
"""Endings of the files that decide what a package does."""

LARGE = 2**20
"""Bytes; of a larger file, such as one of weights, size and time stand for the content."""


@cache
def package_digest(module: str, *, without: Path | None = None) -> str:
    """Hash of the names and the contents of the files of a package or module, 16 hexadecimal digits.

    Computed once in a process, because what is imported does not change with its files. A module that is not there has
    the hash of nothing.

    Args:
        module: as it is imported; of a package everything below it counts.
        without: a file that is left out, such as a table of what was measured of the rest.
    """
    total = hashlib.blake2b(digest_size=8)
    for name, path in package_files(module):
        if path == without:
            continue
        status = path.stat()
        large = status.st_size > LARGE
        content = f"{status.st_size} {status.st_mtime_ns}".encode() if large else path.read_bytes()
        total.update(f"{name} {len(content)}\n".encode())
        total.update(content)
    return total.hexdigest()


def package_files(module: str, endings: Container[str] = CONTENT) -> list[tuple[str, Path]]:
    """The files of a package or module by their names below it, sorted; none for a module that is not there.

    Args:
        module: as it is imported; it is looked up, not imported.
        endings: which files of a package count.
    """
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations is None:
        return [(module, Path(spec.origin))] if spec.origin and Path(spec.origin).is_file() else []
    return sorted(
        (path.relative_to(folder).as_posix(), path)
        for folder in map(Path, spec.submodule_search_locations)
        for path in folder.rglob("*")
        if path.suffix in endings and path.is_file()
    )
