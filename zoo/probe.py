"""Measurements of this machine that decisions rest on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

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
