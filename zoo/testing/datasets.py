"""What a data set promises: a table whose roles, targets, images and licence are there, and a folder left alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path

from zoo.data.labels import label_text
from zoo.errors import DataError
from zoo.specs import DatasetRecord, DatasetTable
from zoo.testing.check import Check, NotApplicable, require
from zoo.testing.fingerprints import fingerprint

MOST_IMAGES = 20
"""Images that are opened, spread over the table."""


class Trial:
    """A data set under test; most checks share one loaded table."""

    def __init__(self, record: DatasetRecord) -> None:
        self.record = record
        self.began: int | None = None

    @cached_property
    def table(self) -> DatasetTable:
        """The table; a check that needs it does not apply where loading fails, which is another check's finding."""
        try:
            return self.load()
        except Exception as error:
            raise NotApplicable(f"it does not load: {error}") from None

    def load(self) -> DatasetTable:
        """Load it, and remember when that was done first."""
        self.began = self.began or time.time_ns()
        return self.record.load()

    @property
    def rows(self) -> int:
        """Length of the longest column."""
        return max((len(values) for values in self.table.columns.values()), default=0)


def dataset_checks(record: DatasetRecord) -> list[Check]:
    """The checks of one data set."""
    subject, trial = f"data set {record.name}", Trial(record)
    return [Check(subject=subject, name=name, run=partial(run, trial)) for name, run in CHECKS.items()]


def loads(trial: Trial) -> None:
    """It loads, or says what to install."""
    try:
        table = trial.load()
    except DataError as error:
        if "install" in str(error):
            raise NotApplicable(str(error)) from None
        require(False, f"it does not load, and does not say what to install: {error}")
        return
    require(isinstance(table, DatasetTable), f"load gives {table!r}, which is no DatasetTable")


def has_equal_columns(trial: Trial) -> None:
    """Every column has one value a row, and there are rows."""
    lengths = {name: len(values) for name, values in trial.table.columns.items()}
    require(trial.rows > 0, "the table has no rows")
    require(len(set(lengths.values())) == 1, f"columns differ in length: {lengths}")


def names_columns(trial: Trial) -> None:
    """Every role is played by a column of the table."""
    roles, columns = trial.table.roles, trial.table.columns
    named = {role: getattr(roles, role) for role in ("image", "group", "weight", "split", "stratify")}
    listed = [(role, name) for role, name in named.items() if name is not None]
    listed += [("targets", name) for name in roles.targets] + [("covariates", name) for name in roles.covariates]
    for role, name in listed:
        require(name in columns, f"role {role} names the column {name!r}; there are {', '.join(columns)}")


def has_classes(trial: Trial) -> None:
    """The target that is used where the user names none has at least two classes."""
    table = trial.table
    require(bool(table.roles.targets), "roles.targets names no default target")
    target = table.roles.targets[0]
    classes = {label_text(value) for value in table.columns.get(target, ())} - {None}
    found = ", ".join(sorted(map(str, classes))) or "none"
    require(len(classes) >= 2, f"the default target {target!r} has fewer than two classes: {found}")


def describes_offers(trial: Trial) -> None:
    """Every target on offer is a column, with a sentence about it."""
    table = trial.table
    if not table.offers:
        raise NotApplicable("it offers its default target alone")
    for name, sentence in table.offers.items():
        require(name in table.columns, f"it offers {name!r}, which is no column; there are {', '.join(table.columns)}")
        require(bool(sentence.strip()), f"it offers {name!r} without a sentence about it")


def images_decode(trial: Trial) -> None:
    """Image files exist and can be decoded: a sample that is spread over the table."""
    from PIL import Image

    table = trial.table
    paths = [path for path in table.columns.get(table.roles.image, ()) if path is not None]
    require(bool(paths), f"column {table.roles.image!r} names no image")
    count = min(MOST_IMAGES, len(paths))
    for position in sorted({index * (len(paths) - 1) // max(1, count - 1) for index in range(count)}):
        path = table.root / str(paths[position])
        require(path.is_file(), f"image {path} is not there")
        try:
            with Image.open(path) as image:
                image.load()
        except Exception as error:  # whatever a decoder raises, the file is what is wrong
            require(False, f"image {path} cannot be decoded: {error}")


def loads_the_same(trial: Trial) -> None:
    """Loaded again, it has the same columns, roles, folder and offers, in the same order."""
    first, again = trial.table, trial.load()
    for part in ("roles", "root", "offers"):
        one, two = getattr(first, part), getattr(again, part)
        require(one == two, f"loaded again, {part} are {two}, not {one}")
    require(list(first.columns) == list(again.columns), f"loaded again, its columns are {', '.join(again.columns)}")
    other = [
        name
        for name, values in first.columns.items()
        if fingerprint(list(values)) != fingerprint(list(again.columns[name]))
    ]
    require(not other, f"loaded again, other values or another order stand in {', '.join(other)}")


def states_licence(trial: Trial) -> None:
    """The licence of the data is stated; an unknown one is said to be unknown."""
    require(bool(trial.record.licence.strip()), "its licence is not stated")


def leaves_folder(trial: Trial) -> None:
    """Loading and reading write nothing into the folder of the data: it may be shared, or read-only."""
    root = trial.table.root
    before = dict(_state(root))
    trial.load()
    after = dict(_state(root))
    other = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    # What only the first loading wrote is found by its age.
    other += [name for name, changed in after.items() if trial.began is not None and changed > trial.began]
    require(not other, f"loading changed {len(set(other))} files or folders in {root}, such as {sorted(other)[:1]}")


def _state(root: Path) -> Iterator[tuple[str, int]]:
    """When each file and folder below `root`, itself included, was last changed, in ns."""
    for path in (root, *root.rglob("*")):
        yield str(path.relative_to(root)), path.lstat().st_ctime_ns


CHECKS: dict[str, Callable[[Trial], None]] = {
    "it-loads-or-says-what-to-install": loads,
    "columns-are-of-equal-length": has_equal_columns,
    "each-role-names-a-column": names_columns,
    "the-default-target-has-two-classes": has_classes,
    "each-target-on-offer-is-a-column-with-a-sentence": describes_offers,
    "its-images-are-there-and-decode": images_decode,
    "loaded-twice-it-is-the-same": loads_the_same,
    "its-licence-is-stated": states_licence,
    "its-folder-is-left-alone": leaves_folder,
}
