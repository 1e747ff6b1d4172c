"""What the commands take that say beforehand: which backbone to take, and what a run would cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from zoo.config.marks import Positional, Suppress, UseAppendAction, arg
from zoo.config.runs import TrainConfig


@dataclass(frozen=True, kw_only=True)
class PlanConfig(TrainConfig):
    """Say what a run would cost on this machine, for each way to compute it; nothing is trained.

    Takes the options of `zoo train` but --out. Images are decoded and kept, as the run would.
    """

    out: Suppress[Path] = Path("plan")
    explain: Suppress[bool] = True


@dataclass(frozen=True, kw_only=True)
class RankConfig:
    """Rank backbones on your images: scores by cross-validation on training rows, speed and memory on this machine.

    The rows are split as `zoo train` splits them with the same options; validation and test rows decide nothing. Each
    backbone has a process of its own, its features stay in the cache for `zoo train`, and what is done is not done
    again by the same command.
    """

    data: Positional[str]
    """Folder, CSV or Parquet file, or the name of a data set."""
    backbones: tuple[str, ...]
    """Names, as source/model or source/model.tag, or globs over them; a word that is no name matches anywhere."""
    out: Path = Path("runs/rank")
    """Folder for rank.json, pareto.png and rows.jsonl, by which the command goes on."""
    on_disk: bool = False
    """Only weights that lie on this disk, so that no network is needed."""
    weights: str | None = None
    """Weight tag of every backbone, or none for random weights; by default the first pretrained tag."""
    metric: str = "balanced_accuracy"
    """By which they are ranked: balanced_accuracy, macro_f1, log_loss, …, as zoo train takes it."""
    folds: int = 5
    """Of the cross-validation."""
    rows: int | None = None
    """At most so many training rows, drawn by class; by default all."""
    freeze: str = "head"
    """The fine-tuning whose time and memory are predicted, and that --finetune does."""
    epochs: int = 10
    """Its length."""
    finetune: int = 0
    """Fine-tune the best so many for 2 epochs, the better half of them for 4, and so on by successive halving, with
    --freeze; scored on a fifth of the training rows that is held out for it."""
    budget: str | None = None
    """Longest that the fine-tuning may take, such as 90s, 10m or 2h."""
    memory: str | None = None
    """Most memory that the fine-tuning may take, such as 800M or 4G, in powers of 1024."""
    channels: Annotated[tuple[str, ...], arg(metavar="BAND …")] = ()
    """Bands of the image files in their order, as of zoo train."""
    layout: Literal["hwc", "chw"] | None = None
    """Of .npy files, as of zoo train."""
    nodata: float | None = None
    """The value that says that a pixel is missing, as of zoo train."""
    impute: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="KIND=IMPUTER")] = ()
    """Answer to holes in pixels and channels, as of zoo train."""
    image: str | None = None
    """Column with the image paths."""
    target: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="COLUMN")] = ()
    """Column to learn; the first one decides."""
    group: str | None = None
    """Column whose equal values stay on one side of every split and fold."""
    split: str | None = None
    """Column with train, val or test."""
    stratify: str | None = None
    """Column whose values keep their proportions in every split."""
    test_fraction: float = 0.25
    """As of zoo train."""
    val_fraction: float = 0.15
    """As of zoo train."""
    size: int | None = None
    """Height and width of the images in pixels; by default as each backbone was pretrained."""
    crop: Literal["center", "squash"] | None = None
    """As of zoo train; by default as each backbone was pretrained."""
    batch_size: int = 32
    """Of the fine-tuning."""
    seed: int = 0
    """Of the splits, the folds and every other random draw."""
    device: str | None = None
    """cpu, cuda or cuda:1; by default the GPU where there is one."""
    jobs: int = 1
    """Backbones at a time; with more than one they disturb each other's timing."""
    devices: int = 0
    """GPUs of this machine to spread them over, a process on each."""
    ray: Annotated[str | None, arg(metavar="ADDRESS")] = None
    """Let a Ray cluster compute: auto, local, or ray://HOST:10001; needs pip install "backbone-zoo[ray]". The data must
    lie under the same path on each of its machines."""
    seconds: float = 3600.0
    """A backbone that takes longer is stopped."""
    retry: bool = False
    """Try again what failed."""
    quiet: bool = False
    """Show no progress."""
    json: bool = False
    """Print as JSON."""
