"""Whether features fit into the memory that is left; a process that the system kills says nothing."""

from __future__ import annotations

import math
import re
from pathlib import Path

import torch

from zoo.errors import ZooError

_SYSTEM = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")
_SPARE = 0.9  # of what is available: the network, a batch and the program itself want some too


def check_memory(rows: int, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Refuse features that would not fit in the precision in which they are stored; training converts them by batch.

    Args:
        rows: how many.
        shape: of one row's features.
        dtype: in which they are stored.

    Raises:
        ZooError: they do not fit; says how much they take and how much there is.
    """
    need = rows * math.prod(shape) * dtype.itemsize
    left = available_memory()
    if left is not None and need > _SPARE * left:
        each = " x ".join(str(size) for size in shape)
        raise ZooError(
            f"the features of {rows} images, {each} numbers each, take {need / 1e9:.1f} GB of memory, and "
            f"{left / 1e9:.1f} GB are available; use a head that takes one vector an image, a smaller backbone, "
            "smaller images, or --no-cache, which computes them again in every epoch"
        )


def available_memory(system: Path = _SYSTEM, group: Path = _GROUP) -> int | None:
    """Bytes that this process may still take, by the system and by its control group; None where neither says."""
    found = [value for value in (_of_system(system), _of_group(group)) if value is not None]
    return min(found) if found else None


def _of_system(path: Path) -> int | None:
    try:
        match = re.search(r"^MemAvailable:\s+(\d+) kB", path.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return None
    return int(match[1]) * 1024 if match else None


def _of_group(folder: Path) -> int | None:
    """What is left below the limit of the control group; pages of files that nobody needs count as free."""
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        match = re.search(r"^inactive_file (\d+)", (folder / "memory.stat").read_text(encoding="ascii"), re.MULTILINE)
    except (OSError, ValueError):
        return None
    if not limit.isdecimal():
        return None
    return int(limit) - used + (int(match[1]) if match else 0)
