"""Advice through a whole job: what it writes, that test rows have no part in its curves, and what it refuses."""

import json
import shutil

import pytest

import zoo
from zoo.cli import main
from zoo.errors import DataError, ZooError

FIELDS = {"backbone": "tiny/test_resnet", "size": 64, "quiet": True, "device": "cpu", "precision": "fp32"}


def advice(data, out, **options):
    return zoo.advise(data, out=out, **{**FIELDS, "labels": False, "orders": 3, **options}).found


def test_the_page_and_the_figures_say_the_same(shape_folder, tmp_path):
    data = shape_folder(60, 60)
    shutil.copy(data / "disc" / "0.png", data / "disc" / "copy.png")
    found = advice(data, tmp_path / "advice")
    assert json.loads((tmp_path / "advice" / "advise.json").read_text()) == json.loads(json.dumps(found))
    page = (tmp_path / "advice" / "advise.html").read_text()
    assert found["advice"] in page.replace("&#39;", "'")
    assert page.count("<svg") == 2
    assert "Not looked for (--no-labels)" in page
    assert set(found["classes"]) == {"disc", "square"}
    pairs = [pair for kind in found["duplicates"]["pairs"].values() for pair in kind if pair["exact"]]
    assert {(pair["first"]["image"], pair["second"]["image"]) for pair in pairs} in (
        {("disc/0.png", "disc/copy.png")},
        {("disc/copy.png", "disc/0.png")},
    )


def test_test_rows_have_no_part_in_curves_and_labels(shape_folder, tmp_path, monkeypatch):
    from zoo.jobs import advise as home

    seen = []
    measure = home.measure

    def noted(train, val, *rest, **options):
        seen.extend([len(train[1]), len(val[1])])
        return measure(train, val, *rest, **options)

    monkeypatch.setattr(home, "measure", noted)
    found = advice(shape_folder(60, 60), tmp_path / "advice")
    assert seen == [found["rows"]["train"], found["rows"]["val"]]
    assert found["rows"]["test"] == 30


def test_the_held_out_rows_are_those_of_a_run(shape_folder, tmp_path):
    from zoo.run.uses import read_splits

    data = shape_folder(60, 60)
    found = advice(data, tmp_path / "advice", duplicates=0.01)
    zoo.train(data, out=tmp_path / "run", epochs=1, **FIELDS)
    frame = read_splits(tmp_path / "run")
    test = set(frame.filter(frame["split"] == "test")["image"])
    pairs = [pair for kind in found["duplicates"]["pairs"].values() for pair in kind]
    sides = [pair[side] for pair in pairs for side in ("first", "second")]
    own = {side["image"] for side in sides if side["split"] == "test"}
    assert own
    assert own <= test


def test_doubtful_labels_stand_on_the_page(shape_folder, tmp_path):
    pytest.importorskip("cleanlab")
    data = shape_folder(60, 60)
    for row in range(4):
        shutil.move(data / "disc" / f"{row}.png", data / "square" / f"moved{row}.png")
    found = advice(data, tmp_path / "advice", labels=True)
    named = {row["image"] for row in found["labels"]["rows"]}
    assert sum(f"square/moved{row}.png" in named for row in range(4)) >= 2
    assert all(row["split"] != "test" for row in found["labels"]["rows"])
    assert "confident learning" in (tmp_path / "advice" / "advise.html").read_text()


def test_the_command_says_it_in_a_few_lines(shape_folder, tmp_path, capsys):
    words = ["advise", str(shape_folder(60, 30)), "--backbone", "tiny/test_resnet", "--size", "64", "--device", "cpu"]
    words += ["--precision", "fp32", "--no-labels", "--no-per-class", "--orders", "3", "--quiet"]
    assert main([*words, "--out", str(tmp_path / "advice")]) == 0
    said = capsys.readouterr().out
    assert "disc: 32 training rows" in said or "disc: 31 training rows" in said
    assert "no curve    square has" in said
    assert "labels      that the features contradict: not looked for" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_recall": 1.0}, "--target-recall must be a share between 0 and 1, not 1.0"),
        ({"duplicates": 0.0}, "--duplicates must be a share between 0 and 1"),
        ({"sizes": 4}, "--sizes must be at least 5, not 4"),
        ({"orders": 2}, "--orders must be at least 3, not 2"),
        ({"target_recal": 0.5}, "advise has no option 'target_recal'; did you mean target_recall"),
    ],
)
def test_options_are_refused_before_any_data_are_read(tmp_path, options, message):
    with pytest.raises(ZooError, match=message):
        advice(tmp_path / "nothing", tmp_path / "advice", **options)
    assert not (tmp_path / "advice").exists()


def test_one_class_and_too_few_rows_are_refused(shape_folder, tmp_path):
    with pytest.raises(DataError, match="one class only, 'disc'"):
        advice(shape_folder(20, 0, name="one"), tmp_path / "advice")
    with pytest.raises(DataError, match="no class has enough rows for a learning curve: disc has"):
        advice(shape_folder(12, 12, name="few"), tmp_path / "advice")
    assert not (tmp_path / "advice").exists()


def test_a_folder_that_cannot_be_made_is_one_sentence(shape_folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ZooError, match="cannot write to"):
        advice(shape_folder(60, 60), tmp_path / "file" / "advice")
