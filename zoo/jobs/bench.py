"""How fast backbones fine-tune on this machine: the body of `zoo bench`, and `zoo.bench`."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from zoo.config import BenchConfig
from zoo.data.augment import parse_augmentation
from zoo.disk import cache_folder
from zoo.errors import OptionError
from zoo.grid.rows import Cell, Row, RowFile
from zoo.grid.run import failed, run_grid
from zoo.grid.worker import Limits
from zoo.jobs.choosing import match_patterns
from zoo.jobs.progress import Reporter
from zoo.probe import check_devices, device_name, one_gpu, pick_device
from zoo.registry.digest import package_digest
from zoo.registry.near import suggest
from zoo.report.bench_page import write_bench_page
from zoo.specs import parse_schedule
from zoo.training.optimiser import parse_optimiser

TASK = "zoo.jobs.bench_cell:bench_cell"
PRELOAD = ("zoo.jobs.bench_cell", "timm", "torchvision")
POLICIES = ("none", "last(1)", "head")
MEASURED = (
    "augment", "batch_size", "weights", "size", "batchnorm", "precision", "optimiser", "compile", "classes", "warmup",
    "steps", "seconds",
)  # fmt: skip
"""Options that a row depends on."""

CODE = ("zoo.model", "zoo.features", "zoo.training", "zoo.jobs")
LIBRARIES = ("backbone-zoo", "torch", "torchvision", "timm")


@dataclass(frozen=True, kw_only=True)
class BenchResult:
    """What was measured.

    Attributes:
        rows: one for each backbone and policy; those that failed say why.
        path: the file that keeps them.
        drawn: page and pictures, where they were asked for.
    """

    rows: tuple[Row, ...]
    path: Path
    drawn: tuple[Path, ...] = ()

    @property
    def failed(self) -> tuple[Row, ...]:
        """The rows without a measurement."""
        return tuple(row for row in self.rows if failed(row))


def bench(*patterns: str, freeze: str | Sequence[str] = POLICIES, **options: Any) -> BenchResult:
    """Measure how fast backbones fine-tune; the same as `zoo bench`.

    Args:
        patterns: globs over `source/model`.
        freeze: policies.
        options: fields of `zoo.config.BenchConfig`, such as `device="cuda"`, `batch_size=256`, `out="bench"`.

    Raises:
        ZooError: with one clear message, for everything that the caller can mend.
    """
    known = [field.name for field in fields(BenchConfig)]
    for name in options:
        if name not in known:
            raise OptionError(f"bench has no option {name!r}{suggest(name, known)}")
    for name in ("rows", "report", "out"):
        if options.get(name) is not None:
            options[name] = Path(options[name])
    policies = (freeze,) if isinstance(freeze, str) else tuple(freeze)
    config = BenchConfig(pattern=patterns, freeze=policies, **options)
    return run_bench(config, Reporter(quiet=config.quiet))


def run_bench(config: BenchConfig, reporter: Reporter, each: Callable[[Row], None] | None = None) -> BenchResult:
    """Measure what the options name, or draw the rows that are there.

    Raises:
        OptionError: options that do not go together, or a value that cannot be.
        UnknownNameError: a pattern that matches nothing.
    """
    if config.report is not None:
        return _reported(config)
    cells = bench_cells(config)
    path = config.rows or cache_folder() / "bench.jsonl"
    with reporter.bar("measuring", "measurements") as progress:
        rows = run_grid(
            cells,
            path,
            devices=config.devices or (one_gpu(pick_device(config.device)) if config.ray else 0),
            ray=config.ray,
            limits=Limits(
                seconds=config.limit, mib=config.memory * 1024, threads=config.threads or os.cpu_count() or 1
            ),
            retry=failed if config.retry else None,
            preload=PRELOAD,
            progress=progress,
            each=each,
        )
    drawn = write_bench_page(rows, config.out) if config.out else ()
    return BenchResult(rows=tuple(rows), path=path, drawn=drawn)


def _reported(config: BenchConfig) -> BenchResult:
    assert config.report is not None  # noqa: S101 - asked before
    if config.pattern:
        raise OptionError("--report draws rows that are there and measures nothing; leave out the backbones")
    if config.out is None:
        raise OptionError("say where the page goes: zoo bench --report ROWS --out FOLDER")
    rows = [row for row in RowFile(config.report).read().values() if row.task == TASK]
    if not rows:
        raise OptionError(f"{config.report} holds no rows of zoo bench")
    return BenchResult(rows=tuple(rows), path=config.report, drawn=write_bench_page(rows, config.out))


def bench_cells(config: BenchConfig) -> list[Cell]:
    """A cell for each backbone and policy, backbone by backbone.

    Raises:
        OptionError: nothing to measure, or a value that cannot be.
        UnknownNameError: a pattern that matches nothing.
    """
    _check(config)
    device = pick_device(config.device)
    check_devices(config.devices, device)
    context = machine(device, config.threads or os.cpu_count() or 1)
    options = {name: getattr(config, name) for name in MEASURED}
    names = dict.fromkeys(name for word in config.pattern for name in _named(word))
    return [
        Cell(
            task=TASK,
            parameters={"backbone": name, "freeze": policy, "data": _data(config), "device": str(device), **options},
            context=context,
        )
        for name in names
        for policy in config.freeze or POLICIES
    ]


def _named(word: str) -> list[str]:
    """The backbone of this very name, or those that the word matches: what is measured takes long."""
    names = [row.name for row in match_patterns((word,))]
    return [word] if word in names else names


def _check(config: BenchConfig) -> None:
    if not config.pattern:
        raise OptionError("say which backbones to measure, as in `zoo bench 'torchvision/resnet*'`")
    _check_numbers(config)
    if config.data not in ("synthetic", "resident") and not config.data.startswith("files:"):
        raise OptionError(f"--data is synthetic, resident or files:FOLDER, not {config.data!r}")
    if config.data == "synthetic" and config.augment.strip() != "none":
        raise OptionError("--data synthetic has nothing to augment; say --data resident, or leave out --augment")
    for policy in config.freeze:
        if parse_schedule(policy).when:
            raise OptionError(f"{policy} is a schedule; measure each of its policies by itself")
    parse_optimiser(config.optimiser)
    parse_augmentation(config.augment)


def _check_numbers(config: BenchConfig) -> None:
    least = {
        "batch-size": (2 if config.batch_size == "auto" else config.batch_size, 2),
        "classes": (config.classes, 2),
        "warmup": (0 if config.warmup is None else config.warmup, 0),
        "steps": (1 if config.steps is None else config.steps, 1),
        "threads": (1 if config.threads is None else config.threads, 1),
    }
    for name, (value, smallest) in least.items():
        if value < smallest:
            raise OptionError(f"--{name} must be at least {smallest}, not {value}")
    for name in ("seconds", "limit", "memory"):
        if not getattr(config, name) > 0:
            raise OptionError(f"--{name} must be positive, not {getattr(config, name)}")


def _data(config: BenchConfig) -> str:
    """As in a row: a folder by its whole path."""
    kind, colon, folder = config.data.partition(":")
    return f"{kind}:{Path(folder).resolve()}" if colon else kind


def machine(device: torch.device, threads: int) -> dict[str, str]:
    """What a row depends on beside its parameters: device, driver, versions, code."""
    name = device_name(device).rpartition(",")[0] if device.type == "cpu" else device_name(device)
    found = {
        "device": f"{name}, {threads} threads" if device.type == "cpu" else name,
        "python": platform.python_version(),
        **{library: _version(library) for library in LIBRARIES},
        "code": hashlib.blake2b("".join(map(package_digest, CODE)).encode(), digest_size=8).hexdigest(),
    }
    if device.type == "cuda":
        found |= {
            "driver": _driver(),
            "cuda": str(torch.version.cuda),
            "cudnn": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
        }
    return found


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"


@cache
def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return said.stdout.split()[0] if said.stdout.split() else "unknown"
