"""Measurements of this machine that decisions rest on."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given; on the CPU there is nothing to wait for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def race(calls: Sequence[Callable[[], object]], device: torch.device, *, rounds: int = 3) -> list[float]:
    """Seconds of each call, the least of a few interleaved rounds after one that only warms up.

    The least, because whatever else the machine does only ever adds time; interleaved, so that it adds to all alike.
    A call that took twice as long as the best so far is not repeated.
    """
    best = [float("inf")] * len(calls)
    for number in range(rounds + 1):
        for index, call in enumerate(calls):
            if number > 1 and best[index] > 2 * min(best):
                continue
            synchronise(device)
            started = time.perf_counter()
            call()
            synchronise(device)
            if number:
                best[index] = min(best[index], time.perf_counter() - started)
    return best


def remembered_race(
    path: Path, names: Sequence[str], calls: Sequence[Callable[[], object]], device: torch.device
) -> tuple[list[float], bool]:
    """`race`, measured once on this machine and then read from `path`, so that a second run decides as the first did.

    Returns:
        Seconds of each call, and whether they were read.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return [float(stored[name]) for name in names], True
    except (OSError, ValueError, KeyError, TypeError):
        pass  # never measured here, or damaged: measured now
    seconds = race(calls, device)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(dict(zip(names, seconds, strict=True))), encoding="utf-8")
        temporary.replace(path)
    except OSError:
        return seconds, False  # a cache that cannot be written costs time, nothing else
    return seconds, False


def device_name(device: torch.device) -> str:
    """What computes: the GPU's name, or the CPU's with the number of threads that torch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_name()}, {torch.get_num_threads()} threads"


@cache
def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def pick_device(name: str | None = None) -> torch.device:
    """The device of this name (`cpu`, `cuda`, `cuda:1`), or the GPU where there is one, else the CPU.

    Raises:
        ZooError: the name is no device, or the machine does not have it.
    """
    from zoo.errors import ZooError

    if name in (None, "auto"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(str(name))
    except RuntimeError:
        raise ZooError(f"{name!r} is no device; say cpu, cuda or cuda:0") from None
    if device.type not in ("cpu", "cuda"):
        raise ZooError(f"device {name!r} is not supported; say cpu or cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ZooError(f"device {name!r}: this machine shows {torch.cuda.device_count()} CUDA devices to torch")
    return device
