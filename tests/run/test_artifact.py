"""What a run's file keeps: its head with every parameter, however it was typed and whatever becomes the default."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

import zoo
from zoo.errors import OptionError
from zoo.model.load import in_full, one_head
from zoo.registry import plugins
from zoo.registry.plugins import Plugin
from zoo.run.artifact import Artifact, load_artifact, write_model
from zoo.specs import Argument, Call, HeadRecord, bind


@dataclass(frozen=True, kw_only=True)
class First:
    """Every kind of value that an option has."""

    size: int = 4
    learn_rate: float = 1e-05
    bound: float | None = None
    flag: bool = True
    words: str = "none of 1.5"
    kind: str = "none"
    shares: Mapping[str, float] = field(default_factory=lambda: {"a b": 1.0, "true": -2e-9})


@dataclass(frozen=True, kw_only=True)
class Second:
    """The same with other defaults."""

    size: int = 8
    learn_rate: float = 0.5
    bound: float | None = 1.0
    flag: bool = False
    words: str = ""
    kind: str = "some"
    shares: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Endless:
    """A default that no option can say."""

    size: int = 4
    bound: float = math.inf


def _swirl(width, outputs, parameters):
    head = nn.Sequential(nn.Linear(width, parameters.size), nn.Linear(parameters.size, outputs))
    head.parameters_of_the_test = parameters
    return head


@pytest.fixture
def swirl(monkeypatch):
    """Installs the head `swirl` with these parameters."""
    others = plugins.load_plugins()

    def install(parameters):
        records = {"zoo_heads": (HeadRecord(name="swirl", build=_swirl, parameters=parameters),)}
        plugin = Plugin(name="acme", distribution="acme-zoo", version="1", records=records)
        monkeypatch.setattr("zoo.registry.lookup.load_plugins", lambda: (*others, plugin))

    return install


def _write(folder, head):
    model = zoo.load("timm/test_efficientnet", weights="none", num_classes=2, head=head).eval()
    write_model(folder, Artifact(model=model, tag="none"))
    (folder / "run.json").write_text("{}")
    return model


def _values(model):
    parameters = model.heads.heads[0].parameters_of_the_test
    return {name: getattr(parameters, name) for name in First.__dataclass_fields__}


@pytest.mark.parametrize("head", ["swirl", "acme-zoo:swirl", "swirl(2, flag=false)", 'swirl(shares={x: 3}, words="")'])
def test_a_run_keeps_its_head_when_a_release_changes_the_defaults(swirl, tmp_path, head):
    swirl(First)
    model = _write(tmp_path, head)
    swirl(Second)
    again = load_artifact(tmp_path).model
    assert _values(again) == _values(model)
    images = torch.randn(1, 3, *model.view.input.size)
    assert torch.equal(again(images), model(images))
    swirl(First)
    assert str(load_artifact(tmp_path).model.heads.call) == str(in_full(again.heads.call))


def test_a_run_of_the_first_releases_whose_head_stands_as_typed_is_read(swirl, tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.run.artifact.in_full", lambda head: head)
    swirl(First)
    model = _write(tmp_path, "swirl(size=3)")
    again = load_artifact(tmp_path).model
    assert str(again.heads.call) == "swirl(size=3)"
    assert _values(again) == _values(model)


def test_a_head_in_full_is_the_same_head_and_says_everything(swirl):
    swirl(First)
    full = in_full(one_head("swirl(size=5)"))
    assert str(full) == (
        'swirl(size=5, learn_rate=1e-05, bound=none, flag=true, words="none of 1.5", kind="none", '
        'shares={"a b": 1.0, "true": -2e-09})'
    )
    assert bind(one_head(str(full)), First) == First(size=5)
    assert str(in_full(full)) == str(full)
    assert str(in_full(one_head("linear"))) == "linear(dropout=0.0)"


@pytest.mark.parametrize("text", ["swirl", "swirl(size=5)"])
def test_a_head_with_a_value_that_the_grammar_cannot_write_stays_as_it_was_typed(swirl, text):
    swirl(Endless)
    assert str(in_full(one_head(text))) == text


def test_a_head_with_a_text_that_cannot_be_read_back_stays_as_it_was_typed(swirl):
    swirl(First)
    typed = Call(name="swirl", arguments=(Argument(name="words", value='"it\'s"', column=6),))
    assert in_full(typed) is typed
    said = one_head("swirl(words='say \"a\"')")
    assert bind(one_head(str(in_full(said))), First).words == 'say "a"'
    with pytest.raises(OptionError, match="swirl has no parameter 'sice'"):
        in_full(one_head("swirl(sice=1)"))
