"""Measurements of this machine that decisions rest on."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """Seconds of one call, measured several times after a warm-up."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median in seconds."""
        return statistics.median(self.seconds)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given; on the CPU there is nothing to wait for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_call(call: Callable[[], object], device: torch.device, *, warmup: int = 1, repeats: int = 3) -> Timing:
    """Time `call`, which works on `device`, after `warmup` calls that are not counted."""
    for _ in range(warmup):
        call()
    seconds = []
    for _ in range(repeats):
        synchronise(device)
        started = time.perf_counter()
        call()
        synchronise(device)
        seconds.append(time.perf_counter() - started)
    return Timing(seconds=tuple(seconds))


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
