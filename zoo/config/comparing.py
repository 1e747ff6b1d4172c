"""What the command takes that compares strategies against class imbalance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from zoo.config.marks import Suppress, UseAppendAction, arg
from zoo.config.runs import TrainConfig


@dataclass(frozen=True, kw_only=True)
class CompareConfig(TrainConfig):
    """Try strategies against class imbalance on your images, over several seeds, beside training without any.

    Each is trained as `zoo train` does it with the same options: its figures are those of such a run. The best is
    chosen on validation rows; figures of the test rows stand beside and decide nothing. Features of the frozen part are
    computed once for all. What is done is not done again by the same command.
    """

    out: Path = Path("runs/compare")
    """Folder for compare.html, compare.json, compare.png and rows.jsonl, by which the command goes on."""
    backbone: str | None = None
    """Which backbone, as source/model or source/model.tag; `zoo list` shows them."""
    target: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="COLUMN")] = ()
    """Column to learn; of several the first is what strategies are for."""
    imbalance: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="STRATEGY")] = ()
    """What to try, such as logit-adjust(tau=0.5) or class-weights+focal; repeat for several. all, which is meant where
    nothing is said, stands for every strategy that there is, each as its name alone means it."""
    metric: str = "balanced_accuracy"
    """By which they are sorted and chosen: balanced_accuracy, macro_f1, recall(NAME), … Each run chooses its epoch by
    log loss, as `zoo train` does where nothing is said."""
    seeds: int = 5
    """Runs of each strategy. A seed decides the split too, unless the data name one."""
    seed: int = 0
    """The first seed."""
    jobs: int = 1
    """Seeds at a time."""
    seconds: float = 3600.0
    """A run that takes longer is stopped."""
    retry: bool = False
    """Try again what failed."""
    csv: bool = False
    """Print the table as CSV."""
    start: Suppress[str | None] = None
    explain: Suppress[bool] = False
    find_lr: Suppress[bool] = False
    find_lr_range: Suppress[tuple[float, float]] = (1e-7, 10.0)
    find_lr_steps: Suppress[int] = 100
    devices: Suppress[int | None] = None
    workers: Suppress[int | None] = None
    save_every: Suppress[float] = 60.0
    overwrite: Suppress[bool] = False


WITHOUT = frozenset(
    {"start", "explain", "find_lr", "find_lr_range", "find_lr_steps", "devices", "workers", "save_every", "overwrite"}
)
"""Options of `zoo train` that a comparison does not have."""

OWN = frozenset({"out", "imbalance", "metric", "seeds", "seed", "jobs", "seconds", "retry", "csv", "json", "quiet"})
"""What is about the comparison, and not about each of its runs."""
