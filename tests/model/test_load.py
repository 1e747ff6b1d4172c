"""Heads put where the classifier was, on models of ours and on networks that the user built himself."""

from pathlib import Path

import pytest
import timm
import torch
import torchvision

import zoo
from zoo.errors import OptionError, ZooError
from zoo.model.load import assemble, strip
from zoo.model.network import Standardise, TaskHeads
from zoo.model.view import build_view
from zoo.specs import Task, parse_options


def test_a_name_gives_a_model_that_turns_images_into_logits():
    model = zoo.load("timm/test_vit", num_classes=7, weights="none")
    assert model(torch.randn(2, 3, 160, 160)).shape == (2, 7)


def test_feature_kinds_decide_what_the_head_takes():
    images = torch.randn(2, 3, 160, 160)
    widths = {
        kind: zoo.load("timm/test_vit", num_classes=2, weights="none", features=kind).features(images).shape
        for kind in ("pooled", "cls", "mean", "cls+mean")
    }
    assert widths == {"pooled": (2, 64), "cls": (2, 64), "mean": (2, 64), "cls+mean": (2, 128)}


def test_several_tasks_give_a_mapping_of_logits():
    view = strip(build_view("timm/test_efficientnet", "none"))
    tasks = [Task(name="defect", classes=("a", "b", "c")), Task(name="site.x", classes=("n", "s"))]
    logits = assemble(view, tasks)(torch.randn(2, 3, 64, 64))
    assert {name: value.shape for name, value in logits.items()} == {"defect": (2, 3), "site.x": (2, 2)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "say how many classes there are"),
        ({"num_classes": 1}, "at least two classes, not 1"),
        ({"classes": ("a", "a")}, "a class is named twice: a, a"),
        ({"num_classes": 3, "classes": ("a", "b")}, "num_classes=3 but 2 classes are named"),
        ({"num_classes": 2, "features": "tokens"}, "tokens need a head that pools them"),
        ({"num_classes": 2, "features": "patch"}, "offers no 'patch' features; it offers pooled, cls"),
        ({"num_classes": 2, "head": "linear+linear"}, "one head, please"),
        ({"num_classes": 2, "weights": "imagenet"}, "has no weights 'imagenet'"),
    ],
)
def test_what_cannot_be_loaded_says_why(options, message):
    with pytest.raises(ZooError, match=message):
        zoo.load("timm/test_vit", **{"weights": "none", **options})


def test_a_head_option_reaches_the_head():
    model = zoo.load("timm/test_vit", num_classes=2, weights="none", head="linear(dropout=0.25)")
    assert model.heads.heads[0][0].p == 0.25
    with pytest.raises(OptionError, match="linear has no parameter 'drop'"):
        zoo.load("timm/test_vit", num_classes=2, weights="none", head="linear(drop=0.25)")


@pytest.mark.parametrize(
    ("build", "path", "size"),
    [
        (lambda: torchvision.models.resnet18(), "fc", 64),
        (lambda: torchvision.models.mobilenet_v3_small(), "classifier.3", 64),
        (lambda: timm.create_model("test_convnext"), "head.fc", 64),
        (lambda: timm.create_model("test_vit"), "head", 160),
    ],
)
def test_a_network_of_your_own_gets_a_fresh_head_and_keeps_the_rest(build, path, size):
    model = build()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert zoo.adapt_head(model, ["ok", "crack", "dirt"]) is model
    assert model.eval()(torch.randn(2, 3, size, size)).shape == (2, 3)
    for name, value in model.state_dict().items():
        assert name.startswith(f"{path}.") or torch.equal(value, before[name]), name


def test_adapting_the_head_of_a_frozen_network_leaves_it_frozen():
    model = torchvision.models.resnet18()
    frozen = zoo.freeze(model, "head")
    zoo.adapt_head(model, 5)
    model.train()
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["fc.weight", "fc.bias"]
    assert not model.layer4.training
    frozen.verify()


def test_adapting_a_loaded_model_replaces_its_heads():
    model = zoo.load("timm/test_vit", num_classes=7, weights="none", freeze="head")
    zoo.adapt_head(model, 3)
    assert model(torch.randn(1, 3, 160, 160)).shape == (1, 3)
    with pytest.raises(ZooError, match="at least two classes, not 1"):
        zoo.adapt_head(model, 1)


def test_adapting_a_trained_model_keeps_its_statistics_and_its_precision():
    model = zoo.load("timm/test_vit", num_classes=7, weights="none").double()
    model.heads.standardise.fit(torch.randn(9, 64, dtype=torch.float64) * 3 + 5)
    mean, std = model.heads.standardise.mean.clone(), model.heads.standardise.std.clone()
    zoo.adapt_head(model, 3)
    assert torch.equal(model.heads.standardise.mean, mean)
    assert torch.equal(model.heads.standardise.std, std)
    assert model(torch.randn(1, 3, 160, 160, dtype=torch.float64)).dtype == torch.float64


def test_folding_the_standardisation_changes_no_logit():
    torch.manual_seed(0)
    features, covariates = torch.randn(20, 6) * 3 + 1, torch.randn(20, 2)
    heads = TaskHeads([Task(name="a", classes=("x", "y")), Task(name="b", classes=("u", "v", "w"))], 6, covariates=2)
    for head in heads.heads:
        torch.nn.init.normal_(head.weight)
    heads.standardise.fit(features)
    before = heads(features, covariates)
    assert heads.fold()
    assert torch.equal(heads.standardise.mean, torch.zeros(6))
    for name, logits in heads(features, covariates).items():
        assert torch.allclose(logits, before[name], atol=1e-5)


def test_a_head_that_is_not_linear_keeps_its_standardisation():
    heads = TaskHeads([Task(name="a", classes=("x", "y"))], 6, head=parse_options("linear(dropout=0.5)")[0])
    heads.standardise.fit(torch.randn(20, 6) + 5)
    assert not heads.fold()
    assert heads.standardise.mean.mean() > 4


def test_a_constant_feature_is_not_divided_by_zero():
    standardise = Standardise(2)
    standardise.fit(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    assert standardise(torch.tensor([[3.0, 5.0]])).tolist() == [[1.0, 0.0]]


def test_heads_that_were_trained_with_covariates_ask_for_them():
    heads = TaskHeads([Task(name="a", classes=("x", "y"))], 6, covariates=2)
    with pytest.raises(ValueError, match="trained with 2 covariate columns; give them"):
        heads(torch.randn(1, 6))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": "3"}, "num_classes is a whole number, not '3'"),
        ({"num_classes": 2.0}, "num_classes is a whole number, not 2.0"),
        ({"num_classes": True}, "num_classes is a whole number, not True"),
        ({"classes": "abc"}, r"classes are a list of names, such as \['ok', 'crack'\], not 'abc'"),
        ({"classes": 7.5}, "classes are a list of names"),
        ({"num_classes": 2, "size": "224"}, r"a size is a number of pixels or \(height, width\), not '224'"),
        ({"num_classes": 2, "size": 22.4}, "a size is a number of pixels"),
        ({"num_classes": 2, "size": (32, 32, 3)}, "a size is a number of pixels"),
        ({"num_classes": 2, "channels": 2.5}, "channels are a number or a list of names"),
        ({"num_classes": 2, "weights": 3}, "weights are a tag, a path or None, not 3"),
        ({"num_classes": 2, "name": 3}, "name is a text, not 3"),
    ],
)
def test_a_value_of_another_type_is_refused_in_our_words(options, message):
    with pytest.raises(ZooError, match=message):
        zoo.load(**{"name": "timm/test_vit", "weights": "none", **options})


def test_weights_may_be_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "weights")
    for path in (tmp_path / "weights", Path("weights")):
        assert zoo.load("timm/test_vit", num_classes=2, weights=path).view.weights == "file weights"
