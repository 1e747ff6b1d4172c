"""Folders of images as tables: `class/image…`, or `train|val|test/class/image…`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from zoo.errors import DataError

# fmt: off
IMAGE_SUFFIXES = frozenset((
    ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga",
    ".tif", ".tiff", ".webp", ".npy",
))
# fmt: on
"""Endings, in lower case, of the files that are taken for images."""

SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""What a split may be called, and what it is called here."""


@dataclass(kw_only=True)
class _Skipped:
    """What a scan passed over, for the notes."""

    hidden: int = 0
    other: set[str] = field(default_factory=set)
    others: int = 0
    loose: int = 0
    empty: list[str] = field(default_factory=list)

    def notes(self) -> tuple[str, ...]:
        said = []
        if self.others:
            said.append(
                f"{self.others} files are no images by their ending ({', '.join(sorted(self.other))}); left out"
            )
        if self.hidden:
            said.append(f"{self.hidden} hidden files or folders were left out")
        if self.loose:
            said.append(f"{self.loose} images lie beside the class folders and were left out")
        if self.empty:
            said.append(f"class folders without an image: {', '.join(self.empty)}")
        return tuple(said)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _entries(folder: Path, skipped: _Skipped) -> list[os.DirEntry[str]]:
    """What lies in `folder`, hidden things left out, in the order of names."""
    try:
        with os.scandir(folder) as scan:
            found = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"folder {folder} cannot be read: {error.strerror}") from None
    shown = [entry for entry in found if not _is_hidden(entry.name)]
    skipped.hidden += len(found) - len(shown)
    return shown


def _images(folder: Path, skipped: _Skipped, seen: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Every image below `folder`; `seen` stops links that lead back to where they came from."""
    real = os.path.realpath(folder)
    if real in seen:
        return
    for entry in _entries(folder, skipped):
        if entry.is_dir():
            yield from _images(Path(entry.path), skipped, seen | {real})
        elif _is_image(entry.name, skipped):
            yield Path(entry.path)


def _is_image(name: str, skipped: _Skipped) -> bool:
    suffix = Path(name).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return True
    skipped.others += 1
    skipped.other.add(suffix or "no ending")
    return False


def images_below(paths: Iterable[Path]) -> tuple[list[Path], tuple[str, ...]]:
    """Files as they are and every image below the folders among `paths`, with notes on what was left out."""
    skipped, found = _Skipped(), list[Path]()
    for path in paths:
        found.extend(_images(path, skipped) if path.is_dir() else [path])
    return found, skipped.notes()


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """What a folder of classes holds.

    Attributes:
        columns: `image` (relative to the folder), `label` and, where the folder is split, `split`.
        loose: whether images lie directly in the folder and no class folder is there.
        notes: what was left out.
    """

    columns: dict[str, list[str]]
    loose: bool
    notes: tuple[str, ...]


def scan_folder(root: Path) -> Scan:
    """Read `class/image…` or `train|val|test/class/image…` below `root`, folders below a class included.

    Raises:
        DataError: no image at all, split folders beside others, or one split folder without classes.
    """
    skipped = _Skipped()
    folders = _folders(root, skipped)
    splits = _are_splits(root, folders)
    rows = list(_split_rows(root, folders, skipped) if splits else _class_rows(root, folders, skipped))
    if not rows and not skipped.loose:
        seen = f" ({skipped.others} files there end in {', '.join(sorted(skipped.other))})" if skipped.others else ""
        raise DataError(f"there is no image in {root}{seen}; images end in {', '.join(sorted(IMAGE_SUFFIXES))}")
    columns = {"image": [image for image, _, _ in rows], "label": [label for _, label, _ in rows]}
    if splits:
        columns["split"] = [split for _, _, split in rows]
    return Scan(columns=columns, loose=not rows, notes=skipped.notes())


def _folders(folder: Path, skipped: _Skipped) -> list[Path]:
    """The folders in `folder`; images beside them are counted."""
    entries = _entries(folder, skipped)
    skipped.loose += sum(_is_image(entry.name, skipped) for entry in entries if not entry.is_dir())
    return [Path(entry.path) for entry in entries if entry.is_dir()]


def _are_splits(root: Path, folders: list[Path]) -> bool:
    """Whether these are folders of splits and not of classes; without a `train`, a class may be called `test`."""
    names = [folder.name for folder in folders]
    others = [name for name in names if name.lower() not in SPLIT_NAMES]
    if others and "train" in map(str.lower, names):
        splits = [name for name in names if name not in others]
        raise DataError(
            f"{root} holds folders of splits ({', '.join(splits)}) beside others ({', '.join(others)}); "
            "move the others away, or name no class train, val or test"
        )
    return bool(names) and not others


def _class_rows(root: Path, labels: list[Path], skipped: _Skipped, split: str = "") -> Iterator[tuple[str, str, str]]:
    """(image, class, split) of every image below the class folders `labels`."""
    for label in labels:
        images = [path.relative_to(root).as_posix() for path in _images(label, skipped)]
        if not images:
            skipped.empty.append(label.relative_to(root).as_posix())
        yield from ((image, label.name, split) for image in images)


def _split_rows(root: Path, splits: list[Path], skipped: _Skipped) -> list[tuple[str, str, str]]:
    rows: list[tuple[str, str, str]] = []
    flat: list[str] = []
    for folder in splits:
        loose = skipped.loose
        labels = _folders(folder, skipped)
        if not labels and skipped.loose > loose:
            flat.append(folder.name)
        rows += _class_rows(root, labels, skipped, SPLIT_NAMES[folder.name.lower()])
    if rows and flat:
        raise DataError(
            f"in {root}, {', '.join(flat)} holds images but no class folders, unlike the other splits; put each image "
            "in a folder named by its class, or move the folder away (`zoo predict` takes images without classes)"
        )
    return rows
