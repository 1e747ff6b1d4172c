from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from zoo.errors import DataError
from zoo.registry.lookup import DATASETS
from zoo.registry.plugins import find_plugins
from zoo.specs import DatasetRecord, DatasetTable, Roles
from zoo.testing.datasets import CHECKS, MOST_IMAGES, dataset_checks

count = itertools.count()


@pytest.fixture
def shelf(shapes):
    """Forty pictures, and `record(change, **fields)`: a right data set of them whose columns or fields are changed."""
    paths, labels = shapes(40)
    root = paths[0].parent

    def record(change=None, *, load=None, licence="CC0-1.0", **fields):
        def usual():
            columns = {
                "image": [path.name for path in paths],
                "shape": [("disc", "square")[label] for label in labels],
                "size": [1.0] * 39 + [None],
            }
            if change:
                change(columns)
            given = {"roles": Roles(targets=("shape",)), "root": root, "offers": {"shape": "a disc or a square"}}
            return DatasetTable(columns=columns, **(given | fields))

        return DatasetRecord(name="shapes", load=load or usual, licence=licence)

    record.root = root
    return record


def raising(error):
    def load():
        raise error

    return {"load": load}


def spoil(root, row):
    (root / f"{row}.png").write_bytes(b"no image")


ROLES, OFFERS = "each-role-names-a-column", "each-target-on-offer-is-a-column-with-a-sentence"
TWICE, CLASSES = "loaded-twice-it-is-the-same", "the-default-target-has-two-classes"
IMAGES, LOADS = "its-images-are-there-and-decode", "it-loads-or-says-what-to-install"
BROKEN = [
    (LOADS, raising(DataError("no labels.csv")), "it does not load, and does not say what to install: no labels.csv"),
    (LOADS, raising(FileNotFoundError("labels.csv")), "FileNotFoundError: labels.csv"),
    (LOADS, {"load": dict}, "load gives {}, which is no DatasetTable"),
    ("columns-are-of-equal-length", {"change": lambda c: c["size"].pop()}, "columns differ in length: {'image': 40,"),
    ("columns-are-of-equal-length", {"change": lambda c: c.clear()}, "the table has no rows"),
    (
        ROLES,
        {"roles": Roles(targets=("colour",))},
        "role targets names the column 'colour'; there are image, shape, size",
    ),
    (ROLES, {"roles": Roles(image="path", targets=("shape",))}, "role image names the column 'path'"),
    (ROLES, {"roles": Roles(targets=("shape",), covariates=("age",))}, "role covariates names the column 'age'"),
    (ROLES, {"roles": Roles(targets=("shape",), group="patient")}, "role group names the column 'patient'"),
    (CLASSES, {"roles": Roles()}, "roles.targets names no default target"),
    (CLASSES, {"roles": Roles(targets=("size",))}, "the default target 'size' has fewer than two classes: 1"),
    (
        OFFERS,
        {"offers": {"colour": "its colour"}},
        "it offers 'colour', which is no column; there are image, shape, size",
    ),
    (OFFERS, {"offers": {"shape": " "}}, "it offers 'shape' without a sentence about it"),
    (IMAGES, {"change": lambda c: c.update(image=[None] * 40)}, "column 'image' names no image"),
    (IMAGES, {"change": lambda c: c["image"].append("lost.png")}, "lost.png is not there"),
    (TWICE, {"change": lambda c: c.update(size=[next(count)] * 40)}, "other values or another order stand in size"),
    (
        TWICE,
        {"change": lambda c: c.update({f"n{next(count)}": [1] * 40})},
        "loaded again, its columns are image, shape",
    ),
    ("its-licence-is-stated", {"licence": " "}, "its licence is not stated"),
]


@pytest.mark.parametrize(
    ("name", "broken", "message"), BROKEN, ids=[f"{name}-{i}" for i, (name, *_) in enumerate(BROKEN)]
)
def test_a_broken_data_set_is_caught_by_name(name, broken, message, shelf, caught):
    caught(dataset_checks(shelf(**broken)), name, message)


def test_there_is_a_broken_data_set_for_each_check():
    # What is wrong with files has tests of its own.
    assert {name for name, *_ in BROKEN} == set(CHECKS) - {"its-folder-is-left-alone"}


def test_a_right_data_set_passes_every_check(shelf, ends):
    assert ends(dataset_checks(shelf())) == {}


def test_a_file_that_is_no_image_is_caught(shelf, caught):
    spoil(shelf.root, 39)
    caught(dataset_checks(shelf()), IMAGES, "39.png cannot be decoded: cannot identify image file")


def test_a_sample_of_images_is_opened_from_the_first_to_the_last(shelf, result):
    opened = [index * 39 // (MOST_IMAGES - 1) for index in range(MOST_IMAGES)]
    assert (opened[0], opened[-1], len(set(opened))) == (0, 39, MOST_IMAGES)
    for row in set(range(40)) - set(opened):
        spoil(shelf.root, row)
    assert result(dataset_checks(shelf()), IMAGES).outcome == "passed"


def test_a_table_of_one_image_is_opened(shelf, result, caught):
    def one(columns):
        for values in columns.values():
            del values[1:]

    assert result(dataset_checks(shelf(one)), IMAGES).outcome == "passed"
    spoil(shelf.root, 0)
    caught(dataset_checks(shelf(one)), IMAGES, "0.png cannot be decoded")


def test_another_folder_the_second_time_is_caught(shelf, caught):
    right = shelf()

    def load():
        found = right.load()
        return DatasetTable(columns=found.columns, roles=found.roles, root=Path(f"/nowhere/{next(count)}"))

    caught(dataset_checks(shelf(load=load)), TWICE, "loaded again, root are /nowhere/")


LEFT = "its-folder-is-left-alone"


@pytest.mark.parametrize("times", ["each time", "the first time"])
def test_writing_into_the_folder_is_caught(times, shelf, caught):
    right = shelf()

    def load():
        time.sleep(0.05)  # the clock of files is coarser than the one of the process
        mark = shelf.root / "index.cache"
        if times == "each time" or not mark.exists():
            mark.write_text(str(next(count)))
        return right.load()

    caught(dataset_checks(shelf(load=load)), LEFT, "loading changed")


def test_removing_from_the_folder_is_caught(shelf, caught):
    right, rows = shelf(), itertools.count()

    def load():
        (shelf.root / f"{next(rows)}.png").unlink()
        return right.load()

    caught(dataset_checks(shelf(load=load)), LEFT, "files or folders in ")


def test_a_data_set_that_is_not_installed_is_skipped_with_what_to_install(shelf, ends):
    found = ends(dataset_checks(shelf(**raising(DataError("not there: pip install shapes-data")))))
    assert found.pop(LOADS) == "skipped: not there: pip install shapes-data"
    assert set(found) == set(CHECKS) - {LOADS, "its-licence-is-stated"}
    assert set(found.values()) == {"skipped: it does not load: not there: pip install shapes-data"}


def test_a_data_set_may_offer_its_default_target_alone(shelf, result):
    found = result(dataset_checks(shelf(offers={})), OFFERS)
    assert (found.outcome, found.message) == ("skipped", "it offers its default target alone")


OURS = [one.name for plugin in find_plugins("backbone-zoo") for one in plugin.records.get("zoo_datasets", ())]


@pytest.mark.parametrize("name", OURS)
def test_our_data_sets_pass_every_check(name, ends):
    assert [said for said in ends(dataset_checks(DATASETS.get(name))).values() if not said.startswith("skipped")] == []
