"""Reading folders, files and data sets of plugins into a table; every refusal says what there is and what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from zoo.data.folders import scan_folder
from zoo.data.table import Table, read_table, table_of_images
from zoo.errors import DataError
from zoo.registry.plugins import Plugin
from zoo.specs import DatasetRecord, DatasetTable, Roles


def csv(folder: Path, text: str, name: str = "photos.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# folders


def test_a_folder_of_classes_is_a_table(draw_tree):
    root = draw_tree({"cat": 2, "dog/left/deep": 1, "dog": 1})
    table = read_table(root)
    assert table.frame.rows() == [
        ("cat/0.png", "cat"),
        ("cat/1.png", "cat"),
        ("dog/0.png", "dog"),
        ("dog/left/deep/0.png", "dog"),
    ]
    assert table.roles == Roles(targets=("label",))
    assert (table.name, len(table), table.notes) == ("tree", 4, ())
    assert all(path.is_file() and path.is_absolute() for path in table.paths)


def test_a_split_folder_keeps_its_splits_under_their_usual_names(draw_tree):
    table = read_table(draw_tree({"train/a": 2, "Valid/a": 1, "test/b": 1}))
    assert table.roles.split == "split"
    assert sorted(table.frame.select("label", "split").rows()) == [
        ("a", "train"),
        ("a", "train"),
        ("a", "val"),
        ("b", "test"),
    ]


def test_validation_is_another_name_of_val(draw_tree):
    assert set(read_table(draw_tree({"train/a": 1, "validation/a": 1})).frame["split"]) == {"train", "val"}


def test_a_class_may_be_called_test_where_there_is_no_train(draw_tree):
    assert set(read_table(draw_tree({"test": 1, "control": 1})).frame["label"]) == {"test", "control"}


def test_hidden_and_foreign_files_are_left_out_and_counted(draw_tree):
    root = draw_tree({"cat": 1, ".ipynb_checkpoints": 2, "dog": 1, "__MACOSX/cat": 1, "cat/.hidden": 1})
    (root / "cat" / ".DS_Store").write_bytes(b"x")
    (root / "cat" / "readme.txt").write_text("hi")
    (root / "LICENCE").write_text("hi")
    table = read_table(root)
    assert set(table.frame["label"]) == {"cat", "dog"}
    assert len(table) == 2
    assert "2 files are no images by their ending (.txt, no ending); left out" in table.notes
    assert "4 hidden files or folders were left out" in table.notes


def test_images_beside_the_classes_and_empty_classes_are_told(draw_tree):
    root = draw_tree({"cat": 1, "dog": 1, "empty": 0})
    (root / "stray.png").write_bytes(b"x")
    notes = read_table(root).notes
    assert "1 images lie beside the class folders and were left out" in notes
    assert "class folders without an image: empty" in notes


def test_links_that_lead_back_are_followed_once(draw_tree):
    root = draw_tree({"cat": 1, "dog": 1})
    (root / "cat" / "again").symlink_to(root / "cat")
    (root / "fox").symlink_to(root / "dog")
    assert sorted(read_table(root).frame["label"]) == ["cat", "dog", "fox"]


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.txt").write_text("x")
    with pytest.raises(
        DataError, match=r"there is no image in .* \(1 files there end in \.txt\); images end in \.avif"
    ):
        read_table(tmp_path)


def test_split_folders_beside_others_are_refused(draw_tree):
    with pytest.raises(DataError, match=r"folders of splits \(test, train\) beside others \(extra\); move the others"):
        read_table(draw_tree({"train/a": 1, "test/a": 1, "extra": 1}))


def test_a_split_without_classes_beside_splits_with_is_refused(draw_tree):
    with pytest.raises(DataError, match="test holds images but no class folders, unlike the other splits"):
        read_table(draw_tree({"train/a": 1, "test": 1}))


@pytest.mark.parametrize("folders", [{"": 2}, {"train": 1, "test": 1}])
def test_images_without_classes_serve_only_where_no_target_is_needed(draw_tree, folders):
    root = draw_tree(folders)
    with pytest.raises(DataError, match=r"lie in no class folders; put each in a folder named by its class, or give"):
        read_table(root)
    table = read_table(root, need_targets=False)
    assert len(table) == 2
    assert table.roles.targets == ()


def test_roles_that_a_folder_has_not_are_refused(draw_tree):
    root = draw_tree({"cat": 1, "dog": 1})
    with pytest.raises(DataError, match=r"has no column 'patient'\. It has image, label"):
        read_table(root, group="patient")
    with pytest.raises(DataError, match=r"no column 'labels'; did you mean label\? It has image, label"):
        read_table(root, targets=["labels"])


def test_an_unreadable_folder_is_named(tmp_path, monkeypatch):
    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(DataError, match=r"folder .* cannot be read: Permission denied"):
        scan_folder(tmp_path)


# files


def test_a_csv_has_columns_by_role_and_paths_from_its_folder(tmp_path):
    path = csv(tmp_path, "file,kind,age,who,w,part\na.png,x,1,p1,1,train\n/b.png,y,,p2,2,test\n")
    table = read_table(path, targets=["kind"], covariates=["age"], group="who", weight="w", split="part")
    assert table.roles == Roles(
        image="file", targets=("kind",), covariates=("age",), group="who", weight="w", split="part"
    )
    assert table.paths == [tmp_path / "a.png", Path("/b.png")]
    assert table.name == "photos"
    assert table.frame["age"].to_list() == ["1", None]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_separator_is_found(tmp_path, separator):
    path = csv(tmp_path, "\ufeffimage,label\na.png,x\n".replace(",", separator))
    assert read_table(path, targets=["label"]).frame.rows() == [("a.png", "x")]


def test_empty_text_and_nan_are_holes(tmp_path):
    path = csv(tmp_path, 'image,label\na.png,\nb.png,"  "\n,x\n')
    table = read_table(path, targets=["label"])
    assert table.frame["label"].to_list() == [None, None, "x"]
    assert table.paths[2] == tmp_path
    pl.DataFrame({"path": ["a", "b"], "y": [1.0, float("nan")]}).write_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet", targets=["y"]).frame["y"].to_list() == [1.0, None]


def test_text_of_a_csv_stays_as_it_is_except_whole_numbers_among_labels(tmp_path):
    path = csv(tmp_path, "image,label,who\n007,1.0,1.0\n008,01,2\n")
    assert read_table(path, targets=["label"], group="who").frame.rows() == [("007", "1", "1.0"), ("008", "01", "2")]


def test_a_missing_column_is_answered_with_close_names_and_the_list(tmp_path):
    path = csv(tmp_path, "image,species,site\na.png,x,1\n")
    with pytest.raises(
        DataError, match=r"no column 'specie'; did you mean species or site\? It has image, species, site"
    ):
        read_table(path, targets=["specie"])
    with pytest.raises(DataError, match=r"no column 'zzz'\. It has image, species, site"):
        read_table(path, image="zzz", targets=["species"])


def test_an_image_column_that_cannot_be_guessed_is_asked_for(tmp_path):
    path = csv(tmp_path, "picture,species\na.png,x\n")
    with pytest.raises(DataError, match=r"column of image paths with --image\. The columns are picture, species"):
        read_table(path, targets=["species"])


def test_a_table_without_a_named_target_lists_its_columns(tmp_path):
    path = csv(tmp_path, "image,species\na.png,x\n")
    with pytest.raises(DataError, match=r"no target is named; .* --target\. The columns are image, species"):
        read_table(path)
    assert read_table(path, need_targets=False).roles.targets == ()


def test_one_column_has_one_role(tmp_path):
    path = csv(tmp_path, "image,species\na.png,x\n")
    with pytest.raises(DataError, match="column 'species' is given two roles"):
        read_table(path, targets=["species"], covariates=["species"])
    with pytest.raises(DataError, match="column 'image' is given two roles"):
        read_table(path, image="image", targets=["image"])


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("t.csv", "", "cannot be read: empty CSV"),
        ("t.csv", "image,label\n", "has no rows"),
        ("t.csv", "image,label\na,b,c\n", "cannot be read: found more fields"),
        ("t.parquet", "hello", "cannot be read: parquet"),
        ("t.xlsx", "hello", r"no table that can be read here; give one that ends in \.csv, \.tsv, \.parquet"),
    ],
)
def test_a_file_that_is_no_table_says_why(tmp_path, name, text, reason):
    with pytest.raises(DataError, match=reason):
        read_table(csv(tmp_path, text, name), targets=["label"])


# data sets


@pytest.fixture
def shapes(monkeypatch, tmp_path) -> DatasetRecord:
    columns = {"image": ["a.png", "b.png"], "kind": ["x", None], "size": [1, 2], "lens": ["m", "n"]}
    roles = Roles(targets=("kind",), covariates=("lens",))
    offers = {"kind": "the shape", "lens": "what it was taken with"}
    table = DatasetTable(columns=columns, roles=roles, root=tmp_path, offers=offers)
    record = DatasetRecord(name="shapes", load=lambda: table, licence="CC0-1.0", notes=("groups are unknown",))
    plugin = Plugin(name="p", distribution="d", version="1", records={"zoo_datasets": (record,)})
    monkeypatch.setattr("zoo.registry.lookup.load_plugins", lambda: (plugin,))
    return record


@pytest.mark.usefixtures("shapes")
class TestDataSets:
    def test_a_name_brings_roles_licence_and_notes(self, tmp_path):
        table = read_table("shapes")
        assert table.roles == Roles(targets=("kind",), covariates=("lens",))
        assert (table.name, table.licence, table.notes) == ("shapes", "CC0-1.0", ("groups are unknown",))
        assert table.paths[0] == tmp_path / "a.png"

    def test_any_offered_column_may_be_the_target_and_leaves_its_default_role(self):
        assert read_table("shapes", targets=["lens"]).roles == Roles(targets=("lens",))
        assert read_table("shapes", covariates=["size"]).roles.covariates == ("size",)

    def test_a_column_that_is_not_offered_is_no_target(self):
        with pytest.raises(DataError, match=r"'size' is no target; it offers kind \(the shape\), lens \(what it"):
            read_table("shapes", targets=["size"])

    def test_what_is_neither_path_nor_name_is_answered_for_both(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "shape_photos").mkdir()
        with pytest.raises(DataError) as caught:
            read_table("shape_photo")
        assert "there is no file or folder shape_photo; did you mean shape_photos? As the name of a data set: " in str(
            caught.value
        )
        with pytest.raises(DataError, match=r"unknown data set 'shape'; there are shapes; did you mean shapes\?"):
            read_table("shape")
        with pytest.raises(DataError, match=r"no file or folder no/where\. As the name"):
            read_table("no/where")


# prediction


def test_paths_and_folders_become_a_table_without_labels(draw_tree):
    root = draw_tree({"x/y": 2, "z": 1})
    table = table_of_images([root / "x", root / "z" / "0.png", Path("gone.png")])
    assert table.paths == [root / "x/y/0.png", root / "x/y/1.png", root / "z/0.png", Path.cwd() / "gone.png"]
    assert table.roles == Roles()
    assert read_table(root / "z" / "0.png", need_targets=False).paths == [root / "z" / "0.png"]


def test_no_image_to_predict_is_refused(tmp_path):
    with pytest.raises(DataError, match="there is no image in an empty list of paths"):
        table_of_images([])
    with pytest.raises(DataError, match=f"there is no image in {tmp_path}"):
        table_of_images([tmp_path])


def test_take_keeps_rows_in_the_order_asked_for(make_table):
    table: Table = make_table({"label": ["a", "b", "c"]}, targets=("label",))
    taken = table.take(np.array([2, 0], dtype=np.int64))
    assert taken.frame["label"].to_list() == ["c", "a"]
    assert taken.roles == table.roles
