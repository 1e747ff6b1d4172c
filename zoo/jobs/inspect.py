"""What is missing in data, and what else training would meet: found, counted and drawn before anything is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.config import InspectConfig
from zoo.data.band_statistics import with_statistics
from zoo.data.bands import check_nodata, file_bands, pixel_type, wanted_bands
from zoo.data.cache import make_room
from zoo.data.covariates import blank_cells
from zoo.data.hole_counts import count_holes
from zoo.data.images import Images
from zoo.data.ingest import ingest
from zoo.data.labels import check_classes, label_holes, label_strata, label_texts
from zoo.data.split_words import EMPTY, NAMES
from zoo.data.splits import Splits, make_splits
from zoo.data.table import Table, read_table
from zoo.data.tasks import check_complete, fix_tasks
from zoo.disk import cache_folder
from zoo.errors import DataError, RunError, ZooError
from zoo.jobs.hole_views import places, thumbnails
from zoo.jobs.image_holes import hole_columns, told
from zoo.jobs.options import named_options
from zoo.jobs.progress import Reporter
from zoo.report.hole_pictures import hole_matrix
from zoo.report.inspect_page import render_inspection
from zoo.run.files import to_json, write_whole
from zoo.run.filling import Filling
from zoo.specs import InputSpec, parse_kinds

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What was found.

    Attributes:
        folder: where `inspect.html`, `inspect.json` and `inspect.png` are.
        found: what stands in `inspect.json`.
    """

    folder: Path
    found: Mapping[str, Any]


def inspect(data: str | Path, *, out: str | Path = "runs/inspect", **options: Any) -> Inspection:
    """Holes, bad files, labels and equal files of data; the same as `zoo inspect`.

    Args:
        data: folder, CSV or Parquet file, or the name of a data set.
        out: folder for `inspect.html`, `inspect.json` and `inspect.png`.
        options: fields of `zoo.config.InspectConfig`, such as `target="defect"`.

    Raises:
        ZooError: with one clear message, for everything that the caller can mend.
    """
    given = named_options("inspect", [field.name for field in fields(InspectConfig)], options)
    config = InspectConfig(data=str(data), out=Path(out), **{"quiet": True, **given})
    return run_inspection(config, Reporter(quiet=config.quiet))


def run_inspection(config: InspectConfig, reporter: Reporter) -> Inspection:
    """Read every file, find what is missing, and write the page, the figures and the picture.

    Raises:
        DataError: there is no table to look at.
        RunError: the folder cannot be written.
    """
    if config.size < 1:
        raise ZooError(f"--size must be at least 1, not {config.size}")
    table = read_table(
        config.data,
        image=config.image,
        targets=config.target,
        covariates=config.covariate,
        kinds=parse_kinds(config.task),
        group=config.group,
        split=config.split,
        stratify=config.stratify,
        need_targets=False,
    )
    if not len(table):
        raise DataError(f"{config.data} has no rows")
    images, room = _read(config, table, reporter)
    splits, problems = _splits(config, table, images)
    holes = _holes(table, images)
    by = table.roles.targets[0] if table.roles.targets else None
    found = {
        "format": FORMAT,
        "data": table.name,
        "licence": table.licence,
        "target": by,
        "rows": len(table),
        "splits": {"how": splits.how, **{name: len(getattr(splits, name)) for name in NAMES}},
        "classes": {target: _classes(table, target, splits) for target in table.roles.targets},
        "holes": count_holes(table, by, splits, holes),
        "bad_files": [
            {"row": row, "image": table.frame[table.roles.image][row], "reason": why} for row, why in images.bad.items()
        ],
        "equal_files": _equal_files(table, images, splits),
        "problems": problems,
        "notes": [*table.notes, *told(images, splits, Filling.planned({})), *room, *images.problems],
    }
    order = _order(splits, len(table))
    matrix = hole_matrix({name: own[order] for name, own in holes.items() if own.any()}, _borders(splits, len(table)))
    page = render_inspection(found, matrix, places(images), thumbnails(table, images))
    try:
        config.out.mkdir(parents=True, exist_ok=True)
        write_whole(config.out / "inspect.json", to_json(found))
        if matrix:
            write_whole(config.out / "inspect.png", matrix)
        else:
            (config.out / "inspect.png").unlink(missing_ok=True)  # of an earlier look
        write_whole(config.out / "inspect.html", page)
    except OSError as error:
        raise RunError(f"cannot write to {config.out}: {error.strerror or error}") from None
    return Inspection(folder=config.out, found=found)


def _read(config: InspectConfig, table: Table, reporter: Reporter) -> tuple[Images, tuple[str, ...]]:
    """Every image, squeezed whole so that no hole is cut away; and sentences about room in the cache."""
    size = (config.size, config.size)
    spec = InputSpec(size=size, resize=config.size, crop="squash", nodata=config.nodata)
    if config.channels:
        bands = wanted_bands(config.channels)
        spec = replace(spec, mean=(0.5,) * len(bands), std=(0.25,) * len(bands), bands=bands, layout=config.layout)
        spec = replace(spec, file_bands=file_bands(config.channels, bands))
        spec = replace(spec, dtype=pixel_type(table.paths, spec))
    check_nodata(config.nodata, spec.dtype)
    cache = cache_folder()
    with reporter.bar("reading images", "images") as progress:
        images = ingest(table.paths, spec, cache / "images", workers=config.workers, progress=progress)
    with suppress(DataError):  # a channel of which no file knows a pixel: it stands among the holes
        images, _ = with_statistics(images, np.flatnonzero(images.ids >= 0))
    return images, make_room(cache)


def _splits(config: InspectConfig, table: Table, images: Images) -> tuple[Splits, list[str]]:
    """The rows of each split that `zoo train` would make, and what it would stop at."""
    usable = images.ids >= 0
    problems = []
    if images.bad:
        problems.append(
            f"{len(images.bad)} of {len(table)} image files cannot be read; zoo train stops at them unless they are "
            "repaired, or left out with --bad-files drop"
        )
    whole = Splits(train=np.flatnonzero(usable), val=EMPTY, test=EMPTY, how="not split")
    if not table.roles.targets:
        return replace(whole, how="not split: no target is named"), problems
    try:
        splits = make_splits(table, usable, test=config.test_fraction, val=config.val_fraction, seed=config.seed)
    except DataError as error:
        return whole, [*problems, f"zoo train would stop: {error}"]
    try:
        tasks = fix_tasks(table, splits.train)
        check_complete(table, tasks, splits.train)
        check_classes(table, tasks, {"val": splits.val, "test": splits.test})
    except DataError as error:
        problems.append(f"zoo train would stop: {error}")
    return splits, problems


def _holes(table: Table, images: Images) -> dict[str, NDArray[np.bool_]]:
    """By column, bool (N,): rows in which a value is missing; files, pixels, channels, labels, then other columns."""
    roles = table.roles
    unread = images.ids < 0
    found = {f"{roles.image} (file)": unread, **hole_columns(images, roles.image)}
    found |= dict(zip(roles.targets, label_holes(table).T, strict=True))
    taken = {roles.image, *roles.targets, roles.split, roles.group, roles.weight}
    others = roles.covariates or tuple(name for name in table.frame.columns if name not in taken)
    named = [name for name in (*others, roles.group, roles.weight, roles.split) if name is not None]
    return found | {name: blank_cells(table.frame[name]) for name in named}


def _classes(table: Table, target: str, splits: Splits) -> list[dict[str, Any]]:
    """Rows of each class (range of numbers, rarest label): in all, and in each split."""
    texts, names = label_strata(table, target)
    parts = {name: Counter(texts[row] for row in getattr(splits, name).tolist()) for name in NAMES}
    every = Counter(texts)
    return [{"name": name, "rows": every[name], **{part: own[name] for part, own in parts.items()}} for name in names]


def _equal_files(table: Table, images: Images, splits: Splits) -> list[dict[str, Any]]:
    """Groups of rows with one and the same file content: in which splits they stand, and with which labels."""
    good = np.flatnonzero(images.ids >= 0)
    keys = np.ascontiguousarray(images.digests[good]).view("S16").reshape(-1)
    homes = {int(row): name for name in NAMES for row in getattr(splits, name).tolist()}
    target = table.roles.targets[0] if table.roles.targets else None
    labels = label_texts(table, target) if target and table.kind(target).kind != "regression" else [None] * len(table)
    groups: dict[bytes, list[int]] = {}
    for row, key in zip(good.tolist(), keys.tolist(), strict=True):
        groups.setdefault(key, []).append(row)
    return [
        {
            "rows": rows,
            "images": [table.frame[table.roles.image][row] for row in rows],
            "splits": sorted({homes[row] for row in rows if row in homes}, key=NAMES.index),
            "labels": sorted({own for row in rows if (own := labels[row]) is not None}),
        }
        for rows in groups.values()
        if len(rows) > 1
    ]


def _order(splits: Splits, rows: int) -> NDArray[np.int64]:
    """All rows: those of each split, then those of none."""
    parts = [getattr(splits, name) for name in NAMES]
    return np.concatenate([*parts, np.setdiff1d(np.arange(rows), np.concatenate(parts))])


def _borders(splits: Splits, rows: int) -> dict[str, int]:
    """How many rows of that order belong to each split that has any; those of none are `in no split`."""
    counts = {name: len(getattr(splits, name)) for name in NAMES}
    counts["in no split"] = rows - sum(counts.values())
    return {name: count for name, count in counts.items() if count}
