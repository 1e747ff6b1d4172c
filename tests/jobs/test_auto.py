"""`--imbalance auto`: what it tries, on which rows, what it takes, that it decides once, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import zoo
from zoo.errors import DataError, OptionError, ZooError
from zoo.jobs import auto, trials
from zoo.jobs.resume import Checkpoints, InterruptedRunError
from zoo.jobs.trials import Trials
from zoo.run.artifact import load_artifact

TRAIN = {
    "backbone": "tiny/test_resnet", "size": 64, "batch_size": 16, "epochs": 2, "quiet": True, "device": "cpu",
    "precision": "fp32", "deterministic": True,
}  # fmt: skip


def train(data, out, **options):
    return zoo.train(data, out=out, **{**TRAIN, "imbalance": "auto", **options})


@pytest.fixture
def data(shape_folder):
    return shape_folder(40, 14)


@pytest.fixture
def few(monkeypatch):
    """Two candidates and one division, so that runs are short."""
    monkeypatch.setattr(auto, "CANDIDATES", ("class-weights", "logit-adjust"))
    monkeypatch.setattr(trials, "REPEATS", 1)


@pytest.fixture
def scored(monkeypatch):
    """Trials whose scores are given: by strategy a gain over plain training, which varies from fold to fold."""
    gains = {}

    def score(self, text, fold, metric):
        number = next(at for at, own in enumerate(self.folds) if own is fold)
        gain, wobble = gains.get(text, (0.0, 0.0))
        asked.append((text, metric))
        return 0.5 + 0.01 * (number % 3) + gain + wobble * (-1) ** number

    asked = []
    monkeypatch.setattr(Trials, "score", score)
    return gains, asked


def choice(result):
    (found,) = result.run["chosen_strategies"]
    return found


def test_the_surest_gain_is_taken_and_it_says_why(scored, data, tmp_path):
    gains, asked = scored
    gains |= {"class-weights": (0.10, 0.01), "smote": (0.11, 0.10), "logit-adjust": (0.05, 0.0)}
    result = train(data, tmp_path / "run")
    found = choice(result)
    assert found["strategy"] == "class-weights"  # smote gains more in the mean, and perhaps nothing
    assert result.run["imbalance"][0]["strategy"] == "class-weights"
    assert {metric for _, metric in asked} == {"balanced_accuracy"}
    assert set(found["tried"]) == {"none", *auto.CANDIDATES, "threshold(metric=balanced_accuracy)"}
    (said,) = [each for each in result.run["decisions"] if each["what"] == "imbalance of label, chosen"]
    assert said["choice"] == "class-weights"
    for part in (
        "balanced accuracy, cross-validated over 10 folds of the training rows (not by log loss, by which plain",
        "0.609 ± 0.014; +0.100 ± 0.011 against plain training, of all gains the surest",
        "next is smote with 0.619 ± 0.",
        "which may be noise",
    ):
        assert part in said["why"], said["why"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Strategies that were tried for label" in page
    assert "class-weights (taken)" in page
    assert result.run["command"]["imbalance"] == ["auto"] or result.run["command"]["imbalance"] == ("auto",)


def test_plain_training_stays_where_nothing_beats_it_by_more_than_noise(scored, data, tmp_path):
    gains, _ = scored
    gains |= {**dict.fromkeys(auto.CANDIDATES, (0.03, 0.2)), "focal": (0.5, 0.0)}
    result = train(data, tmp_path / "run", metric="macro_f1")
    found = choice(result)
    assert (found["strategy"], found["metric"]) == ("none", "macro_f1")
    assert result.run["imbalance"] == []
    assert "no candidate beats plain training by more than noise; next is " in found["why"]
    assert "not by" not in found["why"]


def test_what_the_run_cannot_do_is_left_out_with_its_reason(scored, data, tmp_path):
    result = train(data, tmp_path / "run", freeze="last(1)", label_smoothing=0.1, epochs=1)
    left = choice(result)["left_out"]
    assert set(left) == {"balanced-softmax", "smote"}
    assert "--freeze last(1) moves them" in left["smote"]
    assert "with the head alone on features of the backbone as it is" in choice(result)["why"]


def test_thresholds_are_tried_where_they_can_be_tuned_for_the_metric(scored, data, tmp_path):
    assert "threshold(metric=mcc)" in choice(train(data, tmp_path / "a", metric="mcc"))["tried"]
    tried = choice(train(data, tmp_path / "b", metric="recall(square)"))["tried"]
    assert not any("threshold" in text for text in tried)


def test_a_run_ends_as_one_with_the_strategy_that_was_chosen(scored, data, tmp_path):
    gains, _ = scored
    gains["class-weights"] = (0.2, 0.0)
    chosen = train(data, tmp_path / "auto")
    named = train(data, tmp_path / "named", imbalance="class-weights")
    assert chosen.metrics == named.metrics
    one, other = (load_artifact(tmp_path / name).model.state_dict() for name in ("auto", "named"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("freeze", ["head", "last(1)"])
def test_candidates_are_really_trained(few, freeze, data, tmp_path):
    result = train(data, tmp_path / "run", freeze=freeze, epochs=3)
    found = choice(result)
    assert found["folds"] == 5
    tried = {text: own["mean"] for text, own in found["tried"].items()}
    assert all(0 <= value <= 1 for value in tried.values())
    assert set(tried) == {"none", "class-weights", "logit-adjust", "threshold(metric=balanced_accuracy)"}
    again = choice(train(data, tmp_path / "again", freeze=freeze, epochs=3))
    assert again == found


def test_scored_rows_have_no_part_in_training_and_unlabelled_rows_only_there(few, monkeypatch, shape_folder, tmp_path):
    root, seen = shape_folder(30, 15), []
    lines = ["image,label,split"]
    for row, path in enumerate(sorted(root.rglob("*.png"))):
        label = "" if row % 9 == 4 else path.parent.name
        lines.append(f"{path},{label},{('train', 'train', 'val', 'test')[row % 4]}")
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    plain = trials.fit_on_features

    def watching(heads, own, *rest, **options):
        seen.append((set(own.train.tolist()), set(own.val.tolist()), own.targets["label"]))
        return plain(heads, own, *rest, **options)

    score = Trials.score

    def held(self, text, fold, metric):
        found = score(self, text, fold, metric)
        train_rows, val, target = seen[-1]
        assert not train_rows & set(fold[1].tolist())
        assert not val & (set(fold[1].tolist()) | train_rows)
        assert bool(target.mask[torch.from_numpy(fold[1])].all())
        return found

    monkeypatch.setattr(trials, "fit_on_features", watching)
    monkeypatch.setattr(Trials, "score", held)
    options = {"image": "image", "target": "label", "split": "split"}
    result = train(tmp_path / "table.csv", tmp_path / "run", **options)
    splits = result.run["data"]["splits"]
    assert len(seen) == 4 * 5
    assert max(len(rows) for rows, _, _ in seen) < splits["train"]


def test_groups_stay_whole(monkeypatch, shape_folder, tmp_path):
    root, folds = shape_folder(40, 20), []
    lines = ["image,label,patient"]
    lines += [f"{path},{path.parent.name},p{int(path.stem) // 4}" for path in sorted(root.rglob("*.png"))]
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(Trials, "score", lambda self, text, fold, metric: folds.append((self, fold)) or 0.5)
    train(tmp_path / "table.csv", tmp_path / "run", image="image", target="label", group="patient")
    for made, (own, held) in folds:
        patients = np.array(made._base.data.table.frame["patient"].to_list())
        assert not set(patients[own]) & set(patients[held])


def test_it_decides_once_whatever_interrupts_the_run(scored, data, tmp_path, monkeypatch):
    gains, asked = scored
    gains["class-weights"] = (0.2, 0.0)
    options = {"freeze": "last(1)", "epochs": 3, "backbone_lr": 1e-3}
    train(data, tmp_path / "whole", **options)
    due, save = Checkpoints.due, Checkpoints.save

    def stopping(self, state):
        self._asked = "SIGTERM" if state.values["epoch"] == 2 else ""
        save(self, state)

    monkeypatch.setattr(Checkpoints, "due", lambda self: True)
    monkeypatch.setattr(Checkpoints, "save", stopping)
    with pytest.raises(InterruptedRunError):
        train(data, tmp_path / "cut", **options)
    monkeypatch.setattr(Checkpoints, "due", due)
    monkeypatch.setattr(Checkpoints, "save", save)
    gains["class-weights"], before = (-0.2, 0.0), len(asked)
    result = zoo.resume(tmp_path / "cut", quiet=True)
    assert len(asked) == before
    assert choice(result)["strategy"] == "class-weights"
    assert any(each["what"] == "imbalance of label, chosen" for each in result.run["decisions"])
    whole, cut = (load_artifact(tmp_path / name).model.state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_a_run_that_goes_on_from_another_chooses_too(few, data, tmp_path):
    zoo.train(data, out=tmp_path / "head", **TRAIN)
    options = {name: own for name, own in TRAIN.items() if name not in ("backbone", "size")}
    result = zoo.train(
        data, out=tmp_path / "on", start=tmp_path / "head", imbalance="auto", freeze="last(1)", **options
    )
    assert set(choice(result)["tried"]) >= {"none", "class-weights"}


def test_each_target_may_leave_the_choice_to_us(scored, shape_folder, tmp_path):
    gains, _ = scored
    gains["logit-adjust"] = (0.2, 0.0)
    root = shape_folder(30, 14)
    lines = ["image,shape,odd"]
    lines += [f"{path},{path.parent.name},{int(path.stem) % 3 == 0}" for path in sorted(root.rglob("*.png"))]
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    options = {"image": "image", "target": ("shape", "odd")}
    found = train(tmp_path / "table.csv", tmp_path / "a", imbalance=("class-weights", "odd=auto"), **options).run
    assert [(each["target"], each["strategy"]) for each in found["chosen_strategies"]] == [("odd", "logit-adjust")]
    assert [each["strategy"] for each in found["imbalance"]] == ["class-weights", "logit-adjust"]
    both = train(tmp_path / "table.csv", tmp_path / "b", imbalance=("auto", "odd=auto"), **options).run
    assert [each["target"] for each in both["chosen_strategies"]] == ["shape", "odd"]
    assert "by the labels of one target" in both["chosen_strategies"][0]["left_out"]["smote"]
    with pytest.raises(OptionError, match="no target 'even'"):
        train(tmp_path / "table.csv", tmp_path / "c", imbalance="even=auto", **options)
    with pytest.raises(OptionError, match="two options for target 'odd'"):
        train(tmp_path / "table.csv", tmp_path / "c", imbalance=("odd=auto", "odd=class-weights"), **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"imbalance": "auto+class-weights"}, OptionError, "auto chooses strategies by itself and stands alone"),
        ({"imbalance": "auto(5)"}, OptionError, "auto chooses strategies by itself and stands alone"),
        ({"cache": False}, ZooError, "on features that are computed once; leave out --no-cache"),
        ({"metric": "recall(circle)"}, ZooError, "unknown class 'circle'"),
    ],
)
def test_what_cannot_be_is_refused(options, error, message, data, tmp_path):
    with pytest.raises(error, match=message):
        train(data, tmp_path / "run", **options)


def test_classes_and_groups_that_cannot_be_divided_are_refused(shape_folder, tmp_path):
    message = "--imbalance auto cross-validates .* needs 3 of each class of label; square has 2. Name a strategy"
    with pytest.raises(DataError, match=message):
        train(shape_folder(20, 4, name="few"), tmp_path / "run")
    root = shape_folder(24, 24, name="grouped")
    lines = ["image,label,group,split"]
    for path in sorted(root.rglob("*.png")):
        split = ("train", "train", "val", "test")[int(path.stem) % 4]
        lines.append(f"{path},{path.parent.name},{path.parent.name}-{split},{split}")
    (tmp_path / "table.csv").write_text("\n".join(lines) + "\n")
    options = {"image": "image", "target": "label", "group": "group", "split": "split"}
    with pytest.raises(DataError, match="--imbalance auto cannot cross-validate: 2 groups cannot stand in 5 folds"):
        train(tmp_path / "table.csv", tmp_path / "run", **options)


def test_a_plan_is_made_for_what_was_chosen(scored, data, tmp_path):
    from zoo.config import TrainConfig
    from zoo.jobs.progress import Reporter
    from zoo.jobs.train import explain_training

    gains, _ = scored
    gains["class-weights"] = (0.2, 0.0)
    config = TrainConfig(data=str(data), out=tmp_path / "plan", imbalance=("auto",), **TRAIN)
    ((_, plan),) = explain_training(config, Reporter(quiet=True))
    assert plan.mode == "cached"
    assert not (tmp_path / "plan").exists()
