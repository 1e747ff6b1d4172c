"""The table of samples: one row per image, and which column plays which role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from zoo.data.files import read_file
from zoo.data.folders import IMAGE_SUFFIXES, images_below, scan_folder
from zoo.data.label_sets import join_columns, join_lists
from zoo.data.roles import settle_roles
from zoo.errors import DataError, UnknownNameError
from zoo.registry.guard import guarded
from zoo.registry.lookup import DATASETS, suggest
from zoo.specs import DatasetRecord, DatasetTable, Roles, TargetKind

IMAGE_COLUMNS = ("image", "path", "file", "filename")
"""Names of columns that are taken for the image's path where the user names none, the first that is there."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Images and what is known about them.

    Attributes:
        name: of the data, for reports.
        frame: one row per image; null is the only hole (empty text and NaN were turned into it).
        roles: which column means what.
        root: absolute folder that relative image paths start from.
        licence: of the data, or an empty string where nobody stated it.
        notes: what must be known beside every figure, for people.
        kinds: of targets, by name, as the user or a data set's author says; of others nobody has said anything.
    """

    name: str
    frame: pl.DataFrame
    roles: Roles
    root: Path
    licence: str = ""
    notes: tuple[str, ...] = ()
    kinds: Mapping[str, TargetKind] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.frame.height

    @cached_property
    def paths(self) -> list[Path]:
        """Absolute path of each image; `root` itself, which no image can be, where the row names none."""
        return [self.root / (path or "") for path in self.frame[self.roles.image].to_list()]

    def take(self, rows: NDArray[np.int64]) -> Table:
        """The table of `rows`, positions in this one, in their order."""
        return replace(self, frame=self.frame[rows])

    def kind(self, target: str) -> TargetKind:
        """What kind of task a target is."""
        return self.kinds.get(target, TargetKind())


def read_table(
    data: str | Path,
    *,
    image: str | None = None,
    targets: Sequence[str] = (),
    covariates: Sequence[str] = (),
    group: str | None = None,
    weight: str | None = None,
    split: str | None = None,
    stratify: str | None = None,
    need_targets: bool = True,
    kinds: Mapping[str, TargetKind] | None = None,
) -> Table:
    """Read a folder, a CSV or Parquet file, or the data set of a plugin; what exists as a path is read as one.

    Args:
        data: the folder, the file, or the name of the data set.
        image: column of the image paths; a file is searched for one of `IMAGE_COLUMNS` where none is named. As for
            every role, a folder brings `image`, `label` and perhaps `split`, and a data set the roles of its own.
        targets: columns to learn.
        covariates: columns beside the image.
        group: column whose equal values stay on one side of every split.
        weight: column with the weight of each row.
        split: column with `train`, `val` or `test`.
        stratify: column whose values keep their proportions in every split that is drawn.
        need_targets: whether the images must be labelled.
        kinds: of targets, which need not stand in `targets` too; a multilabel one may join columns of 0 and 1.

    Raises:
        DataError: nothing of that name, a file that cannot be read, a column that is not there or has two roles.
    """
    kinds = kinds or {}
    asked = Roles(
        image=image or "",
        targets=tuple(dict.fromkeys([*targets, *kinds])),
        covariates=tuple(covariates),
        group=group,
        weight=weight,
        split=split,
        stratify=stratify,
    )
    path = Path(data).expanduser()
    if path.is_dir():
        table = _read_folder(path.resolve(), asked, need_targets)
    elif path.exists():
        table = _read_file(path.resolve(), asked, need_targets, kinds)
    else:
        table = _read_dataset(str(data), asked, kinds)
    if need_targets and not table.roles.targets:
        columns = ", ".join(table.frame.columns)
        raise DataError(
            f"{data}: no target is named; name the column to learn with --target. The columns are {columns}"
        )
    return replace(table, kinds={**table.kinds, **kinds})


def _joined(frame: pl.DataFrame, kinds: Mapping[str, TargetKind]) -> pl.DataFrame:
    """The frame with a column of sets for each target that joins columns, or whose cells are lists."""
    for target, kind in kinds.items():
        if kind.kind == "multilabel" and kind.names:
            frame = join_columns(frame, target, kind.names)
        elif kind.kind == "multilabel" and target in frame.columns and frame.schema[target].is_nested():
            frame = frame.with_columns(join_lists(frame[target]))
    return frame


def with_targets(table: Table, names: Sequence[str]) -> Table:
    """The table with its target columns called `names`, in their order; a column that bore such a name gives way."""
    renamed = dict(zip(table.roles.targets, names, strict=True))
    clashing = [name for name in names if name in table.frame.columns and name not in renamed]
    stratify = table.roles.stratify and renamed.get(table.roles.stratify, table.roles.stratify)
    roles = replace(table.roles, targets=tuple(names), stratify=stratify)
    kinds = {renamed.get(name, name): kind for name, kind in table.kinds.items()}
    return replace(table, frame=table.frame.drop(clashing).rename(renamed), roles=roles, kinds=kinds)


def table_of_images(paths: Sequence[Path]) -> Table:
    """A table of image files without labels; folders among `paths` stand for every image below them.

    Raises:
        DataError: there is no image in the folders, or no path at all.
    """
    found, notes = images_below(paths)
    if not found:
        raise DataError(f"there is no image in {', '.join(map(str, paths)) or 'an empty list of paths'}")
    frame = pl.DataFrame({"image": [str(path.absolute()) for path in found]}, schema={"image": pl.String})
    name = paths[0].name if len(paths) == 1 else "images"
    return Table(name=name, frame=frame, roles=Roles(), root=Path.cwd(), notes=notes)


def _read_folder(root: Path, asked: Roles, need_targets: bool) -> Table:
    scan = scan_folder(root)
    if scan.loose:
        if need_targets:
            raise DataError(
                f"the images in {root} lie in no class folders; put each in a folder named by its class, "
                "or give a CSV file with --image and --target"
            )
        return replace(table_of_images([root]), roles=settle_roles(root.name, ["image"], asked, Roles()))
    own = Roles(targets=("label",), split="split" if "split" in scan.columns else None)
    roles = settle_roles(f"the folder {root}", list(scan.columns), asked, own)
    frame = pl.DataFrame(scan.columns, schema=dict.fromkeys(scan.columns, pl.String))
    kinds = {"label": TargetKind()}  # whatever the folders are called
    return Table(name=root.name, frame=frame, roles=roles, root=root, notes=scan.notes, kinds=kinds)


def _read_file(path: Path, asked: Roles, need_targets: bool, kinds: Mapping[str, TargetKind]) -> Table:
    if path.suffix.lower() in IMAGE_SUFFIXES and not need_targets:
        return table_of_images([path])
    frame = _joined(read_file(path, text_targets=asked.targets), kinds)
    if not asked.image:
        asked = replace(asked, image=_image_column(path, frame.columns))
    roles = settle_roles(str(path), frame.columns, asked, Roles())
    return Table(name=path.stem, frame=_tidied(frame, roles), roles=roles, root=path.parent)


def _image_column(path: Path, columns: list[str]) -> str:
    for name in IMAGE_COLUMNS:
        if name in columns:
            return name
    raise DataError(f"{path}: name the column of image paths with --image. The columns are {', '.join(columns)}")


def _read_dataset(name: str, asked: Roles, kinds: Mapping[str, TargetKind]) -> Table:
    record: DatasetRecord
    try:
        record = DATASETS.get(name)
    except UnknownNameError as error:
        path = Path(name)
        hint = suggest(path.name, _siblings(path)) or "."
        raise DataError(f"there is no file or folder {name}{hint} As the name of a data set: {error}") from None
    with guarded(DATASETS.home(name), f"data set {name}"):
        given = record.load()
    frame = pl.DataFrame({key: pl.Series(key, list(values), strict=False) for key, values in given.columns.items()})
    frame = _joined(frame, kinds)
    roles = settle_roles(f"data set {record.name}", frame.columns, asked, given.roles)
    _check_offered(record.name, [name for name in roles.targets if name in given.columns], given)
    return Table(
        name=record.name,
        frame=_tidied(frame, roles),
        roles=roles,
        root=given.root.absolute(),
        licence=record.licence,
        notes=record.notes,
        kinds={name: TargetKind() for name in roles.targets if frame.schema[name] == pl.String},  # as its author says
    )


def _siblings(path: Path) -> list[str]:
    folder = path.expanduser().absolute().parent
    return [entry.name for entry in folder.iterdir()] if folder.is_dir() else []


def _check_offered(name: str, targets: Sequence[str], given: DatasetTable) -> None:
    offered = {**dict.fromkeys(given.roles.targets, ""), **given.offers}
    for target in targets:
        if target not in offered:
            listed = ", ".join(f"{key} ({about})" if about else key for key, about in offered.items())
            raise DataError(f"data set {name}: {target!r} is no target; it offers {listed}{suggest(target, offered)}")


def _spelled(column: str) -> pl.Expr:
    return pl.col(column).str.strip_chars().str.to_lowercase()


def _tidied(frame: pl.DataFrame, roles: Roles) -> pl.DataFrame:
    """Image paths as text; empty text and NaN, as a number or as a program writes it into a CSV, turned into null."""
    frame = frame.with_columns(pl.col(roles.image).cast(pl.String))
    text = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    floats = [name for name, dtype in frame.schema.items() if dtype.is_float()]
    return frame.with_columns(
        *(pl.when(~_spelled(name).is_in(["", "nan"])).then(pl.col(name)).alias(name) for name in text),
        *(pl.col(name).fill_nan(None) for name in floats),
    )
