"""What the commands take that use runs, and the demo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from zoo.config.marks import Positional, UseAppendAction, arg


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Score a run on labelled data.

    On the data that the run was made from only its held-out rows count, unless --rows says otherwise.
    """

    run: Positional[Path]
    """The run folder."""
    data: Positional[str]
    """Folder, CSV or Parquet file, or the name of a data set."""
    rows: Literal["held-out", "test", "val", "train", "all"] = "held-out"
    """Which rows count; held-out are those that the run neither trained on nor chose its epoch by."""
    image: str | None = None
    """Column with the image paths."""
    target: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="COLUMN")] = ()
    """Column with the labels, in the order of the run's targets; by default the run's own names."""
    channels: Annotated[tuple[str, ...], arg(metavar="BAND …")] = ()
    """Bands of these files in their order, where it is not that of the training files; matched by name."""
    layout: Literal["hwc", "chw"] | None = None
    """Of .npy files, where it is not that of the training files: bands last or first."""
    prior: str | None = None
    """Correct probabilities for another class prior: em estimates it on the rows given, all of them together;
    {ok: 0.9, crack: 0.1} gives it."""
    bad_files: Literal["stop", "drop"] = "stop"
    """What to do about files that cannot be read."""
    out: Path | None = None
    """Write the predictions of the scored rows to this CSV file."""
    device: str | None = None
    """cpu, cuda or cuda:1; by default the GPU where there is one."""
    workers: int | None = None
    """Threads that decode images."""
    quiet: bool = False
    """Show no progress."""
    json: bool = False
    """Print the metrics as JSON."""


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Predict the classes of images with a run."""

    run: Positional[Path]
    """The run folder."""
    images: Positional[tuple[str, ...]]
    """Image files or folders of images; or one CSV or Parquet file, or data set, with the covariates beside them."""
    out: Path | None = None
    """Write the predictions to this CSV file; by default they are printed."""
    image: str | None = None
    """Column with the image paths, where a table is given."""
    channels: Annotated[tuple[str, ...], arg(metavar="BAND …")] = ()
    """Bands of these files in their order, where it is not that of the training files; matched by name."""
    layout: Literal["hwc", "chw"] | None = None
    """Of .npy files, where it is not that of the training files: bands last or first."""
    prior: str | None = None
    """Correct probabilities for another class prior: em estimates it on the images given, all of them together;
    {ok: 0.9, crack: 0.1} gives it."""
    bad_files: Literal["stop", "drop"] = "stop"
    """What to do about files that cannot be read; drop leaves them out and says so."""
    device: str | None = None
    """cpu, cuda or cuda:1; by default the GPU where there is one."""
    workers: int | None = None
    """Threads that decode images."""
    quiet: bool = False
    """Show no progress."""
    json: bool = False
    """Print the predictions as JSON."""


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Fine-tune EfficientNet-Lite0 on 2,624 real images of solar cells, offline, and compare with published figures."""

    out: Path = Path("runs/demo")
    """Folder for the demo's runs; they are made anew each time."""
    splits: int = 5
    """Number of random splits; the features are computed once for all of them."""
    quiet: bool = False
    """Show no progress."""
    json: bool = False
    """Print the figures as JSON."""
