"""What the command takes that measures how fast backbones fine-tune."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from zoo.config.marks import Positional, UseAppendAction, arg


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """Measure how fast backbones fine-tune on this machine, under each freeze policy.

    What is timed are the steps that `zoo train` would take, as it would plan them. Each backbone and policy has a
    process of its own; what fails or runs out of memory is a row too, and what was stopped goes on with the same
    command. `zoo bench --report ROWS --out FOLDER` draws a page out of rows and measures nothing.
    """

    pattern: Positional[tuple[str, ...]] = ()
    """Globs over source/model, as for `zoo list`."""
    freeze: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="POLICY")] = ()
    """Freeze policy, as zoo train takes it; repeat for several. By default none, last(1) and head."""
    data: str = "synthetic"
    """synthetic: batches that are there already; resident: uint8 images in the device's memory, augmented and
    normalised in each step; files:FOLDER: image files, as zoo train reads them."""
    augment: str = "none"
    """Augmentation of resident images and files, as zoo train takes it."""
    batch_size: int | Literal["auto"] = 32
    """Rows of a step; auto takes as many as fit into the GPU's memory, 512 at most."""
    weights: str = "none"
    """Weights of the backbones; speed does not depend on them, and random ones need no download."""
    size: int | None = None
    """Height and width of the images in pixels; by default as the backbone was pretrained."""
    batchnorm: Literal["frozen", "train"] = "frozen"
    """Whether BatchNorm statistics stand still, as for pretrained weights, or follow the batches where layers train."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """As zoo train takes it; auto takes the fastest that serves."""
    optimiser: Annotated[str, arg(aliases=["--optimizer"])] = "adamw"
    """As zoo train takes it."""
    compile: bool = False
    """Let torch.compile translate what trains; how long that took is in the row."""
    classes: int = 10
    """Classes of the head."""
    warmup: int | None = None
    """Steps before the timed ones; by default 10 on a GPU and 2 on a CPU."""
    steps: int | None = None
    """Timed steps; by default 40 on a GPU and 10 on a CPU."""
    seconds: float = 60.0
    """No timed step begins later than this after the first; at least three are taken."""
    device: str | None = None
    """cpu, cuda or cuda:1; by default (or with auto) the GPU where there is one."""
    devices: int = 0
    """GPUs of this machine to spread them over, a process on each; they should be of one kind."""
    ray: Annotated[str | None, arg(metavar="ADDRESS")] = None
    """Let a Ray cluster measure: auto, local, or ray://HOST:10001; needs pip install "backbone-zoo[ray]". Its machines
    should be like this one: rows bear this one's name."""
    threads: int | None = None
    """Threads of a CPU; by default one a core."""
    limit: float = 1800.0
    """Seconds after which a backbone is stopped."""
    memory: float = 64.0
    """GiB of main memory at which it is stopped."""
    retry: bool = False
    """Measure those again that failed."""
    rows: Path | None = None
    """File of JSON lines that keeps the rows; by default bench.jsonl in the cache folder."""
    report: Path | None = None
    """Draw the rows of this file, and measure nothing."""
    out: Path | None = None
    """Folder for bench.html and the pictures."""
    quiet: bool = False
    """Show no progress."""
    json: bool = False
    """Print the rows as JSON."""
