"""Runs that go on from a finished run: what they take over, what they refuse, and what they never train on."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil

import polars as pl
import pytest
import torch
from PIL import Image

import zoo
from tests.conftest import draw_shape
from zoo.cli import main
from zoo.errors import DataError, RunError, ZooError
from zoo.jobs import resume as module
from zoo.jobs.resume import Checkpoints
from zoo.run.artifact import load_artifact

STILL = {"lr": 1e-30, "backbone_lr": 1e-30, "epochs": 1}
"""Rates that move no weight of float32."""


def train(data, out, **options):
    fields = {
        "epochs": 2,
        "batch_size": 8,
        "quiet": True,
        "device": "cpu",
        "precision": "fp32",
        "deterministic": True,
        **options,
    }
    return zoo.train(data, out=out, **fields)


def begin(data, out, **options):
    return train(data, out, **{"backbone": "tiny/test_resnet", "size": 64, **options})


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Each test begins with nothing kept; states are saved as often as is asked."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "SHARE", 1e9)


def stripes(root, count, name="stripe", colour=(40, 200, 40)):
    """Pictures of further classes."""
    for row in range(count):
        path = root / name / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", (48, 48), (20, 20, 20))
        image.paste(colour, (0, row, 48, row + 6))
        image.save(path)
    return root


def splits(run):
    frame = pl.read_csv(run / "splits.csv")
    return dict(zip(frame["image"], frame["split"], strict=True))


def said(result):
    return {decision["what"]: f"{decision['choice']} {decision['why']}" for decision in result.run["decisions"]}


def images(data):
    return sorted(map(str, data.rglob("*.png")))


@pytest.mark.parametrize(
    ("head", "options"),
    [
        ("linear", {}),
        ("mlp(hidden=16)", {"freeze": "last(1)"}),
        ("cosine", {}),
        ("attention(heads=2)", {"backbone": "tiny/test_vit"}),
    ],
)
def test_before_its_first_step_it_predicts_bit_for_bit_what_the_run_predicted(shape_folder, tmp_path, head, options):
    data = shape_folder(16, 16)
    begin(data, tmp_path / "first", head=head, **options)
    train(data, tmp_path / "next", start=tmp_path / "first", freeze="last(2)", **STILL)
    first, then = (zoo.predict(tmp_path / name, images(data), quiet=True) for name in ("first", "next"))
    assert first.equals(then)
    heads = [load_artifact(tmp_path / name).model.heads for name in ("first", "next")]
    assert torch.equal(heads[0].standardise.std, heads[1].standardise.std)
    assert heads[0].standardise.std.unique().numel() > 1


def test_it_goes_deeper_and_records_what_it_came_from(shape_folder, tmp_path):
    data = shape_folder(16, 16)
    begin(data, tmp_path / "first", epochs=5)
    result = train(data, tmp_path / "next", start=tmp_path / "first", freeze="last(2)", backbone_lr=1e-3, epochs=3)
    old, new = (load_artifact(tmp_path / name).model for name in ("first", "next"))
    moved = {name for name, value in new.state_dict().items() if not torch.equal(value, old.state_dict()[name])}
    assert any(name.startswith("backbone.layer4") for name in moved)
    assert not any(name.startswith(("backbone.conv1", "backbone.layer1")) for name in moved)
    assert new.view.input == old.view.input
    assert new.view.input.size == (64, 64)
    digest = hashlib.sha256((tmp_path / "first" / "model.safetensors").read_bytes()).hexdigest()
    run = json.loads((tmp_path / "next" / "run.json").read_text())
    assert run["from"]["digest"] == digest
    assert run["from"]["run"] == str(tmp_path / "first")
    assert run["from"]["weights"] == "fixed"
    assert run["backbone"]["tag"] == "run first"
    assert run["freeze"]["batchnorm"] == "frozen"
    assert json.loads((tmp_path / "first" / "run.json").read_text())["from"] is None
    assert "going on from" in said(result)
    again = train(data, tmp_path / "third", start=tmp_path / "next", freeze="none", **STILL)
    assert again.run["from"]["weights"] == "run first"


def test_a_head_at_its_optimum_stays_there(shape_folder, tmp_path):
    """The statistics that features are standardised by stay, so that the penalty is on the same weights."""
    data = shape_folder(20, 20)
    begin(data, tmp_path / "first", fitter="lbfgs")
    result = train(data, tmp_path / "next", start=tmp_path / "first", fitter="lbfgs")
    old, new = (load_artifact(tmp_path / name).model.heads.state_dict() for name in ("first", "next"))
    assert all(torch.allclose(old[name], new[name], atol=1e-4) for name in old)
    (remark,) = result.run["training"]["remarks"]
    assert int(remark.split()[3]) < 10, remark


def test_new_classes_stand_behind_the_old_ones_in_the_order_of_their_names(shape_folder, tmp_path):
    data = shape_folder(16, 16)
    begin(data, tmp_path / "first", epochs=5)
    stripes(stripes(data, 12), 12, name="blank", colour=(250, 250, 250))
    result = train(data, tmp_path / "next", start=tmp_path / "first", **STILL)
    old, new = (load_artifact(tmp_path / name).model for name in ("first", "next"))
    assert new.heads.tasks[0].classes == ("disc", "square", "blank", "stripe")
    assert torch.allclose(new.heads.heads[0].weight[:2], old.heads.heads[0].weight, rtol=0, atol=1e-20)
    assert new.heads.heads[0].weight[2:].abs().max() < 1e-20
    assert said(result)["new classes of label"].startswith("blank, stripe ")
    assert result.run["data"]["tasks"][0]["classes"] == ["disc", "square", "blank", "stripe"]
    learned = train(data, tmp_path / "learned", start=tmp_path / "first", epochs=8, imbalance="class-weights")
    assert learned.metrics["label"]["test"]["accuracy"] > 0.8
    assert list(learned.run["imbalance"][0]["element_weights"]) == ["disc", "square", "blank", "stripe"]


def test_classes_that_the_data_lack_keep_their_place(shape_folder, tmp_path):
    data = stripes(shape_folder(16, 16), 12)
    begin(data, tmp_path / "first")
    shutil.rmtree(data / "disc")
    with pytest.raises(ZooError, match=r"class-weights counts the rows .* no training row has label = disc, which"):
        train(data, tmp_path / "next", start=tmp_path / "first", imbalance="class-weights")
    result = train(data, tmp_path / "next", start=tmp_path / "first", label_smoothing=0.1)
    assert load_artifact(tmp_path / "next").tasks[0].classes == ("disc", "square", "stripe")
    assert any("no training row has label = disc" in warning for warning in result.run["data"]["warnings"])
    assert result.run["data"]["counts"]["label"]["disc"] == {"train": 0, "val": 0, "test": 0}


def test_images_that_the_run_knows_stay_in_their_split(shape_folder, tmp_path):
    data = shape_folder(20, 20)
    begin(data, tmp_path / "first")
    before = splits(tmp_path / "first")
    for row in range(100, 112):
        draw_shape(data / "disc" / f"{row}.png", 0, row)
        draw_shape(data / "square" / f"{row}.png", 1, 2000 + row)
    result = train(data, tmp_path / "next", start=tmp_path / "first", seed=7, test_fraction=0.5)
    after = splits(tmp_path / "next")
    assert before.items() <= after.items()
    new = [split for image, split in after.items() if image not in before]
    assert {split: new.count(split) for split in ("train", "val", "test")} == {"train": 10, "val": 2, "test": 12}
    assert "40 rows whose image the run before knows stay in the split" in result.run["data"]["splits"]["how"]
    train(data, tmp_path / "same", start=tmp_path / "next", seed=3)
    assert splits(tmp_path / "same") == after


def test_a_split_that_the_data_state_does_not_put_held_out_images_into_training(shape_folder, tmp_path):
    data = shape_folder(20, 20)
    begin(data, tmp_path / "first")
    before = splits(tmp_path / "first")
    given = tmp_path / "given"
    for number, image in enumerate(sorted(before)):
        place = given / ("val" if number % 4 == 0 else "train") / image
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(data / image, place)
    result = train(given, tmp_path / "next", start=tmp_path / "first")
    after = {image.partition("/")[2]: split for image, split in splits(tmp_path / "next").items()}
    assert after == before
    assert "of them against column 'split'" in result.run["data"]["splits"]["how"]


def test_what_the_run_before_was_trained_on_stays_known_when_the_data_change(shape_folder, tmp_path):
    one, two = shape_folder(16, 16, name="one"), stripes(tmp_path / "two", 12, name="disc")
    stripes(two, 12, name="square", colour=(9, 9, 250))
    begin(one, tmp_path / "first")
    train(two, tmp_path / "second", start=tmp_path / "first")
    frame = pl.read_csv(tmp_path / "second" / "splits.csv")
    assert frame["run"].value_counts().filter(pl.col("run") == "first")["count"].item() == 32
    held = sum(split == "test" for split in splits(tmp_path / "first").values())
    assert zoo.evaluate(tmp_path / "second", one).rows == held
    train(one, tmp_path / "third", start=tmp_path / "second", seed=9)
    own = pl.read_csv(tmp_path / "third" / "splits.csv").filter(pl.col("run").is_null())
    assert dict(zip(own["image"], own["split"], strict=True)) == splits(tmp_path / "first")


@pytest.mark.parametrize(("freeze", "there"), [("head", 40), ("last(1)", 0)])
def test_features_are_found_where_the_weights_are_the_same_and_only_there(shape_folder, tmp_path, freeze, there):
    data = shape_folder(20, 20)
    begin(data, tmp_path / "first", freeze=freeze, backbone_lr=1e-2)
    result = train(data, tmp_path / "next", start=tmp_path / "first")
    assert said(result)["rows through the frozen part"] == f"{40 - there} computed {there} were there"


def test_images_of_another_size_are_taken_and_said(shape_folder, tmp_path):
    data = shape_folder(12, 12)
    begin(data, tmp_path / "first", backbone="tiny/test_vit")
    result = train(data, tmp_path / "next", start=tmp_path / "first", size=96, crop="squash", epochs=1)
    assert load_artifact(tmp_path / "next").model.view.input.size == (96, 96)
    assert said(result)["other images"].startswith("96 x 96 pixels, squash ")
    with pytest.raises(ZooError, match=r"cannot take images of 97 x 97 pixels"):
        train(data, tmp_path / "odd", start=tmp_path / "first", size=97)


def table(tmp_path, shape_folder, **columns):
    """A CSV of discs and squares with two covariates."""
    root = shape_folder(20, 20)
    rows = [
        {"path": f"{name}/{row}.png", "shape": name, "parity": "even" if row % 2 else "odd"}
        | {"age": None if row % 5 == 0 else 10.0 * row, "site": "north" if row % 3 else "south"}
        for name in ("disc", "square")
        for row in range(20)
    ]
    path = root / "table.csv"
    pl.DataFrame(rows).with_columns(**columns).write_csv(path)
    return path


def test_covariates_are_read_as_the_run_learned_to_read_them(shape_folder, tmp_path):
    path = table(tmp_path, shape_folder)
    roles = {"image": "path", "target": "shape", "covariate": ("age", "site"), "impute": "covariates=mean"}
    begin(path, tmp_path / "first", **roles)
    other = path.with_name("other.csv")
    pl.read_csv(path).with_columns(age=pl.col("age") + 1000).write_csv(other)
    train(other, tmp_path / "next", start=tmp_path / "first", freeze="last(1)", **STILL)
    one, two = (load_artifact(tmp_path / name) for name in ("first", "next"))
    assert one.covariates == two.covariates
    frames = [zoo.predict(tmp_path / name, [str(path)], quiet=True) for name in ("first", "next")]
    assert frames[0].equals(frames[1])
    start = tmp_path / "first"
    with pytest.raises(DataError, match=r"reads the covariates age, site, and data has no column age, site; add it"):
        train(path.parent, tmp_path / "no", start=start)
    with pytest.raises(ZooError, match=r"--covariate age: the head of .*first reads age, site; leave it out"):
        train(path, tmp_path / "no", start=start, covariate="age")
    with pytest.raises(ZooError, match=r"--impute covariates=mean: holes are filled as .*first learned to"):
        train(path, tmp_path / "no", start=start, impute="covariates=mean")


def test_targets_are_found_by_name_and_one_alone_by_its_place(shape_folder, tmp_path):
    path = table(tmp_path, shape_folder)
    begin(path, tmp_path / "one", image="path", target="shape")
    result = train(path.parent, tmp_path / "folder", start=tmp_path / "one")
    assert result.run["data"]["notes"][-1] == "Column 'label' holds the run's target 'shape'."
    assert list(result.metrics) == ["shape"]
    begin(path, tmp_path / "two", image="path", target=("shape", "parity"))
    result = train(path, tmp_path / "again", start=tmp_path / "two", target=("parity", "shape"))
    assert [task["name"] for task in result.run["data"]["tasks"]] == ["shape", "parity"]
    with pytest.raises(DataError, match=r"two has the targets shape, parity, and data label; name the run's"):
        train(path.parent, tmp_path / "no", start=tmp_path / "two")
    with pytest.raises(DataError, match=r"one learned shape = disc, square .* have even, odd .*: nothing goes on"):
        train(path, tmp_path / "no", start=tmp_path / "one", target="parity")


def test_groups_stay_whole_where_the_run_knows_some_of_their_images(shape_folder, tmp_path):
    path = table(tmp_path, shape_folder)
    rows = pl.read_csv(path).with_row_index("row").with_columns(cell=pl.format("{}-{}", pl.col("row") // 4, "shape"))
    some = path.with_name("some.csv")
    rows.filter(pl.col("row") % 4 < 2).write_csv(some)
    whole = path.with_name("whole.csv")
    rows.write_csv(whole)
    begin(some, tmp_path / "first", image="path", target="shape", group="cell")
    result = train(whole, tmp_path / "next", start=tmp_path / "first", group="cell")
    assert "or share a group of 'cell' with such a one" in result.run["data"]["splits"]["how"]
    cells = rows.with_columns(split=pl.Series([splits(tmp_path / "next")[image] for image in rows["path"]]))
    assert (cells.group_by("cell").agg(pl.col("split").n_unique())["split"] == 1).all()
    loose = train(whole, tmp_path / "loose", start=tmp_path / "first")
    assert any("kept groups of 'cell' whole; without --group" in note for note in loose.run["data"]["notes"])
    begin(whole, tmp_path / "ungrouped", image="path", target="shape")
    with pytest.raises(DataError, match=r"The run before had their images in these splits; begin anew"):
        train(whole, tmp_path / "no", start=tmp_path / "ungrouped", group="cell")


def test_the_logit_bias_of_the_run_is_not_carried_over(shape_folder, tmp_path):
    data = shape_folder(30, 10)
    begin(data, tmp_path / "first", imbalance="logit-adjust")
    result = train(data, tmp_path / "next", start=tmp_path / "first", **STILL)
    assert said(result)[f"logit bias of {tmp_path / 'first'}"].startswith("that of label is not carried over")
    assert load_artifact(tmp_path / "first").logit_bias
    assert not load_artifact(tmp_path / "next").logit_bias


def test_weights_that_were_random_once_are_trained_ones_now(shape_folder, tmp_path):
    data = shape_folder(12, 12)
    first = begin(data, tmp_path / "first", weights="none", freeze="none", epochs=1)
    assert first.run["freeze"]["batchnorm"] == "train"
    result = train(data, tmp_path / "next", start=tmp_path / "first", epochs=1)
    assert result.run["freeze"]["batchnorm"] == "frozen"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "tiny/test_vit"}, r"--backbone tiny/test_vit: .*first is a run of tiny/test_resnet \(fixed\)"),
        ({"backbone": "tiny/test_resnet.other"}, "leave out --backbone, or --from"),
        ({"weights": "fixed"}, "--weights fixed: --from takes the weights of .*first; leave out one of them"),
        ({"features": "tokens"}, "--features tokens: the head of .*first reads pooled; leave it out"),
        ({"head": "mlp"}, r"--head mlp: .*first has the head linear\(dropout=0.0\); leave it out, or put a new head"),
        ({"covariate": "age"}, "--covariate age: the head of .*first reads none; leave it out"),
        ({"fitter": "ridge"}, "--fitter ridge solves for a head anew"),
        ({"out": "first", "overwrite": True}, "cannot be replaced by a run that goes on from it"),
        ({"start": "nowhere"}, "there is no run folder"),
    ],
)
def test_what_the_run_has_otherwise_is_refused(shape_folder, tmp_path, monkeypatch, options, message):
    data = shape_folder(12, 12)
    monkeypatch.chdir(tmp_path)
    begin(data, "first", epochs=1)
    with pytest.raises(ZooError, match=message):
        train(data, **{"out": "no", "start": "first", **options})
    assert not (tmp_path / "no").exists()
    same = {"backbone": "tiny/test_resnet.fixed", "features": "pooled", "head": "linear", "size": 64}
    train(data, "next", start="first", **same, **STILL)


def test_an_interrupted_run_goes_on_and_a_changed_start_is_refused(shape_folder, tmp_path, monkeypatch):
    data = stripes(shape_folder(14, 14), 10)
    begin(data, tmp_path / "first")
    stripes(data, 10, name="blank", colour=(250, 250, 250))
    options = {"start": "first", "freeze": "last(2)@lp-ft(1)", "save_every": 0.0, "backbone_lr": 1e-3}
    monkeypatch.chdir(tmp_path)
    train(data, tmp_path / "whole", **options)
    plain, left = Checkpoints.save, itertools.count(6, -1)

    class Killed(BaseException):
        pass

    def save(self, state):
        plain(self, state)
        if next(left) == 0:
            raise Killed

    monkeypatch.setattr(Checkpoints, "save", save)
    with pytest.raises(Killed):
        train(data, tmp_path / "run", **options)
    monkeypatch.chdir(data)
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    zoo.resume(tmp_path / "run", quiet=True)
    whole, found = (load_artifact(tmp_path / name).model.state_dict() for name in ("whole", "run"))
    assert all(torch.equal(tensor, found[name]) for name, tensor in whole.items())
    begin(data, tmp_path / "first", overwrite=True, seed=1)
    with pytest.raises(RunError, match=r"first, which .*other goes on from, has changed since it was interrupted"):
        zoo.resume(tmp_path / "other", quiet=True)


def test_the_command_line_says_what_goes_on(shape_folder, tmp_path, capsys):
    data, first, out = shape_folder(14, 14), str(tmp_path / "first"), str(tmp_path / "next")
    begin(data, first)
    stripes(data, 10)
    usual = ["--epochs", "1", "--device", "cpu", "--precision", "fp32", "--quiet"]
    words = ["train", str(data), "--from", first, "--freeze", "last(2)", "--lr", "1e-3", "--out", out, *usual]
    assert main([*words, "--explain"]) == 0
    assert "cached" in capsys.readouterr().out
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "tiny/test_resnet (run first) on data, --freeze last(2)" in shown
    assert f"  going on from: {first} (its backbone, weights, heads, classes and image preparation" in shown
    assert "  new classes of label: stripe (they stand behind the run's own" in shown
    assert main(["train", str(data), "--out", out]) == 2
    assert "--backbone timm/resnet50 (`zoo list` shows them), or --from RUN" in capsys.readouterr().err
