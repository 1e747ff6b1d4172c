"""Heads with more classes: the old logits stay, the new rows are those of a new head, other heads are refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import zoo
from zoo.errors import ZooError
from zoo.model.grow import grow_heads
from zoo.registry import plugins
from zoo.registry.plugins import Plugin
from zoo.specs import HeadRecord, Task


def model_of(head, name="timm/test_vit"):
    model = zoo.load(name, weights="none", classes=["b", "c"], head=head).eval()
    with torch.no_grad():
        for parameter in model.heads.heads.parameters():
            parameter.add_(torch.randn_like(parameter))
    model.heads.standardise.mean.fill_(0.5)
    return model


@pytest.mark.parametrize("head", ["linear", "linear(dropout=0.2)", "mlp(hidden=2, layers=2)", "cosine", "attention"])
def test_the_old_classes_keep_their_logits(head):
    model = model_of(head)
    features = torch.randn(5, 4, model.heads.width) if head == "attention" else torch.randn(5, model.heads.width)
    before = model.heads(features)["label"]
    grow_heads(model, [Task(name="label", classes=("b", "c", "a"))], seed=3)
    after = model.heads(features)["label"]
    assert after.shape == (5, 3)
    assert torch.allclose(after[:, :2], before, rtol=1e-5, atol=1e-5)
    assert model.heads.tasks[0].classes == ("b", "c", "a")
    assert (model.heads.standardise.mean == 0.5).all()
    if head != "cosine":
        assert (after[:, 2] == 0).all()  # a new head's last layer is of zeros


def test_new_rows_are_a_function_of_the_seed():
    grown = []
    for seed in (1, 1, 2):
        torch.manual_seed(0)
        model = model_of("cosine")
        grow_heads(model, [Task(name="label", classes=("b", "c", "a"))], seed=seed)
        grown.append(model.heads.heads[0].weight)
    assert torch.equal(grown[0], grown[1])
    assert not torch.equal(grown[0][2], grown[2][2])
    assert torch.equal(grown[0][:2], grown[2][:2])


def test_without_a_new_class_nothing_is_touched():
    model = model_of("linear")
    heads = model.heads
    grow_heads(model, [Task(name="label", classes=("b", "c"))], seed=0)
    assert model.heads is heads


def test_classes_in_another_order_are_no_extension():
    with pytest.raises(ValueError, match="does not extend"):
        grow_heads(model_of("linear"), [Task(name="label", classes=("c", "b", "a"))], seed=0)


class Backwards(nn.Module):
    """Keeps the last class first."""

    def __init__(self, width, outputs):
        super().__init__()
        self.layer = nn.Linear(width, outputs)

    def forward(self, features):
        return self.layer(features).flip(1)


class Doubled(nn.Module):
    """Two rows a class."""

    def __init__(self, width, outputs):
        super().__init__()
        self.layer = nn.Linear(width, 2 * outputs)

    def forward(self, features):
        return self.layer(features).unflatten(1, (-1, 2)).mean(2)


class Named(nn.Module):
    """A tensor a class."""

    def __init__(self, width, outputs):
        super().__init__()
        self.register_parameter(f"weight{outputs}", nn.Parameter(torch.randn(outputs, width)))

    def forward(self, features):
        return features @ next(self.parameters()).T


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (Backwards, "logits of the old ones would be others"),
        (Doubled, r"its layer.weight is \(4, 64\) with 2 classes and \(6, 64\) with more"),
        (Named, "with more classes it has no weight2 of 2 dimensions"),
    ],
)
def test_a_head_that_keeps_its_classes_in_another_way_is_refused(monkeypatch, build, message):
    record = HeadRecord(name="odd", build=lambda width, outputs, parameters: build(width, outputs))
    extra = Plugin(name="odd", distribution="odd-plugin", version="1", records={"zoo_heads": (record,)})
    loaded = plugins.load_plugins()
    monkeypatch.setattr("zoo.registry.lookup.load_plugins", lambda: (*loaded, extra))
    with pytest.raises(ZooError, match=rf"the head odd cannot take further classes: {message}.*--weights RUN"):
        grow_heads(model_of("odd"), [Task(name="label", classes=("b", "c", "a"))], seed=0)
