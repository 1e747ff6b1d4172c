"""What an interrupted run goes on from: its options and the state of its training, kept in the run folder.

`resume.json` holds the options from the start of training on; `checkpoint.safetensors` the state, replaced as a whole
each time. Both are gone when the run is finished.
"""

from __future__ import annotations

import hashlib
import json
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from types import FrameType
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from zoo.config import TrainConfig
from zoo.disk import write_whole
from zoo.errors import RunError, ZooError
from zoo.jobs.job import Job
from zoo.run.artifact import CHECKPOINT, OPTIONS
from zoo.run.files import read_json, to_json
from zoo.training.checkpoint import State

FORMAT = 1
SHARE = 0.05
"""At most so much of the time goes into saving, whatever --save-every says."""


class InterruptedRunError(ZooError):
    """The run was asked to stop, and what it had is saved."""

    exit_code = 130


class Checkpoints:
    """Saves the state of a run's training: when Ctrl-C or SIGTERM asks, and every so often.

    Of several processes the first one saves for all; when it has ended, the others have nobody to train with.

    Args:
        job: the run.
        resumed: whether it goes on from what is there; else that is removed.
    """

    def __init__(self, job: Job, *, resumed: bool) -> None:
        self._folder, self._every, self._data = job.config.out, job.config.save_every, data_digest(job)
        self._parent = job.parent.digest if job.parent else None
        self._last, self._cost, self._asked = time.monotonic(), 0.0, ""
        self.around: Mapping[str, Any] = {}
        """JSON values about the interval that is under way, saved with each state."""
        self._first = job.group.first
        if self._first and not resumed:
            (self._folder / CHECKPOINT).unlink(missing_ok=True)
        if self._first:
            # What was found or chosen is not looked for again.
            write_options(replace(job.config, batch_size=job.batch_size), job.chosen)

    def due(self) -> bool:
        """See `zoo.training.checkpoint.Keeper`."""
        return bool(self._asked) or time.monotonic() - self._last >= max(self._every, self._cost / SHARE)

    def save(self, state: State) -> None:
        """Write the state.

        Raises:
            InterruptedRunError: the run was asked to stop.
            RunError: it cannot be written; the one before is untouched.
        """
        began = time.monotonic()
        values = {
            "format": FORMAT,
            "data": self._data,
            "parent": self._parent,
            **self.around,
            "state": state.values,
        }
        content: bytes = save(dict(state.tensors), metadata={"values": json.dumps(values)})
        write_whole(self._folder / CHECKPOINT, content)
        self._last = time.monotonic()
        self._cost = self._last - began
        if self._asked:
            raise InterruptedRunError(
                f"stopped by {self._asked}; the state is saved, go on with: zoo train --resume {self._folder}"
            )

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Inside, Ctrl-C and SIGTERM wait for the step to end and save; a second one stops at once."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may say what a signal does
            return
        before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del frame
        if not self._first:
            return
        if self._asked:
            raise KeyboardInterrupt
        self._asked = signal.Signals(number).name


class Resumed:
    """A run that was interrupted.

    Args:
        folder: of the run.

    Raises:
        RunError: there is nothing to go on from, or it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / OPTIONS).exists():
            if not folder.is_dir():
                raise RunError(f"there is no run folder {folder}; a run that was stopped before it began leaves none")
            if (folder / "run.json").exists():
                raise RunError(f"{folder} is finished; to train it further, say zoo train DATA --from {folder}")
            raise RunError(f"{folder} is no interrupted run: it has no {OPTIONS}")
        content = read_json(folder / OPTIONS)
        _refuse_newer(folder / OPTIONS, content)
        known = {field.name for field in fields(TrainConfig)}
        unknown = sorted(set(content["options"]) - known)
        if unknown:
            raise RunError(f"{folder} was made with options that this version does not have: {', '.join(unknown)}")
        options: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in content["options"].items()
        }
        self.config = TrainConfig(**{**options, "out": folder})
        self.chosen: list[dict[str, Any]] = content.get("chosen", [])
        self.state: State | None = None
        self.around: dict[str, Any] = {}
        if (folder / CHECKPOINT).exists():
            self._read(folder / CHECKPOINT)

    def _read(self, path: Path) -> None:
        try:
            with safe_open(path, "pt") as file:
                values = json.loads((file.metadata() or {})["values"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise RunError(f"cannot read {path}: {error}; remove it to begin the run anew with --resume") from None
        _refuse_newer(path, values)
        self.state = State(tensors=tensors, values=values.pop("state"))
        self.around = values

    def check(self, job: Job) -> None:
        """Hold what the run finds now against what it was made of.

        Raises:
            RunError: the data are others, or the run that it goes on from is.
        """
        parent = job.parent.digest if job.parent else None
        if self.state is not None and self.around.get("parent") != parent:
            raise RunError(
                f"{self.config.start}, which {self.config.out} goes on from, has changed since it was interrupted; "
                "begin a new run"
            )
        if self.state is not None and self.around["data"] != data_digest(job):
            raise RunError(
                f"the data of {self.config.out} have changed since it was interrupted: other images, labels or "
                "splits; begin a new run"
            )


def write_options(config: TrainConfig, chosen: Sequence[Mapping[str, Any]] = ()) -> None:
    """Keep the options in the run folder, and what was chosen; with them alone --resume begins the run anew."""
    content = {"format": FORMAT, "options": _spelled(config), "chosen": list(chosen)}
    write_whole(config.out / OPTIONS, to_json(content))


def data_digest(job: Job) -> str:
    """A digest of all rows: images, labels and splits."""
    found = hashlib.blake2b(digest_size=16)
    found.update(job.data.images.digests.tobytes())
    for name in ("train", "val", "test"):
        found.update(getattr(job.data.splits, name).tobytes())
    for name, target in sorted(job.data.targets.items()):
        found.update(name.encode() + target.value.numpy().tobytes() + target.mask.numpy().tobytes())
    return found.hexdigest()


def finished(folder: Path) -> None:
    """Remove what the run would have been resumed from."""
    (folder / CHECKPOINT).unlink(missing_ok=True)
    (folder / OPTIONS).unlink(missing_ok=True)


def drop_options(folder: Path) -> None:
    """Where nothing has been saved, leave nothing to resume."""
    if not (folder / CHECKPOINT).exists():
        (folder / OPTIONS).unlink(missing_ok=True)


def _spelled(config: TrainConfig) -> dict[str, Any]:
    """The options as JSON values; data by their whole path: the next command may come from another folder."""
    found = asdict(config)
    del found["out"]
    if Path(config.data).exists():
        found["data"] = str(Path(config.data).resolve())
    if config.start is not None:
        found["start"] = str(Path(config.start).expanduser().resolve())
    return found


def _refuse_newer(path: Path, content: Mapping[str, Any]) -> None:
    if int(content.get("format", 0)) > FORMAT:
        raise RunError(f"{path} was written by a newer version of backbone-zoo; update it to go on with this run")
