"""Several processes on this machine that train one run together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from zoo.errors import ZooError
from zoo.probe import pick_device

GRACE = 20.0
"""Seconds that processes have to end by themselves when one of them has."""


class LaunchError(ZooError):
    """A process of a run has failed."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def launches(devices: int | None) -> bool:
    """Whether this process is to start others that train, and is not itself one of them."""
    return (devices or 1) > 1 and "RANK" not in os.environ


def launch(folder: Path, devices: int, device: str | None, *, quiet: bool) -> None:
    """Start the processes, with the environment that torchrun gives its own, and wait until they are done.

    Args:
        folder: of a run that has its options, see `zoo.jobs.resume`.
        devices: how many processes.
        device: that was asked for.
        quiet: whether the first one shows no progress.

    Raises:
        ZooError: there are not so many GPUs.
        LaunchError: a process has failed, which has said why.
    """
    _check(devices, device)
    words = [sys.executable, "-m", "zoo", "train", "--resume", str(folder), *(["--quiet"] if quiet else [])]
    around = {"WORLD_SIZE": devices, "MASTER_ADDR": "localhost", "MASTER_PORT": _free_port()}
    # Unless the user says otherwise, the processes share the cores; more threads than cores only wait for each other.
    around |= {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", max(1, (os.cpu_count() or 1) // devices))}
    started: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(devices):
            environment = {**os.environ, **{name: str(value) for name, value in around.items()}}
            environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            # What came of it is read from the run folder, not from their output. Ctrl-C reaches them once, through this
            # process: a second one would stop them before they have saved.
            options: dict[str, Any] = {"stdout": subprocess.DEVNULL, "start_new_session": True}
            started.append(subprocess.Popen(words, env=environment, **options))  # noqa: S603
        with _passing_on(started):
            _wait(started)
    finally:
        for each in started:
            each.kill()
            each.wait()


def _wait(started: Sequence[subprocess.Popen[bytes]]) -> None:
    """Until all are done, or one has failed and the others have had their time to notice.

    Raises:
        LaunchError: one has failed.
    """
    codes: list[int | None] = [None] * len(started)
    while None in codes and not any(codes):
        time.sleep(0.05)
        codes = [each.poll() for each in started]
    deadline = time.monotonic() + GRACE
    while None in codes and time.monotonic() < deadline:
        time.sleep(0.05)
        codes = [each.poll() for each in started]
    for rank, code in enumerate(codes):
        if code:
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            raise LaunchError(f"process {rank} of {len(started)} {how}", max(code, 2))


@contextmanager
def _passing_on(started: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM are for the processes: they save and end, and this one then says so."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what a signal does
        return

    def tell(number: int, frame: FrameType | None) -> None:
        del frame
        for each in started:
            each.send_signal(number)

    before = {number: signal.signal(number, tell) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return int(found.getsockname()[1])


def _check(devices: int, device: str | None) -> None:
    chosen = pick_device(device)
    if ":" in (device or ""):
        raise ZooError(f"--devices {devices} takes a GPU for each process; say --device cuda instead of {device}")
    if chosen.type == "cuda" and devices > torch.cuda.device_count():
        raise ZooError(f"--devices {devices}, and torch sees {torch.cuda.device_count()} GPUs")
