"""Whole runs with strategies: each slot is carried, what cannot be is refused, and prediction needs no plugin."""

from __future__ import annotations

import json

import polars as pl
import pytest
import torch

import zoo
from zoo.errors import OptionError, ZooError
from zoo.run.artifact import load_artifact
from zoo.training import resampling
from zoo.training.loop import Trainer


def train(data, out, imbalance, **options):
    fields = {
        "backbone": "tiny/test_resnet",
        "size": 64,
        "batch_size": 16,
        "epochs": 3,
        "quiet": True,
        "device": "cpu",
        "precision": "fp32",
        "deterministic": True,
        **options,
    }
    return zoo.train(data, out=out, imbalance=imbalance, **fields)


@pytest.fixture
def data(shape_folder):
    return shape_folder(40, 14)


ON_FEATURES = [
    "class-weights(method=sqrt)",
    "focal",
    "ldam+drw(start=0.5)",
    "balanced-softmax",
    "balanced-sampler",
    "balanced-sampler(q=0.5, progressive=2)+logit-adjust",
    "drs(start=0.4)",
    "undersample",
    "smote(k=3)",
    "remix",
    "balanced-mixup",
    "crt(epochs=2)",
    "lws(epochs=2)",
    "mislas(epochs=2)",
    "tau-norm",
    "threshold",
    "prior-correct(prior={disc: 0.5, square: 0.5})",
    "bagging(members=3)",
    "balanced-bagging(members=3)",
    "easy-ensemble(members=2, rounds=3)",
    "rusboost(rounds=4, depth=2)",
]


@pytest.mark.parametrize("text", ON_FEATURES)
def test_each_strategy_goes_from_training_to_prediction(text, data, tmp_path):
    out = tmp_path / "run"
    result = train(data, out, text)
    stated = result.run["imbalance"][0]
    assert stated["strategy"] == text
    assert -0.05 <= stated["corrected"] <= 1.05
    own = json.loads((out / "metrics.json").read_text())["label"]["test"]
    again = zoo.evaluate(out, data).metrics["label"]
    assert again["log_loss"] == pytest.approx(own["log_loss"], rel=1e-4)
    assert load_artifact(out).log_prior["label"] == pytest.approx([0.0, 0.0], abs=5)


@pytest.mark.parametrize("text", ["crt(epochs=1)", "lws(epochs=1)", "mislas(epochs=1)", "drw(start=0.5)", "remix"])
def test_stages_follow_a_fine_tuned_backbone(text, data, tmp_path):
    result = train(data, tmp_path / "run", text, freeze="last(1)", epochs=2, backbone_lr=1e-3)
    intervals = result.run["freeze"]["intervals"]
    assert intervals[-1]["epochs"] == ([3, 3] if "epochs" in text else [2, 2] if text.startswith("drw") else [1, 2])
    assert result.run["freeze"]["verified"] != "nothing was frozen"


def test_breakpoints_of_the_schedule_and_of_strategies_are_united(data, tmp_path):
    result = train(data, tmp_path / "run", "drw(start=0.5)+crt(epochs=1)", freeze="last(1)@lp-ft(1)", epochs=4)
    intervals = result.run["freeze"]["intervals"]
    assert [each["epochs"] for each in intervals] == [[1, 1], [2, 2], [3, 4], [5, 5]]
    assert [each["policy"] for each in intervals] == ["head", "last(1)", "last(1)", "head"]
    parts = result.run["imbalance"][0]["intervals"]
    assert [round(each["corrected"], 1) for each in parts] == [0.0, 0.0, 1.0, 1.0]
    assert [each["element_weights"] is None for each in parts] == [True, True, False, True]


def test_the_tail_trains_what_it_says_and_nothing_else(data, tmp_path, monkeypatch):
    seen = []
    fit = Trainer.fit

    def watching(self, progress=None):
        before = {name: tensor.detach().clone() for name, tensor in self.heads.named_parameters()}
        found = fit(self, progress)
        seen.append({name for name, own in self.heads.named_parameters() if not torch.equal(own, before[name])})
        return found

    monkeypatch.setattr(Trainer, "fit", watching)
    train(data, tmp_path / "lws", "lws(epochs=2)")
    assert seen[-1] == {"heads.0.scale"}
    model = load_artifact(tmp_path / "lws").model
    assert [name for name, _ in model.heads.named_parameters()] == ["heads.0.weight", "heads.0.bias"]


@pytest.mark.parametrize("freeze", ["head", "none"])
def test_images_of_rare_classes_are_augmented_and_no_others(freeze, data, tmp_path, monkeypatch):
    from zoo.data.augment import Augmenter

    shown = []
    through = Augmenter._through

    def watching(self, steps, images, keys, views):
        shown.extend([(steps[0].rotate, view) for view in views] if steps else [])
        return through(self, steps, images, keys, views)

    monkeypatch.setattr(Augmenter, "_through", watching)
    text = 'minority-augment(preset="light(rotate=77)", others=none)'
    train(data, tmp_path / "run", text, epochs=2, freeze=freeze)
    squares = 9  # of 14, what the splits leave to training
    assert {rotate for rotate, _ in shown} == {77.0}
    for view in (0, 1):  # kept views of a frozen backbone; of one that trains each epoch has its own
        assert sum(own == view for _, own in shown) == pytest.approx(squares, abs=1)


def test_views_of_rare_classes_are_kept_and_other_images_computed_once(data, tmp_path):
    text = 'minority-augment(preset="light(rotate=7)", others=none)'
    result = train(data, tmp_path / "run", text, epochs=4, views=3, freeze="head", deterministic=False)
    (computed,) = [each for each in result.run["decisions"] if each["what"] == "rows through the frozen part"]
    counts = result.run["data"]["counts"]["label"]
    rare, images = counts["square"]["train"], sum(sum(own.values()) for own in counts.values())
    # Images as they are once, those of the rare class in training only as the three views show them.
    assert int(computed["choice"].split()[0]) + int(computed["why"].split()[0]) >= images - rare + 3 * rare
    assert int(computed["choice"].split()[0]) <= images + 3 * rare


def test_smote_makes_rows_with_covariates_beside_them(data, tmp_path, monkeypatch):
    rows = [("image", "label", "size", "colour")]
    for path in sorted(data.rglob("*.png")):
        number = int(path.stem)
        rows.append((str(path), path.parent.name, number * 0.1, "red" if number % 2 else "blue"))
    table = tmp_path / "table.csv"
    table.write_text("\n".join(",".join(map(str, row)) for row in rows) + "\n")
    made = []
    plain = resampling.joined_features

    def seen(*given):
        made.append(plain(*given))
        return made[-1]

    monkeypatch.setattr(resampling, "joined_features", seen)
    options = {"image": "image", "target": ("label",), "covariate": ("size", "colour")}
    for impute in ((), ("covariates=mean+indicator",)):
        result = train(table, tmp_path / f"run{len(impute)}", "smote(k=3)", impute=impute, **options)
        assert result.run["imbalance"][0]["corrected"] == pytest.approx(1.0)
    assert made[1].shape[1] - made[0].shape[1] == 2  # columns that mark holes
    assert made[0][:, -2:].sum(dim=1).unique().tolist() == [1.0]  # the colour, one-hot


def test_an_interrupted_tail_goes_on_as_if_nothing_had_happened(data, tmp_path, monkeypatch):
    from zoo.jobs.resume import Checkpoints, InterruptedRunError

    options = {"freeze": "last(1)", "epochs": 2, "backbone_lr": 1e-3}
    train(data, tmp_path / "whole", "crt(epochs=2)", **options)
    due, save = Checkpoints.due, Checkpoints.save

    def at_the_tail(self):
        return len(self.around["parts"]) == 1 or due(self)

    def stopping(self, state):
        self._asked = "SIGTERM" if state.values["epoch"] == 3 else ""
        save(self, state)

    monkeypatch.setattr(Checkpoints, "due", at_the_tail)
    monkeypatch.setattr(Checkpoints, "save", stopping)
    with pytest.raises(InterruptedRunError):
        train(data, tmp_path / "cut", "crt(epochs=2)", **options)
    monkeypatch.setattr(Checkpoints, "due", due)
    monkeypatch.setattr(Checkpoints, "save", save)
    zoo.resume(tmp_path / "cut", quiet=True)
    whole, cut = (load_artifact(tmp_path / name).model.state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


@pytest.mark.parametrize(
    ("text", "options", "error", "message"),
    [
        (
            "smote",
            {"freeze": "last(1)"},
            ZooError,
            r"smote .*makes rows of features that stand still, and --freeze last",
        ),
        ("smote", {"augment": "light"}, ZooError, "makes rows of features of images as they are; leave out --augment"),
        ("bagging", {"freeze": "none"}, ZooError, "bagging .*fits its head once, on features that stand still"),
        ("bagging", {"fitter": "lbfgs"}, ZooError, "bagging fits the head in its own way; leave out --fitter lbfgs"),
        ("bagging+crt", {}, ZooError, "bagging.crt .*fits its head once"),
        ("crt", {"fitter": "lbfgs"}, ZooError, "--fitter lbfgs fits heads once, and crt divides the run into parts"),
        ("drw", {"sweep": True}, ZooError, "--sweep fits heads once, and drw divides the run into parts"),
        ("remix", {"fitter": "ridge"}, ZooError, "--fitter ridge sees rows as they are, and remix changes them"),
        ("remix(on=pixels)", {}, ZooError, r"mixes images, and --freeze head trains on features .*mix features"),
        ("remix", {"freeze": "last(1)", "mixup": 0.2}, ZooError, "mixes the rows of a batch, and so do --mixup"),
        ("focal", {"label_smoothing": 0.1}, ZooError, "focal .* brings a loss of its own"),
        ("ldam", {"head": "mlp"}, ZooError, r"ldam brings the head cosine\(.*and --head mlp names another"),
        ("lws", {"head": "cosine"}, ZooError, "lws needs a head that ends in a linear layer, as linear and mlp do"),
        ("tau-norm", {"head": "cosine"}, ZooError, "tau-norm needs a head that ends in a linear layer"),
        ("drw", {"epochs": 1}, OptionError, "drw acts from 80% to 100% of the run, and a run of 1 epoch has none"),
        ("adasyn(k=3)", {}, ZooError, "adasyn cannot make rows of these features: Not any neigbours"),
        (
            "smote(k=3)+minority-augment(others=light)",
            {},
            ZooError,
            "shows images of some classes changed, and fits features of images",
        ),
        ("minority-augment", {}, ZooError, "learns that what is changed is rare.*--augment light"),
        (
            "bagging+minority-augment(others=none)",
            {},
            ZooError,
            "shows images of some classes changed, and fits features of images",
        ),
        ("class-weights", {"views": 2}, ZooError, "--views counts augmented views of each image; say --augment light"),
        ("balanced-sampler+undersample", {}, OptionError, "both bring a sampler"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_reason(text, options, error, message, data, tmp_path):
    with pytest.raises(error, match=message):
        train(data, tmp_path / "run", text, **{"epochs": 3, **options})
    assert not (tmp_path / "run" / "run.json").exists()


def test_evaluation_and_prediction_take_another_prior(data, tmp_path):
    out = tmp_path / "run"
    train(data, out, "logit-adjust")
    plain = zoo.predict(out, data)
    with pytest.warns(UserWarning, match="class prior of label, as given: disc 0.100, square 0.900"):
        moved = zoo.predict(out, data, prior="{disc: 0.1, square: 0.9}")
    assert (moved["label.p(square)"] > plain["label.p(square)"]).all()
    found = zoo.evaluate(out, data, prior="em")
    assert "estimated on these" in found.warnings[0]
    with pytest.raises(ZooError, match=r"--prior is em, or a positive share of each class, as \{disc: 1, square: 1\}"):
        zoo.evaluate(out, data, prior="{disc: 1}")


def test_bad_data_and_bad_words_are_refused_where_a_run_begins(shape_folder, tmp_path):
    """Each with one sentence that says what there is, before anything is computed and without a run left behind."""
    data, one = shape_folder(30, 10, name="two"), shape_folder(20, 0, name="one")
    (one / "square").mkdir(exist_ok=True)

    def refused(message, imbalance, folder=data, error=ZooError, **options):
        with pytest.raises(error, match=message):
            train(folder, tmp_path / "run", imbalance, **options)
        assert not (tmp_path / "run").exists()

    refused("one class only, 'disc'|no image in", "class-weights", folder=one)
    refused("class square has 7 training rows, and k=9 neighbours need 10; say k=6", "smote(k=9)", error=OptionError)
    refused("class-weights has no parameter 'betta'; it takes .*did you mean beta", "class-weights(betta=0.9)")
    refused("'crack' is no class and 'square' has no weight", "class-weights(weights={disc: 1, crack: 5})")
    refused("'crack' is no class; classes of label: disc, square", "prior-correct(prior={crack: 0.5})")
    refused("unknown imbalance strategy 'clas-weights'.*did you mean class-weights", "clas-weights")
    refused(r"favours the frequent classes \(r = -1", "class-weights(weights={disc: 22, square: 7})")
    refused("would be corrected 2.00 times over: balanced-sampler", "balanced-sampler+class-weights")


def test_a_class_that_training_lacks_is_refused_whatever_the_strategy(shape_folder, tmp_path):
    root = shape_folder(20, 10)
    lines = ["image,label,split"]
    for path in sorted(root.rglob("*.png")):
        split = "test" if path.parent.name == "square" and int(path.stem) < 5 else ("train", "val")[int(path.stem) % 2]
        label = "crack" if split == "test" else path.parent.name
        lines.append(f"{path},{label},{split}")
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(ZooError, match="class 'crack' of target 'label' has 5 rows in test but none in training"):
        train(tmp_path / "table.csv", tmp_path / "run", "class-weights", image="image", target="label", split="split")


@pytest.mark.parametrize(
    "text",
    ["class-weights", "balanced-sampler", "undersample", "bagging(members=3)", "balanced-bagging(members=3)",
     "easy-ensemble(members=2, rounds=2)", "rusboost(rounds=3)", "remix", "balanced-mixup", "threshold", "tau-norm",
     "minority-augment(others=light)", "ldam+drw(start=0.5)", "mislas(epochs=1)"],
)  # fmt: skip
def test_a_class_of_one_training_row_is_trained_or_refused_in_a_sentence(text, shape_folder, tmp_path):
    root = shape_folder(24, 8)
    lines = ["image,label,split"]
    for path in sorted(root.rglob("*.png")):
        number = int(path.stem)
        alone = path.parent.name == "square" and number > 0
        lines.append(f"{path},{path.parent.name},{('val', 'test')[number % 2] if alone else 'train'}")
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    options = {"image": "image", "target": "label", "split": "split"}
    if "bagging" in text:  # a draw without the row has one class
        with pytest.raises(ZooError, match="cannot be fitted on these features"):
            train(tmp_path / "table.csv", tmp_path / "run", text, **options)
    else:
        run = train(tmp_path / "table.csv", tmp_path / "run", text, **options).run
        assert run["data"]["counts"]["label"]["square"]["train"] == 1


@pytest.mark.parametrize("name", ["gaussian", '"vae(epochs=3)"', '"gan(steps=3)"'])
def test_synthetic_rows_train_and_stand_in_no_split(name, data, tmp_path):
    result = train(data, tmp_path / "run", f"synthetic(generator={name})", epochs=2, freeze="head")
    (answer,) = result.run["imbalance"]
    assert answer["corrected"] == pytest.approx(1.0)
    splits = pl.read_csv(tmp_path / "run" / "splits.csv")
    assert len(splits) == 54  # as many as there are images: rows that were made are in no split
    assert result.metrics["label"]["test"]["rows"] == (splits["split"] == "test").sum()
