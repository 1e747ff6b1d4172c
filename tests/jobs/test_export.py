"""A run as a file: it gives what the run gives, says how it is used, and refuses what cannot be done."""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import zoo
from zoo.cli import main
from zoo.deployment import checking
from zoo.deployment.graphs import METADATA
from zoo.errors import RunError, ZooError
from zoo.jobs import export as job
from zoo.model.network import FineTuneModel
from zoo.registry.catalogue import Catalogue, CatalogueRow
from zoo.run.artifact import load_artifact
from zoo.specs import BackboneEntry

pytestmark = pytest.mark.long

LOST = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
needs_onnx = pytest.mark.skipif(bool(LOST), reason=f"the extra onnx is not installed: no {', '.join(LOST)}")
GRAPHS = [pytest.param("onnx", marks=needs_onnx), "torch"]
FORMATS = [*GRAPHS, "safetensors"]
BACKBONES = ("tiny/test_resnet", "tiny/test_vit", "tiny/test_efficientnet")


def train(data, out, **options):
    fields = {"backbone": "tiny/test_resnet", "epochs": 3, "batch_size": 8, "device": "cpu", "precision": "fp32"}
    zoo.train(data, out=out, quiet=True, **{**fields, **options})
    return out


@pytest.fixture(scope="module")
def kept():
    """Runs by backbone, trained once and copied for each test."""
    return {}


@pytest.fixture
def trained(kept, shape_folder, tmp_path, tmp_path_factory):
    def give(backbone):
        if backbone not in kept:
            data = shutil.copytree(shape_folder(), tmp_path_factory.mktemp("kept") / "data")
            kept[backbone] = train(data, data.with_name("run"), backbone=backbone, imbalance=("logit-adjust",))
        return Path(shutil.copytree(kept[backbone], tmp_path / "run"))

    return give


@pytest.fixture
def run(trained):
    return trained("tiny/test_resnet")


def data_of(run):
    return Path(json.loads((run / "run.json").read_text())["command"]["data"])


def card_code(path):
    return re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


def run_card(path, images, monkeypatch, **given):
    """What the code of a card finds, run in the card's folder on these images."""
    monkeypatch.chdir(path.parent)
    prepare, use = card_code(path)
    scope = {}
    exec(prepare.replace('["image.jpg"]', repr([str(image) for image in images])), scope)
    exec(use, {**given, "images": scope["images"]}, scope)
    return scope["found"]


def wanted(run, images, task="label"):
    frame = zoo.predict(run, images)
    return frame.select(pl.col(rf"^{task}\.p\(.*$")).to_numpy()


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("kind", FORMATS)
def test_an_export_gives_what_the_run_predicts_by_the_code_of_its_card(trained, tmp_path, monkeypatch, kind, backbone):
    run = trained(backbone)
    data = data_of(run)
    found = zoo.export(run, format=kind)
    assert found.check.difference < 1e-5
    assert found.check.what == "held-out images of the run's data"
    assert found.check.images == checking.IMAGES
    assert found.files[0] == tmp_path / "run-export" / f"model{job.SUFFIXES[kind]}"
    images = [data / "disc" / "1.png", data / "square" / "2.png", data / "square" / "3.png"]
    outputs = run_card(found.files[-1], images, monkeypatch)
    if kind == "safetensors":
        outputs = {"label": outputs.softmax(1)}
    (values,) = outputs.values()
    assert np.allclose(np.asarray(values), wanted(run, images), atol=1e-5)


@pytest.mark.parametrize("kind", GRAPHS)
def test_two_heads_and_covariates_become_two_outputs_and_a_second_input(shapes, tmp_path, kind):
    paths, labels = shapes(40)
    frame = pl.DataFrame(
        {
            "image": [str(path) for path in paths],
            "shape": [("disc", "square")[label] for label in labels],
            "colour": [("red", "blue")[label] for label in labels],
            "year": [None if row % 7 == 0 else 2000.0 + row for row in range(40)],
            "site": [("north", "south", "a|b")[row % 3] for row in range(40)],
        }
    )
    frame.write_csv(tmp_path / "table.csv")
    options = {"target": ("shape", "colour"), "covariate": ("site", "year"), "head": "mlp(hidden=8)"}
    run = train(tmp_path / "table.csv", tmp_path / "run", **options)
    found = zoo.export(run, format=kind, softmax=False)
    assert found.check.difference < 1e-5
    assert found.check.what == "held-out images of the run's data"
    card = found.files[-1].read_text()
    assert "| year | the number |" in card
    assert r"0, 1, … for a\|b, north, south" in card
    load = job.load_torch if kind == "torch" else lambda path: job.load_onnx(path, names)
    names = {task: f"{task}.logits" for task in ("shape", "colour")}
    served = load(found.files[0])
    images = torch.zeros(3, 3, 160, 160, dtype=torch.uint8)
    covariates = torch.tensor([[0.0, 2001.0], [3.0, 2001.0], [1.0, torch.nan]], dtype=torch.float64)
    outputs = served(images, covariates)
    assert set(outputs) == {"shape", "colour"}
    assert outputs["shape"][0].isfinite().all()
    assert outputs["shape"][1:].isnan().all()  # no such category; a hole: nothing is made up


def test_tensors_of_many_heads_stand_beside_the_backbone_s(shapes, tmp_path):
    paths, labels = shapes(40)
    frame = pl.DataFrame({"image": map(str, paths), "a": [f"c{x}" for x in labels], "b": [f"d{x}" for x in labels]})
    frame.write_csv(tmp_path / "table.csv")
    run = train(tmp_path / "table.csv", tmp_path / "run", target=("a", "b"), imbalance=("a=logit-adjust",))
    found = zoo.export(run, format="safetensors")
    assert found.check.difference < 1e-5
    assert found.notes == ("the heads stand beside the backbone's tensors, because it has 2 heads",)
    tensors = load_file(found.files[0])
    assert {"conv1.0.weight", "zoo_heads.heads.0.weight", "zoo_heads.heads.1.bias", "zoo_logit_bias.0"} <= set(tensors)
    assert "zoo_logit_bias." in found.files[-1].read_text()


def test_timm_builds_the_exported_network_from_its_folder(run, tmp_path):
    import timm

    folder = zoo.export(run, format="safetensors", out=str(tmp_path / "timm" / "model.safetensors")).files[0].parent
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    config = timm.data.resolve_data_config({}, model=network)
    assert network.pretrained_cfg["label_names"] == ["disc", "square"]
    assert (tuple(config["input_size"]), config["crop_mode"]) == ((3, 160, 160), "center")
    from PIL import Image

    data = data_of(run)
    images = [data / "disc" / "1.png", data / "square" / "2.png"]
    prepare = timm.data.create_transform(**config, is_training=False)
    batch = torch.stack([prepare(Image.open(path).convert("RGB")) for path in images])
    with torch.inference_mode():
        found = network(batch).softmax(1)
    assert np.allclose(found.numpy(), wanted(run, images), atol=2e-3)  # torchvision rounds pixels elsewhere


def test_torchvision_takes_the_exported_tensors(shape_folder, tmp_path, monkeypatch):
    row = CatalogueRow(source="torchvision", distribution="backbone-zoo", entry=BackboneEntry(name="resnet18"))
    monkeypatch.setattr("zoo.model.view.catalogue", lambda: Catalogue(rows=(row,)))
    data = shape_folder()
    options = {"backbone": "torchvision/resnet18", "weights": "none", "random_frozen": True, "size": 64, "epochs": 1}
    run = train(data, tmp_path / "run", **options)
    found = zoo.export(run, format="safetensors")
    images = [data / "disc" / "1.png"]
    outputs = run_card(found.files[-1], images, monkeypatch)
    assert "torchvision.models.get_model('resnet18', num_classes=2)" in card_code(found.files[-1])[1]
    assert np.allclose(outputs.softmax(1).numpy(), wanted(run, images), atol=1e-5)


def test_features_that_the_network_s_own_classifier_does_not_take_leave_the_head_beside(shape_folder, tmp_path):
    run = train(shape_folder(), tmp_path / "run", backbone="tiny/test_vit", features="mean")
    found = zoo.export(run, format="safetensors")
    assert found.check.difference < 1e-5
    assert "its head takes mean features" in found.notes[0]
    config = json.loads((found.files[0].parent / "config.json").read_text())
    assert config["num_classes"] == 0


@pytest.mark.parametrize("kind", GRAPHS)
def test_a_batch_of_a_given_size_is_checked_in_that_size(run, kind):
    found = zoo.export(run, format=kind, batch=3)
    assert found.check.difference < 1e-5
    names = {"label": "label.probabilities"}
    served = job.load_torch(found.files[0]) if kind == "torch" else job.load_onnx(found.files[0], names)
    with pytest.raises(Exception, match=r"(?i)expected|invalid|guard"):
        served(torch.zeros(2, 3, 160, 160, dtype=torch.uint8), None)


def test_a_head_over_tokens_takes_any_number_of_images(shape_folder, tmp_path):
    options = {"backbone": "tiny/test_vit", "head": "attention(heads=2)", "epochs": 1}
    found = zoo.export(train(shape_folder(), tmp_path / "run", **options), format="torch")
    assert found.check.difference < 1e-5
    served = job.load_torch(found.files[0])
    for count in (1, 5):
        assert served(torch.zeros(count, 3, 160, 160, dtype=torch.uint8), None)["label"].shape == (count, 2)


@needs_onnx
def test_an_onnx_file_says_what_it_is(run):
    import onnxruntime

    found = zoo.export(run, format="onnx")
    session = onnxruntime.InferenceSession(str(found.files[0]), providers=["CPUExecutionProvider"])
    (images,), (output,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.type, images.shape) == ("images", "tensor(uint8)", ["batch", 3, 160, 160])
    assert (output.name, output.shape) == ("label.probabilities", ["batch", 2])
    said = json.loads(session.get_modelmeta().custom_metadata_map["backbone-zoo"])
    assert said["output"]["label"]["classes"] == ["disc", "square"]
    assert (
        said["preprocessing"]["resize"] == load_artifact(found.files[0].parent.with_name("run")).model.view.input.resize
    )


def test_a_program_and_a_file_of_tensors_say_what_they_are(run, tmp_path):
    program = zoo.export(run, format="torch").files[0]
    extra = {METADATA: ""}
    torch.export.load(program, extra_files=extra)
    assert json.loads(extra[METADATA])["input"]["images"]["dtype"] == "uint8"
    with safe_open(zoo.export(run, format="safetensors").files[0], framework="pt") as file:
        header = file.metadata()
    assert header["format"] == "pt"
    assert json.loads(header["backbone-zoo"])["input"]["images"]["dtype"] == "float32"


def test_the_card_says_what_the_run_recorded_and_what_is_unknown(run):
    card = zoo.export(run, format="safetensors").files[-1].read_text()
    record = json.loads((run / "run.json").read_text())
    metrics = json.loads((run / "metrics.json").read_text())["label"]
    assert "| freeze policy | head |" in card
    assert "| answer to class imbalance | label: logit-adjust |" in card
    assert "| licence of those weights | unknown: their publisher states none |" in card
    assert "| licence | unknown: nobody stated it |" in card
    counts = record["data"]["counts"]["label"]["disc"]
    assert f"| disc | {counts['train']} | {counts['val']} | {counts['test']} |" in card
    assert f"| balanced accuracy | {metrics['val']['balanced_accuracy']:.3f}" in card
    assert "Predictions differ from the run's in float32 by" in card
    assert f"| torch | {record['versions']['torch']} |" in card
    assert "{{" not in card


def test_the_card_has_the_intervals_that_the_run_computed(run):
    metrics = json.loads((run / "metrics.json").read_text())
    test = metrics["label"]["test"]
    for scores in metrics["label"].values():
        scores["intervals"] = {"how": "1,000 resamples of the rows.", "bounds": {"accuracy": [0.5, 0.75]}}
    (run / "metrics.json").write_text(json.dumps(metrics))
    card = zoo.export(run, format="safetensors").files[-1].read_text()
    assert f"{test['accuracy']:.3f} [0.500, 0.750]" in card
    assert "In brackets: 1,000 resamples of the rows." in card


def test_a_card_of_a_run_that_recorded_little_says_unknown(run):
    content = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({"format": content["format"]}))
    (run / "metrics.json").unlink()
    found = zoo.export(run, format="safetensors")
    assert found.check.what.startswith("random images, because those of the run are not here: its record")
    card = found.files[-1].read_text()
    assert "| freeze policy | unknown: the run does not say |" in card
    assert "no held-out row had a label" in card


def test_random_images_serve_where_the_run_s_are_gone(run, tmp_path):
    record = json.loads((run / "run.json").read_text())
    record["command"]["data"] = str(tmp_path / "gone")
    (run / "run.json").write_text(json.dumps(record))
    found = zoo.export(run, format="safetensors")
    assert found.check.difference < 1e-5
    assert "random images, because those of the run are not here: there is no file or folder" in found.checked


def test_a_run_that_computes_in_bf16_is_compared_in_float32_and_the_card_says_how_far_bf16_is(shape_folder, tmp_path):
    run = train(shape_folder(), tmp_path / "run", precision="bf16")
    found = zoo.export(run, format="safetensors")
    assert found.check.difference < 1e-5 < found.check.rounding
    assert "the run itself predicts in bf16" in found.checked


def test_a_file_that_differs_from_the_run_is_refused_and_nothing_is_left(run, tmp_path, monkeypatch):
    load = job.load_torch

    def off(path):
        return lambda images, covariates: {k: v.roll(1, 1) for k, v in load(path)(images, covariates).items()}

    monkeypatch.setattr(job, "load_torch", off)
    with pytest.raises(ZooError, match=r"the exported file is not the run: .* Nothing was written"):
        zoo.export(run, format="torch")
    assert list((tmp_path / "run-export").iterdir()) == []
    assert not zoo.export(run, format="torch", check=False).check


def test_what_is_no_number_is_refused_too(run, monkeypatch):
    monkeypatch.setattr(job, "load_torch", lambda path: lambda x, c: {"label": torch.full((len(x), 2), torch.nan)})
    with pytest.raises(ZooError, match="differ from the run's in float32 by inf"):
        zoo.export(run, format="torch")


def test_adapters_are_merged_after_the_run_has_predicted_and_before_it_is_traced(run, monkeypatch):
    said = []
    predict = job.take_sample
    monkeypatch.setattr(job, "take_sample", lambda *words: (said.append("predicted"), predict(*words))[1])
    monkeypatch.setattr(FineTuneModel, "merge", lambda model: said.append("merged"), raising=False)
    monkeypatch.setattr(job, "_job", lambda *words, make=job._job: (said.append("made"), make(*words))[1])
    zoo.export(run, format="safetensors")
    assert said == ["predicted", "merged", "made"]


def test_the_command_prints_files_and_the_check(run, tmp_path, capsys):
    assert main(["export", str(run), "--format", "torch", "--out", str(tmp_path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["files"] == [str(tmp_path / "model.pt2"), str(tmp_path / "model.pt2.md")]
    assert said["checked"] is True
    assert said["max_difference"] < 1e-5
    assert main(["export", str(run), "--format", "torch", "--no-check"]) == 0
    assert "not compared with the run (--no-check)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "onx"}, "no format 'onx' to export to; there are onnx, torch, safetensors; did you mean onnx?"),
        ({"format": "torch", "batch": "dynamc"}, "a number of images, not 'dynamc'; did you mean dynamic?"),
        ({"format": "torch", "batch": 0}, "--batch is dynamic or a number of images, not '0'"),
        ({"format": "safetensors", "batch": 4}, "safetensors hold no batch; leave --batch out"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(tmp_path, options, message):
    with pytest.raises(ZooError) as caught:
        zoo.export(tmp_path / "run", **options)
    assert message in str(caught.value)


def test_a_run_that_is_not_finished_is_refused(tmp_path):
    with pytest.raises(RunError, match="there is no run folder"):
        zoo.export(tmp_path / "run", format="torch")
    (tmp_path / "run").mkdir()
    with pytest.raises(RunError, match=r"is no finished run: it has no run\.json"):
        zoo.export(tmp_path / "run", format="torch")
    (tmp_path / "run" / "resume.json").write_text("{}")
    with pytest.raises(RunError, match=r"was interrupted; finish it with zoo train --resume"):
        zoo.export(tmp_path / "run", format="torch")


def test_a_run_whose_model_states_too_little_is_refused(run, monkeypatch):
    def early(folder):
        raise KeyError("recipe")

    monkeypatch.setattr(job, "load_artifact", early)
    with pytest.raises(RunError, match="a release so early that its model does not state 'recipe'; train it anew"):
        zoo.export(run, format="torch")


def test_files_that_are_there_stay_unless_asked(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("mine")
    with pytest.raises(RunError, match=r"holds config\.json already; choose another --out, or say --overwrite"):
        zoo.export(run, format="safetensors", out=tmp_path / "out")
    assert (tmp_path / "out" / "config.json").read_text() == "mine"
    zoo.export(run, format="safetensors", out=tmp_path / "out", overwrite=True)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["num_classes"] == 2


def test_a_folder_that_cannot_be_written_is_told(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=f"cannot write to {re.escape(str(tmp_path / 'file'))}"):
        zoo.export(run, format="torch", out=tmp_path / "file" / "model.pt2")


def test_a_missing_extra_names_the_command_that_installs_it(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ZooError, match=r'needs onnx and onnxscript and onnxruntime, .* pip install "backbone-zoo\[onnx\]"'
    ):
        zoo.export(tmp_path, format="onnx")


def test_a_network_that_cannot_be_traced_says_what_else_there_is(run, monkeypatch):
    def untraceable(*words, **options):
        raise RuntimeError("data-dependent branch\nand more")

    monkeypatch.setattr("torch.export.export", untraceable)
    with pytest.raises(ZooError, match=r"cannot be traced: data-dependent branch; --batch 1 may .* safetensors"):
        zoo.export(run, format="torch")


@needs_onnx
def test_an_operation_that_onnx_lacks_points_at_torch(run, monkeypatch):
    def lacking(*words, **options):
        raise RuntimeError("no ONNX function")

    monkeypatch.setattr("torch.onnx.export", lacking)
    with pytest.raises(ZooError, match="ONNX cannot say what this network does: no ONNX function; try --format torch"):
        zoo.export(run, format="onnx")


@needs_onnx
def test_large_weights_go_to_a_file_beside(run, monkeypatch):
    monkeypatch.setattr("zoo.deployment.graphs.LARGEST_INLINE", 1000)
    found = zoo.export(run, format="onnx")
    assert [path.name for path in found.files] == ["model.onnx", "model.onnx.data", "model.onnx.md"]
    assert found.check.difference < 1e-5
