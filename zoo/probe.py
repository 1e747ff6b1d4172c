"""Measurements of this machine that decisions rest on."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch

from zoo.disk import write_whole
from zoo.errors import RunError


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given; on the CPU there is nothing to wait for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@cache
def computes_bf16(kind: str) -> bool:
    """Whether devices of this kind (`cpu`, `cuda`, …) have instructions for bf16 here.

    Without them it is emulated: EfficientNet-Lite0 takes twenty times as long as in fp32 on a CPU with AVX2 alone, so
    that even trying it costs more than it could ever win.
    """
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if kind != "cpu":
        return True
    known: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return known and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001  torch has no public way to ask


def race(
    calls: Sequence[Callable[[], object]], device: torch.device, *, rounds: int = 3, warm: bool = False
) -> list[float]:
    """Seconds of each call, the least of a few interleaved rounds after one that only warms up.

    The least, because whatever else the machine does only ever adds time; interleaved, so that it adds to all alike.
    A call whose better time of two is half as long again as the best is not repeated; one time alone may be a hiccup.

    Args:
        calls: what is timed.
        device: where they compute.
        rounds: that are timed.
        warm: whether each has been called already, so that none is for warming up.
    """
    best = [float("inf")] * len(calls)
    for number in range(1 if warm else 0, rounds + 1):
        for index, call in enumerate(calls):
            if number > 2 and best[index] > 1.5 * min(best):
                continue
            synchronise(device)
            started = time.perf_counter()
            call()
            synchronise(device)
            if number:
                best[index] = min(best[index], time.perf_counter() - started)
    return best


V = TypeVar("V")

STALE_SECONDS = 7 * 24 * 3600
"""What was measured beside other work, or by another driver, must not decide for ever."""


def remembered(path: Path, measure: Callable[[], V]) -> tuple[V, bool]:
    """What was measured on this machine within a week, read from `path`, so that a second run decides as the first.

    Args:
        path: a JSON file.
        measure: gives JSON values.

    Returns:
        The value, and whether it was read.
    """
    try:
        if time.time() - path.stat().st_mtime < STALE_SECONDS:
            found: V = json.loads(path.read_text(encoding="utf-8"))
            return found, True
    except (OSError, ValueError):
        pass  # never measured here, or damaged: measured now
    value = measure()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(value))
    except (OSError, RunError):
        return value, False  # a cache that cannot be written costs time, nothing else
    return value, False


DISK_PROBE_BYTES = 2**22
_DISK_KEY = hashlib.blake2b(b"disk", digest_size=16).hexdigest()


def disk_speed(folder: Path) -> tuple[float, float]:
    """Bytes a second of the disk that holds `folder`: written to it for good, and read again, mostly from memory.

    Measured once and remembered.
    """

    def measure() -> list[float]:
        path = folder / f".disk-probe-{os.getpid()}"
        data = os.urandom(DISK_PROBE_BYTES)
        try:
            started = time.perf_counter()
            with path.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            written = time.perf_counter()
            path.read_bytes()
            return [len(data) / (written - started), len(data) / (time.perf_counter() - written)]
        finally:
            path.unlink(missing_ok=True)

    (write, read), _ = remembered(folder / "speeds" / f"{_DISK_KEY}.json", measure)
    return write, read


_MMAP_THRESHOLD, _TRIM_THRESHOLD, _MMAP_MAX = -3, -1, -4  # of glibc's malloc.h


@cache
def reuse_memory() -> bool:
    """Have this process keep the memory that it frees, so that a network's activations do not fault in new pages.

    glibc gives each large block back to the system and asks for it again, and the system clears every page of it: half
    of the time that EfficientNet-Lite0's frozen prefix took on two cores in batches of 64 (104 images a second against
    217), and as much of its training. The process stays as large as it once was.

    Returns:
        Whether that was done; False where the C library is another.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    # Releases that bound the threshold refuse this one; then no block is mapped at all.
    held = mallopt(_MMAP_THRESHOLD, 2**30) or mallopt(_MMAP_MAX, 0)
    return bool(held and mallopt(_TRIM_THRESHOLD, 2**31 - 1))


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


def check_devices(count: int, device: torch.device) -> None:
    """Refuse to spread work over GPUs that there are not.

    Args:
        count: of `--devices`, 0 for no spreading.
        device: that the work would take.

    Raises:
        ZooError: says what there is.
    """
    from zoo.errors import ZooError

    there = torch.cuda.device_count()
    if count and (device.type != "cuda" or device.index or not 0 < count <= there):
        raise ZooError(
            f"--devices {count} takes as many GPUs, from the first one on, and this machine shows {there} CUDA devices "
            "to torch" + (f", of which --device {device} names one" if device.index else "")
        )


def one_gpu(device: torch.device) -> int:
    """How many GPUs a process takes that computes on this device: one or none."""
    return int(device.type == "cuda")
