"""Tables on disk: CSV and Parquet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from zoo.errors import DataError

_SEPARATORS = (",", ";", "\t")
# Spreadsheets write the classes 1 and 2 as 1.0 and 2.0 where the column has a hole.
_WHOLE = r"^\s*([-+]?\d+)\.0*\s*$"


def read_file(path: Path, *, text_targets: Sequence[str] = ()) -> pl.DataFrame:
    """The columns of a CSV (comma, semicolon or tab) or Parquet file.

    All columns of a CSV come as text, so that a path 007 stays 007; what is a number is decided by the column's role.

    Args:
        path: the file.
        text_targets: columns of class labels; in a CSV, `1.0` among them is read as `1`.

    Raises:
        DataError: another kind of file, a damaged one, or one without rows.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path} is no table that can be read here; give one that ends in {', '.join(_READERS)}")
    try:
        frame = reader(path)
    except (PolarsError, OSError) as error:
        raise DataError(f"{path} cannot be read: {str(error).strip().splitlines()[0]}") from None
    if frame.height == 0:
        raise DataError(f"{path} has no rows")
    if reader is _read_parquet:
        return frame
    labels = [name for name in text_targets if name in frame.columns]
    return frame.with_columns(pl.col(labels).str.replace(_WHOLE, "$1"))


def _read_csv(path: Path) -> pl.DataFrame:
    with path.open("rb") as file:
        header = file.readline().decode(errors="replace")
    separator = max(_SEPARATORS, key=header.count)
    return pl.read_csv(path, separator=separator, infer_schema=False)


def _read_parquet(path: Path) -> pl.DataFrame:
    return pl.read_parquet(path)


_READERS: dict[str, Callable[[Path], pl.DataFrame]] = {
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
}
