"""The records of a data set: a table whose columns have roles, and the folder of its images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.specs.records import API_VERSION, check_record


@dataclass(frozen=True, kw_only=True, slots=True)
class Roles:
    """Which column of a table means what; names of columns.

    Attributes:
        image: path of the image, relative to the table's folder or absolute.
        targets: what is to be learned, the default first.
        covariates: numbers or categories beside the image.
        group: rows with the same value stay on one side of every split (a patient, a module).
        weight: of each row in the loss and in no metric.
        split: `train`, `val` or `test` by row.
        stratify: kept in proportion in every split that is drawn, beside the classes of the first target; may have
            another role too.
    """

    image: str = "image"
    targets: tuple[str, ...] = ()
    covariates: tuple[str, ...] = ()
    group: str | None = None
    weight: str | None = None
    split: str | None = None
    stratify: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetTable:
    """What a data-set plugin gives: columns of equal length, their roles, and the folder of the images.

    Attributes:
        columns: by name; strings or numbers, None for a hole.
        roles: `targets` holds the target that is used where the user names none.
        root: what relative image paths start from.
        offers: every column that may serve as a target, with a sentence about it.
    """

    columns: Mapping[str, Sequence[Any]]
    roles: Roles
    root: Path
    offers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetRecord:
    """A data set that a plugin offers by name.

    Attributes:
        name: as in `zoo train elpv`.
        load: reads it; raises `zoo.errors.DataError` with what to install where files are missing.
        licence: of the data.
        notes: what must be said beside every figure, such as that groups are unknown.
    """

    name: str
    load: Callable[[], DatasetTable]
    licence: str
    notes: tuple[str, ...] = ()
    summary: str = ""
    api: int = API_VERSION

    def __post_init__(self) -> None:
        check_record("data set", self.name, self.api)
