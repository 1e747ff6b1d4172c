"""Images that a generator makes of training rows: they train, under every policy, and stand in no split."""

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import zoo
from zoo.errors import ZooError
from zoo.run.artifact import MADE

BASE = {"backbone": "tiny/test_efficientnet", "size": 32, "epochs": 2, "quiet": True, "deterministic": True}
SMALL = 'synthetic(generator="diffusion(side=8, width=8, steps=3, draws=2)")'


@pytest.mark.parametrize(
    "options", [{}, {"freeze": "last(1)"}, {"freeze": "none"}, {"freeze": "last(1)", "augment": "light", "views": 2}]
)
def test_they_fill_up_the_rare_class_and_are_told(shape_folder, tmp_path, options):
    run = zoo.train(shape_folder(40, 12), out=tmp_path / "run", imbalance=(SMALL,), **BASE, **options)
    counts = run.run["data"]["counts"]["label"]
    said = next(each for each in run.run["decisions"] if each["what"] == "synthetic images")
    short = counts["disc"]["train"] - counts["square"]["train"]
    assert short > 0
    assert said["choice"] == f"{short} made (square: {short})"
    with safe_open(tmp_path / "run" / MADE[0], "pt") as file:
        pictures, labels = file.get_tensor("pictures"), file.get_tensor("labels")
    assert (pictures.dtype, tuple(pictures.shape)) == (torch.uint8, (short, 3, 8, 8))
    assert labels.tolist() == [1] * short
    with Image.open(tmp_path / "run" / MADE[1]) as sheet:
        assert sheet.size == (8 * 12, 8)
    # No split, no table and no figure knows of them.
    splits = pl.read_csv(tmp_path / "run" / "splits.csv")
    assert len(splits) == run.run["data"]["rows"] == 52
    assert len(pl.read_csv(tmp_path / "run" / "predictions.csv")) == (splits["split"] != "train").sum()
    found = zoo.evaluate(tmp_path / "run", shape_folder(40, 12))
    assert found.metrics["label"]["accuracy"] == run.metrics["label"]["test"]["accuracy"]


def test_they_train(shape_folder, tmp_path):
    folder = shape_folder(40, 12)
    plain = zoo.train(folder, out=tmp_path / "plain", **BASE)
    made = zoo.train(folder, out=tmp_path / "made", imbalance=(SMALL,), **BASE)
    again = zoo.train(folder, out=tmp_path / "again", imbalance=(SMALL,), **BASE)
    losses = [pl.read_csv(run.folder / "history.csv")["train_loss"].to_list() for run in (plain, made, again)]
    assert losses[0] != losses[1] == losses[2]
    other = zoo.train(folder, out=tmp_path / "other", imbalance=(SMALL,), seed=1, **BASE)
    assert (other.folder / MADE[0]).read_bytes() != (made.folder / MADE[0]).read_bytes()


def test_what_was_made_is_taken_again_and_goes_with_the_run_that_made_it(shape_folder, tmp_path, monkeypatch):
    folder = shape_folder(40, 12)
    first = zoo.train(folder, out=tmp_path / "run", imbalance=(SMALL,), **BASE)
    held = (first.folder / MADE[0]).read_bytes()
    monkeypatch.setattr("zoo_imbalance.synthetic._drawn", lambda *given: pytest.fail("they are there"))
    second = zoo.train(folder, out=tmp_path / "run", imbalance=(SMALL,), overwrite=True, **BASE)
    assert (second.folder / MADE[0]).read_bytes() == held
    stopped = tmp_path / "stopped"  # while it made them
    stopped.mkdir()
    (stopped / MADE[0]).write_bytes(held)
    assert (zoo.train(folder, out=stopped, imbalance=(SMALL,), **BASE).folder / "run.json").exists()
    zoo.train(folder, out=tmp_path / "run", overwrite=True, **BASE)
    assert not any((tmp_path / "run" / name).exists() for name in MADE)


def test_a_diffusion_model_learns_what_classes_look_like(shapes, tmp_path):
    paths, labels = [], []
    random = np.random.default_rng(0)
    for row in range(60):  # dark and bright pictures, dark ones rare
        dark = row % 5 == 0
        pixels = random.integers(0, 60, (16, 16, 3)) + (20 if dark else 170)
        paths.append(tmp_path / "pictures" / f"{row}.png")
        paths[-1].parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(paths[-1])
        labels.append("dark" if dark else "bright")
    data = tmp_path / "table.csv"
    pl.DataFrame({"image": list(map(str, paths)), "light": labels}).write_csv(data)
    text = 'synthetic(generator="diffusion(side=8, width=16, steps=150, lr=0.003, ema=0.9)")'
    zoo.train(data, target=("light",), out=tmp_path / "run", imbalance=(text,), **BASE)
    with safe_open(tmp_path / "run" / MADE[0], "pt") as file:
        pictures = file.get_tensor("pictures").float()
    assert 25 < float(pictures.mean()) < 85


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"imbalance": (f"{SMALL}+crt",)}, "images that are made stand among the training rows for the whole run"),
        ({"imbalance": (f"{SMALL}+class-weights",)}, "the imbalance would be corrected 2.00 times over"),
        ({"imbalance": ('synthetic(generator="diffusion(side=10)")',)}, "side must be a multiple of 4, not 10"),
        ({"imbalance": (SMALL,), "covariate": ("size",)}, "makes images, which have no covariates"),
    ],
)
def test_what_does_not_go_together_is_refused(shapes, tmp_path, options, said):
    paths, labels = shapes(60)
    data = tmp_path / "table.csv"
    rows = {"image": list(map(str, paths)), "kind": [f"k{int(row % 4 == 0)}" for row in range(60)]}
    pl.DataFrame({**rows, "size": [float(label) for label in labels]}).write_csv(data)
    with pytest.raises(ZooError, match=said):
        zoo.train(data, target=("kind",), out=tmp_path / "run", **{**BASE, **options})
