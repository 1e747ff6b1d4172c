"""The main job on small pictures: what a run folder holds, and what a user's mistakes look like."""

import json
import shutil

import polars as pl
import pytest
import torch
from safetensors import safe_open

import zoo
from zoo.cli import main
from zoo.config import PredictConfig
from zoo.errors import DataError, IntegrityError, OptionError, RunError, UnknownNameError, ZooError
from zoo.jobs.predict import run_prediction
from zoo.jobs.progress import Reporter
from zoo.registry import plugins
from zoo.run.artifact import FILES, load_artifact
from zoo.training.loop import Trainer

BACKBONE = "tiny/test_efficientnet"


def train(data, out, **options):
    fields = {
        "backbone": BACKBONE,
        "epochs": 5,
        "batch_size": 8,
        "quiet": True,
        "device": "cpu",
        "precision": "fp32",
        **options,
    }
    return zoo.train(data, out=out, **fields)


@pytest.mark.pictures
def test_a_folder_becomes_a_run_that_predicts_and_evaluates(shape_folder, tmp_path):
    data, out = shape_folder(), tmp_path / "runs" / "first"
    result = train(data, out, imbalance=("class-weights",))
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    assert (out / "report.html").read_text().count('<g id="line2d') > 20  # curves, and the ticks of their axes
    run = json.loads((out / "run.json").read_text())
    assert run["freeze"]["verified"].endswith("are bit for bit what they were before training")
    assert run["data"]["splits"]["train"] + run["data"]["splits"]["val"] + run["data"]["splits"]["test"] == 60
    assert run["imbalance"][0]["corrected"] == pytest.approx(1.0)
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics == json.loads(json.dumps(result.metrics))
    assert metrics["label"]["test"]["balanced_accuracy"] > 0.8  # discs and squares are told apart
    assert pl.read_csv(out / "history.csv").height == 5

    again = zoo.evaluate(out, data)
    assert again.rows == metrics["label"]["test"]["rows"]
    assert again.metrics["label"]["accuracy"] == metrics["label"]["test"]["accuracy"]

    predictions = pl.read_csv(out / "predictions.csv").filter(pl.col("split") == "test")
    images = [data / image for image in predictions["image"]]
    fresh = zoo.predict(out, images)
    assert fresh["label.predicted"].to_list() == predictions["label.predicted"].to_list()
    assert fresh["label.p(disc)"].to_list() == pytest.approx(predictions["label.p(disc)"].to_list(), abs=1e-6)


def test_the_model_file_says_what_it_is(shape_folder, tmp_path):
    train(shape_folder(), tmp_path / "run")
    with safe_open(tmp_path / "run" / "model.safetensors", framework="pt") as file:
        header = file.metadata()
    assert header["format"] == "1"
    assert header["backbone"] == BACKBONE
    assert header["weights"] == "fixed"
    assert json.loads(header["tasks"]) == [{"name": "label", "kind": "classification", "classes": ["disc", "square"]}]
    assert json.loads(header["preprocessing"])["size"] == [160, 160]
    assert json.loads(header["versions"])["torch"] == torch.__version__.partition("+")[0]


def test_a_second_run_computes_no_feature_again(shape_folder, tmp_path):
    data = shape_folder()
    train(data, tmp_path / "one")
    second = train(data, tmp_path / "two", seed=1)
    (rows,) = [d for d in second.run["decisions"] if d["what"] == "rows through the frozen part"]
    assert (rows["choice"], rows["why"]) == ("0 computed", "60 were there")


def test_without_the_cache_the_head_is_bit_for_bit_the_same(shape_folder, tmp_path):
    data = shape_folder(32, 32)
    # 8 rows in every batch on both sides: one row may round otherwise in a batch of another size.
    # Nothing is measured, so that both compute in one layout however busy the machine is.
    options = {"batch_size": 16, "test_fraction": 0.5, "val_fraction": 0.5, "deterministic": True}
    heads = []
    for cache in (True, False):
        out = tmp_path / f"cache-{cache}"
        train(data, out, cache=cache, **options)
        heads.append(load_artifact(out).model.heads.state_dict())
    for name, value in heads[0].items():
        assert torch.equal(value, heads[1][name]), name


@pytest.mark.parametrize("policy", ["last(1)", "none"])
def test_part_of_the_backbone_may_train_too(shape_folder, tmp_path, policy):
    data = shape_folder(16, 16)
    result = train(data, tmp_path / "run", freeze=policy, epochs=1)
    trained = load_artifact(tmp_path / "run").model.backbone.state_dict()
    start = zoo.load(BACKBONE, num_classes=2).backbone.state_dict()
    same = {name for name, value in trained.items() if torch.equal(value, start[name])}
    assert ("conv_stem.weight" in same) == (policy == "last(1)")
    assert "conv_head.weight" not in same
    assert result.run["freeze"]["policy"] == policy
    assert zoo.evaluate(tmp_path / "run", data).metrics["label"]["accuracy"] == pytest.approx(
        result.metrics["label"]["test"]["accuracy"]
    )


def table(tmp_path, shape_folder, rows=40):
    """A CSV with a numeric and a categorical covariate with holes, a group and two targets."""
    root = shape_folder(rows // 2, rows // 2)
    data = [
        {
            "path": f"{name}/{row}.png",
            "shape": name,
            "parity": "even" if row % 2 == 0 else "odd",
            "size": None if row % 5 == 0 else float(row + (name == "disc") * 100),
            "site": None if row % 7 == 0 else ("north" if row % 3 else "south"),
            "module": f"m{row % 10}-{name}",
        }
        for name in ("disc", "square")
        for row in range(rows // 2)
    ]
    path = root / "table.csv"
    pl.DataFrame(data).write_csv(path)
    return path


def test_a_table_with_covariates_groups_and_two_targets(shape_folder, tmp_path):
    path = table(tmp_path, shape_folder)
    result = train(
        path,
        tmp_path / "run",
        image="path",
        target=("shape", "parity"),
        covariate=("size", "site"),
        group="module",
        impute=("covariates=most-frequent",),
        imbalance=("parity=class-weights",),
        epochs=3,
    )
    assert set(result.metrics) == {"shape", "parity"}
    assert result.metrics["shape"]["test"]["accuracy"] > 0.8
    assert result.run["imputation"] == [
        {"kind": "covariates", "imputer": "most-frequent", "filled": {"size": 8, "site": 6}}
    ]
    assert result.run["data"]["covariates"] == ["size", "site=north", "site=south"]
    splits = pl.read_csv(tmp_path / "run" / "splits.csv").with_columns(pl.read_csv(path)["module"])
    assert splits.group_by("module").agg(pl.col("split").n_unique())["split"].to_list() == [1] * 20

    scored = zoo.evaluate(tmp_path / "run", path)
    assert scored.metrics["shape"]["accuracy"] == result.metrics["shape"]["test"]["accuracy"]
    # Images alone: the covariates are missing, are filled as in training, and that is said.
    config = PredictConfig(run=tmp_path / "run", images=(str(path.parent / "disc" / "1.png"),))
    found = run_prediction(config, Reporter(quiet=True))
    assert len(found.frame) == 1
    assert any("size" in warning for warning in found.warnings)


def test_covariates_reach_the_head(shape_folder, tmp_path):
    """The label is the covariate, the pictures say nothing: only a head that sees the covariate can tell."""
    root = shape_folder(160, 0)
    rows = [{"image": f"disc/{row}.png", "label": "ab"[row % 2], "hint": "xy"[row % 2]} for row in range(160)]
    pl.DataFrame(rows).write_csv(root / "t.csv")
    options = {"target": ("label",), "epochs": 30, "lr": 0.01}
    blind = train(root / "t.csv", tmp_path / "blind", **options).metrics["label"]["test"]["accuracy"]
    seeing = train(root / "t.csv", tmp_path / "seeing", covariate=("hint",), **options)
    assert blind < 0.65
    assert seeing.metrics["label"]["test"]["accuracy"] > 0.85


def test_bad_files_stop_the_run_with_their_list_or_are_dropped(shape_folder, tmp_path):
    data = shape_folder(60, 60)
    (data / "disc" / "empty.png").write_bytes(b"")
    whole = (data / "square" / "1.png").read_bytes()
    (data / "square" / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError) as caught:
        train(data, tmp_path / "run")
    assert "empty.png" in str(caught.value)
    assert "cut.png" in str(caught.value)
    assert "--bad-files drop" in str(caught.value)
    assert not (tmp_path / "run" / "run.json").exists()
    result = train(data, tmp_path / "run", bad_files="drop", max_bad=0.02, epochs=1, overwrite=True)
    assert {entry["image"].rpartition("/")[2] for entry in result.run["data"]["bad_files"]} == {"empty.png", "cut.png"}


def test_a_run_is_not_overwritten_unless_asked(shape_folder, tmp_path):
    data = shape_folder(16, 16)
    train(data, tmp_path / "run", epochs=1)
    before = (tmp_path / "run" / "run.json").read_text()
    with pytest.raises(RunError, match=r"holds a run; choose another --out, or say --overwrite"):
        train(data, tmp_path / "run", epochs=1)
    assert (tmp_path / "run" / "run.json").read_text() == before
    train(data, tmp_path / "run", epochs=2, overwrite=True)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["training"]["epochs"] == 2


def test_overwrite_takes_no_file_that_a_run_did_not_make(shape_folder, tmp_path):
    mine = tmp_path / "project"
    mine.mkdir()
    (mine / "splits.csv").write_text("my own work")
    with pytest.raises(RunError, match=r"holds no run but splits.csv; choose another --out"):
        train(shape_folder(8, 8), mine, overwrite=True)
    (mine / "run.json").write_text('{"scripts": {}}')
    with pytest.raises(RunError, match=r"run.json was not written by backbone-zoo"):
        train(shape_folder(8, 8), mine, overwrite=True)
    assert (mine / "splits.csv").read_text() == "my own work"


def test_copies_of_a_training_image_among_held_out_rows_are_told(shape_folder, tmp_path):
    data = shape_folder(16, 16)
    for row in range(12):
        shutil.copy(data / "disc" / "0.png", data / "disc" / f"copy{row}.png")
    result = train(data, tmp_path / "run", epochs=1)
    assert any("have the same image file as a training row" in said for said in result.run["data"]["warnings"])


def test_a_validation_split_without_labels_is_refused_before_training(shape_folder, tmp_path):
    with pytest.raises(DataError, match="no validation row has a label of 'label', and one is needed"):
        train(shape_folder(8, 8), tmp_path / "run", val_fraction=0.0)


def test_a_second_target_with_few_labels_does_not_stop_the_run(shape_folder, tmp_path):
    root = shape_folder(30, 30)
    rows = [
        {"image": f"{name}/{row}.png", "shape": name, "rare": "xy"[row % 2] if row < 4 else None}
        for name in ("disc", "square")
        for row in range(30)
    ]
    pl.DataFrame(rows).write_csv(root / "t.csv")
    result = train(root / "t.csv", tmp_path / "run", target=("shape", "rare"), epochs=2)
    assert result.run["data"]["missing_labels"] == {"shape": 0, "rare": 52}
    assert result.metrics["shape"]["test"]["rows"] == 15


def test_a_split_may_keep_a_second_column_in_proportion(shape_folder, tmp_path):
    root = shape_folder(40, 40)
    rows = [
        {"image": f"{name}/{row}.png", "label": name, "site": "north" if row % 4 else "south"}
        for name in ("disc", "square")
        for row in range(40)
    ]
    pl.DataFrame(rows).write_csv(root / "t.csv")
    train(root / "t.csv", tmp_path / "run", target=("label",), stratify="site", epochs=1)
    splits = pl.read_csv(tmp_path / "run" / "splits.csv").with_columns(pl.read_csv(root / "t.csv")["site"])
    test = splits.filter(pl.col("split") == "test")
    assert test.filter(pl.col("site") == "south").height == 5
    assert test.height == 20


def test_a_run_folder_that_is_a_file_or_somebody_elses_is_refused_in_a_sentence(shape_folder, tmp_path):
    data, file = shape_folder(16, 16), tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(RunError, match=r"file is a file; a run is a folder"):
        train(data, file)
    with pytest.raises(RunError, match=r"cannot write to .*file/run: Not a directory"):
        train(data, file / "run")
    assert file.read_text() == "mine"
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(RunError, match=r"own holds no run but notes\.txt; choose another --out$"):
            train(data, tmp_path / "own", overwrite=overwrite)


def test_a_crash_while_writing_leaves_no_folder_that_reads_as_a_run(shape_folder, tmp_path, monkeypatch):
    data = shape_folder(16, 16)
    train(data, tmp_path / "run", epochs=1)

    def broken(path, content):
        if path.name == "report.html":
            raise KeyboardInterrupt
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    monkeypatch.setattr("zoo.jobs.outcome.write_whole", broken)
    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path / "run", epochs=1, overwrite=True)
    with pytest.raises(RunError, match=r"is no finished run: it has no run.json"):
        zoo.evaluate(tmp_path / "run", data)


def test_a_frozen_tensor_that_moves_fails_the_run_loudly(shape_folder, tmp_path, monkeypatch, capsys):
    plain = Trainer.fit

    def meddling(self, progress=None):
        fit = plain(self, progress)
        self.model.backbone.bn1.running_mean.add_(1)
        return fit

    monkeypatch.setattr(Trainer, "fit", meddling)
    words = ["train", str(shape_folder(16, 16)), "--backbone", BACKBONE, "--freeze", "last(1)", "--epochs", "1"]
    assert main([*words, "--out", str(tmp_path / "run"), "--quiet"]) == 1
    assert "frozen tensors changed under policy last(1): backbone.bn1.running_mean" in capsys.readouterr().err
    with pytest.raises(IntegrityError):
        train(shape_folder(16, 16, "again"), tmp_path / "other", freeze="last(1)", epochs=1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"backbone": "tiny/test_eficientnet"}, UnknownNameError, "did you mean tiny/test_efficientnet"),
        ({"backbone": "tinny/test_vit"}, UnknownNameError, "unknown backbone source 'tinny'.*did you mean tiny"),
        ({"backbone": "test_vit"}, UnknownNameError, "did you mean tiny/test_vit"),
        ({"backbone": "tiny/test_vit.fixt"}, UnknownNameError, "has no weights 'fixt'.*did you mean fixed"),
        ({"freeze": "heads"}, OptionError, "unknown freeze policy 'heads'.*did you mean head"),
        ({"freeze": "last(40)"}, OptionError, "stages .*, not 40"),
        ({"imbalance": ("class-weight",)}, OptionError, "did you mean class-weights"),
        ({"imbalance": ("class-weights(weights={disc: 1, sqare: 2})",)}, OptionError, "sqare"),
        ({"impute": ("covariates=modus",)}, OptionError, "unknown imputer of covariates 'modus'"),
        ({"impute": ("pixels=median",)}, OptionError, "unknown imputer of pixels 'median'.*median fills covariates"),
        ({"impute": ("covariates=mean",)}, OptionError, "the run has no covariates; name columns with --covariate"),
        ({"head": "liner"}, OptionError, "unknown head 'liner'.*did you mean linear"),
        ({"head": "linear(dropout=2)"}, OptionError, "dropout must lie in"),
        ({"features": "cls"}, ZooError, "offers no 'cls' features; it offers pooled"),
        ({"metric": "acuracy"}, UnknownNameError, "unknown metric 'acuracy'.*did you mean accuracy"),
        ({"epochs": 0}, ZooError, "--epochs must be positive, not 0"),
        ({"warmup": 2.0}, ZooError, "--warmup must be between 0 and 1"),
        ({"device": "gpu"}, ZooError, "'gpu' is no device"),
        ({"workers": 0}, ZooError, "--workers must be positive, not 0"),
        ({"seed": -1}, ZooError, "--seed must be between 0 and"),
        ({"val_fraction": 1.0}, ZooError, "--val-fraction must be at least 0 and less than 1"),
        ({"lr": float("nan")}, ZooError, "--lr must be positive, not nan"),
        ({"imbalance": ("colour=class-weights",)}, OptionError, "no target 'colour'; the targets are label"),
        ({"weights": "none"}, ZooError, "would freeze them as they are"),
        ({"target": ("colour",)}, DataError, "colour"),
        ({"covariate": ("label",)}, DataError, "label"),
    ],
)
def test_a_mistake_is_one_clear_message(shape_folder, tmp_path, options, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        train(shape_folder(6, 6), tmp_path / "run", **options)


def test_data_that_cannot_be_split_or_learned_say_why(shape_folder, tmp_path):
    with pytest.raises(DataError, match="one class only"):
        train(shape_folder(12, 0, "one"), tmp_path / "run")
    with pytest.raises(DataError, match="square"):
        train(shape_folder(12, 1, "few"), tmp_path / "run")
    with pytest.raises(DataError, match="nowhere"):
        train(tmp_path / "nowhere", tmp_path / "run")
    split = tmp_path / "split"
    shutil.copytree(shape_folder(12, 12, "train"), split / "train")
    shutil.copytree(shape_folder(4, 4, "test"), split / "test")
    shutil.move(split / "test" / "square", split / "test" / "star")
    with pytest.raises(DataError, match="class 'star' of target 'label' has 4 rows in test but none in training"):
        train(split, tmp_path / "run")


def test_a_mistake_on_the_command_line_exits_with_2_and_no_traceback(shape_folder, tmp_path, capsys):
    words = ["train", str(shape_folder(6, 6)), "--backbone", "tiny/nothing", "--out", str(tmp_path / "run")]
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("zoo train: ")
    assert "Traceback" not in shown.err


def test_the_commands_speak_json_to_programs(shape_folder, tmp_path, capsys):
    data, out = shape_folder(16, 16), str(tmp_path / "run")
    common = ["--device", "cpu", "--quiet", "--json"]
    assert main(["train", str(data), "--backbone", BACKBONE, "--epochs", "1", "--out", out, *common]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert main(["evaluate", out, str(data), *common]) == 0
    scored = json.loads(capsys.readouterr().out)
    assert scored["metrics"]["label"]["accuracy"] == trained["metrics"]["label"]["test"]["accuracy"]
    assert main(["predict", out, str(data / "disc" / "0.png"), *common]) == 0
    (predicted,) = json.loads(capsys.readouterr().out)
    assert predicted["label.predicted"] in ("disc", "square")


def test_the_commands_speak_text_to_people(shape_folder, tmp_path, capsys):
    data, out = shape_folder(16, 16), str(tmp_path / "run")
    words = ["train", str(data), "--backbone", BACKBONE, "--imbalance", "class-weights", "--epochs", "1"]
    assert main([*words, "--out", out, "--device", "cpu", "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert "bit for bit what they were before training" in shown
    assert "label, test: accuracy" in shown
    assert main(["evaluate", out, str(data), "--quiet"]) == 0
    assert "precision" in capsys.readouterr().out
    target = tmp_path / "predictions.csv"
    assert main(["predict", out, str(data / "disc"), "--out", str(target), "--quiet"]) == 0
    assert capsys.readouterr().out == f"16 predictions in {target}\n"
    assert pl.read_csv(target).height == 16


def test_predict_leaves_out_bad_files_and_says_so(shape_folder, tmp_path, capsys):
    data, out = shape_folder(16, 16), str(tmp_path / "run")
    train(data, out, epochs=1)
    (data / "disc" / "empty.png").write_bytes(b"")
    assert main(["predict", out, str(data / "disc"), "--quiet"]) == 2
    assert "empty.png" in capsys.readouterr().err
    assert main(["predict", out, str(data / "disc"), "--bad-files", "drop", "--quiet"]) == 0
    assert "left out" in capsys.readouterr().err


def test_random_weights_may_be_frozen_by_who_asks_for_it(shape_folder, tmp_path):
    result = train(shape_folder(16, 16), tmp_path / "run", weights="none", random_frozen=True, epochs=1)
    assert result.run["backbone"]["tag"] == "none"


def test_evaluation_refuses_foreign_classes_and_rows_it_was_trained_on(shape_folder, tmp_path):
    data = shape_folder(16, 16)
    train(data, tmp_path / "run", epochs=1)
    shutil.copytree(data, tmp_path / "other")
    shutil.move(tmp_path / "other" / "disc", tmp_path / "other" / "circle")
    with pytest.raises(DataError, match=r"classes that the run does not know: circle; it knows disc, square"):
        zoo.evaluate(tmp_path / "run", tmp_path / "other")
    splits = pl.read_csv(tmp_path / "run" / "splits.csv").filter(pl.col("split") == "train")
    seen = tmp_path / "seen"
    for image in splits["image"]:
        (seen / image).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(data / image, seen / image)
    with pytest.raises(DataError, match=r"no labelled row to score.*--rows all scores what it was trained on too"):
        zoo.evaluate(tmp_path / "run", seen)
    assert zoo.evaluate(tmp_path / "run", seen, rows="all").rows == splits.height


def test_a_damaged_or_foreign_model_file_is_named(shape_folder, tmp_path):
    data, out = shape_folder(16, 16), tmp_path / "run"
    train(data, out, epochs=1)
    model = out / "model.safetensors"
    whole = model.read_bytes()
    model.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match=r"cannot be read .*damaged or no safetensors file"):
        zoo.predict(out, data)
    model.write_bytes(whole.replace(b'"format":"1"', b'"format":"9"'))
    with pytest.raises(RunError, match=r"has format 9, this backbone-zoo reads up to 1; upgrade it"):
        zoo.predict(out, data)
    with pytest.raises(RunError, match="there is no run folder"):
        zoo.predict(tmp_path / "nothing", data)


def test_a_run_whose_plugin_is_gone_says_so(shape_folder, tmp_path, monkeypatch):
    data, out = shape_folder(16, 16), tmp_path / "run"
    train(data, out, epochs=1)
    monkeypatch.setattr("zoo.registry.lookup.load_plugins", plugins.load_plugins)
    said = r"which tiny-plugin 1 offered when it was made and which is not installed: pip install tiny-plugin==1$"
    with pytest.raises(RunError, match=rf"cannot be used here: it needs the backbone tiny/\w+, {said}"):
        zoo.predict(out, data)


def test_an_option_that_there_is_not_is_refused_with_a_close_one(tmp_path):
    with pytest.raises(ZooError, match=r"train has no option 'freez'; did you mean freeze\?"):
        zoo.train("elpv", backbone=BACKBONE, out=tmp_path / "run", freez="head")


def test_a_refused_run_leaves_no_empty_folder(shape_folder, tmp_path):
    with pytest.raises(ZooError, match="has no weights 'nosuch'"):
        zoo.train(shape_folder(), backbone=BACKBONE, weights="nosuch", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_views_without_augmentation_are_refused(tmp_path):
    with pytest.raises(ZooError, match="--views counts augmented views of each image; say --augment light too"):
        zoo.train("elpv", backbone=BACKBONE, out=tmp_path / "run", views=2)


@pytest.mark.gpu
def test_a_gpu_trains_and_predicts_as_the_cpu_does(shape_folder, tmp_path):
    data = shape_folder()
    on_gpu = train(data, tmp_path / "gpu", device="cuda")
    assert on_gpu.run["machine"]["device"] == "cuda"
    assert on_gpu.metrics["label"]["test"]["balanced_accuracy"] > 0.8
    moved = zoo.predict(tmp_path / "gpu", data, device="cpu")
    there = zoo.predict(tmp_path / "gpu", data, device="cuda")
    assert moved["label.p(disc)"].to_list() == pytest.approx(there["label.p(disc)"].to_list(), abs=1e-3)
    for policy in ("last(1)", "none"):
        result = train(data, tmp_path / policy, device="cuda", freeze=policy, epochs=1, precision="bf16")
        assert result.run["freeze"]["policy"] == policy
