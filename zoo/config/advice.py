"""What the commands take that look at data: what is missing in them, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from zoo.config.marks import Positional, UseAppendAction, arg


@dataclass(frozen=True, kw_only=True)
class AdviseConfig:
    """Say which class to collect more images of, which images are near-duplicates, and which labels look wrong.

    Everything is computed from features of a frozen backbone, those that `zoo train --freeze head` keeps too. Curves
    and labels use training and validation rows alone; only near-duplicates are looked for among the test rows as well.
    """

    data: Positional[str]
    """Folder, CSV or Parquet file, or the name of a data set."""
    backbone: str
    """Which backbone, as source/model or source/model.tag; `zoo list` shows them."""
    out: Path = Path("runs/advise")
    """Folder for advise.html and advise.json, which are made anew each time."""
    target_recall: float = 0.9
    """For each class, how many more images would bring its recall there?"""
    per_class: bool = True
    """Each class has fewer rows while the others keep theirs: what images of that class alone would bring. With
    --no-per-class all have fewer at once: one series of fits instead of one for each class, for many classes."""
    sizes: int = 6
    """Subsets of each class, nested; at least 5."""
    orders: int = 5
    """Random orders in which rows join the subsets; at least 3."""
    labels: bool = True
    """Look for labels that the features contradict; needs the extra advise."""
    duplicates: float = 0.98
    """Cosine of two images' features, their mean taken off, from which they count as near-duplicates."""
    weights: str | None = None
    """Weight tag of the backbone, a file of weights or the folder of a run."""
    size: int | None = None
    """Height and width of the images in pixels; by default as the backbone was pretrained."""
    features: str | None = None
    """Feature kind, such as pooled or cls; by default the backbone's own."""
    crop: Literal["center", "squash"] | None = None
    """Cut the centre out of each image, or squeeze the whole image to the input's shape."""
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
    target: str | None = None
    """Column with the classes."""
    group: str | None = None
    """Column whose equal values stay on one side of every split (a patient, a module)."""
    split: str | None = None
    """Column with train, val or test."""
    stratify: str | None = None
    """Column whose values keep their proportions in every split."""
    test_fraction: float = 0.25
    """Share of the rows that is held out, as in zoo train: the same seed holds out the same rows."""
    val_fraction: float = 0.3
    """Share of the remaining rows that measures the curves; more than in zoo train, because recalls of rare classes are
    uncertain when few rows measure them."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of the backbone; auto takes bf16 where it is faster here, and its features serve as well."""
    deterministic: bool = False
    """Measure nothing, decide by rule, and let torch use deterministic algorithms alone."""
    bad_files: Literal["stop", "drop"] = "stop"
    """What to do about files that cannot be read: stop with their list, or drop them within the caps."""
    max_bad: float = 0.01
    """Largest share of all rows that --bad-files drop may drop."""
    max_bad_class: float = 0.05
    """Largest share of one class that --bad-files drop may drop."""
    seed: int = 0
    """Of the split, the orders and the resamples."""
    device: str | None = None
    """cpu, cuda or cuda:1; by default the GPU where there is one."""
    workers: int | None = None
    """Threads that decode images; by default one a core."""
    quiet: bool = False
    """Show no progress."""
    json: bool = False
    """Print the result as JSON."""


@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """Look at data before anything is trained: what is missing where, files that cannot be read, labels, equal files.

    Nothing is refused that can be read at all: what `zoo train` would stop at is said. Nothing but decoded images is
    kept.
    """

    data: Positional[str]
    """Folder, CSV or Parquet file, or the name of a data set."""
    out: Path = Path("runs/inspect")
    """Folder for inspect.html, inspect.json and inspect.png, which are made anew each time."""
    image: str | None = None
    """Column with the image paths."""
    target: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="COLUMN")] = ()
    """Column with labels; repeat for several. The first one is what holes are held against."""
    task: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="TARGET=KIND")] = ()
    """What a target is, as of zoo train."""
    covariate: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="COLUMN")] = ()
    """Column beside the image; by default every other column of the table is looked at."""
    group: str | None = None
    """Column whose equal values stay on one side of every split (a patient, a module)."""
    split: str | None = None
    """Column with train, val or test."""
    stratify: str | None = None
    """Column whose values keep their proportions in every split."""
    test_fraction: float = 0.25
    """Share of the rows that is held out, as in zoo train: the same seed holds out the same rows."""
    val_fraction: float = 0.15
    """Share of the remaining rows for validation, as in zoo train."""
    channels: Annotated[tuple[str, ...], arg(metavar="BAND …")] = ()
    """Bands of the image files in their order, as of zoo train."""
    layout: Literal["hwc", "chw"] | None = None
    """Of .npy files, as of zoo train."""
    nodata: float | None = None
    """The value that says that a pixel is missing, as of zoo train."""
    size: int = 224
    """Height and width in pixels to which images are squeezed for this; holes are found in their own pixels before."""
    seed: int = 0
    """Of the split."""
    workers: int | None = None
    """Threads that decode images; by default one a core."""
    quiet: bool = False
    """Show no progress."""
    json: bool = False
    """Print the result as JSON."""
