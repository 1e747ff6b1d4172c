"""What a run, and those that it goes on from, used each image file for: `splits.csv`, read by the file's digest."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from zoo.errors import RunError

ORDER = ("unused", "test", "val", "train")
"""Uses, the one that forbids most last."""


def read_splits(run: Path) -> pl.DataFrame:
    """The columns `image`, `digest`, `split` and `run`: which run before used the file, null where this one did.

    Raises:
        RunError: the run's `splits.csv` cannot be read.
    """
    path = run / "splits.csv"
    try:
        frame = pl.read_csv(path, schema_overrides=dict.fromkeys(("image", "digest", "split", "run"), pl.String))
        if "run" not in frame.columns:
            frame = frame.with_columns(run=pl.lit(None, dtype=pl.String))
        return frame.select("image", "digest", "split", "run")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RunError(f"cannot read {path}: {error}") from None


def uses_of(splits: pl.DataFrame) -> dict[str, str]:
    """What each file was used for, by digest; one that stands there twice counts as the use that forbids most."""
    uses: dict[str, str] = {}
    for digest, split in zip(splits["digest"], splits["split"], strict=True):
        if digest and ORDER.index(split) >= ORDER.index(uses.get(digest, "unused")):
            uses[digest] = split
    return uses


def with_inherited(own: pl.DataFrame, before: pl.DataFrame, name: str) -> pl.DataFrame:
    """The rows of a run, and behind them the files that only the run before knows.

    Args:
        own: columns `image`, `digest` and `split`.
        before: what `read_splits` gave of the run before.
        name: of the run before, for the column `run`.
    """
    used = own.filter(pl.col("split") != "unused")["digest"].unique().to_list()
    unseen = before.filter(pl.col("digest").is_not_null(), pl.col("split") != "unused", ~pl.col("digest").is_in(used))
    return pl.concat([own, unseen.with_columns(pl.col("run").fill_null(name))], how="diagonal")
