"""From names to views: resolution, suggestions, weights, and the check of what a source says."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import zoo.model.view
from zoo.errors import PluginError, UnknownNameError, WeightsError, ZooError
from zoo.model.view import build_view, check_view, describe, find_entry, split_name
from zoo.registry.catalogue import Catalogue, CatalogueRow
from zoo.specs import BackboneEntry, BackboneSource, BackboneView, FeatureKind, InputSpec, Weights, partition


class Tiny(nn.Module):
    """Two stages and a classifier."""

    def __init__(self):
        super().__init__()
        self.stem, self.body, self.head = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)


def _view(module=None, **changes):
    module = module or Tiny()
    parts = partition(
        module, [("stem", "stem", ["stem"]), ("stage1", "stage", ["body"])], classifier=["head"] if module.head else []
    )
    fields = {
        "name": "acme/tiny",
        "module": module,
        "features": (FeatureKind(name="pooled", width=4),),
        "input": InputSpec(size=(8, 8), resize=8),
        "extract": lambda *_: None,
        "reset_classifier": lambda *_: None,
        **parts,
    }
    return BackboneView(**{**fields, **changes})


def _build(model, tag):
    return _view(name=f"acme/{model}", weights=tag or "none")


ACME = BackboneSource(
    name="acme",
    entries=lambda: [
        BackboneEntry(name="tiny", weights=(Weights(tag="good"), Weights(tag="better"))),
        BackboneEntry(name="bare"),
    ],
    build=_build,
    describe=lambda module: _view(module) if isinstance(module, Tiny) else None,
)


@pytest.fixture(autouse=True)
def acme(monkeypatch):
    """One source named acme and no other, whatever is installed."""
    plugin = type("Plugin", (), {"distribution": "acme-backbones", "version": "1", "name": "acme"})()
    monkeypatch.setattr(zoo.model.view.SOURCES, "items", lambda: [(plugin, ACME)])
    rows = tuple(CatalogueRow(source="acme", distribution="acme-backbones", entry=entry) for entry in ACME.entries())
    monkeypatch.setattr(zoo.model.view, "catalogue", lambda: Catalogue(rows=rows))


def test_names_are_source_model_and_tag():
    assert split_name("timm/vit_x.tag") == ("timm", "vit_x", "tag")
    assert split_name("timm/vit_x.tag.with.dots") == ("timm", "vit_x", "tag.with.dots")
    assert split_name("resnet50") == ("", "resnet50", None)


@pytest.mark.parametrize(
    ("name", "weights", "loaded"),
    [
        ("acme/tiny", None, "good"),
        ("acme/tiny.better", None, "better"),
        ("acme/tiny", "better", "better"),
        ("acme/tiny", "none", "none"),
        ("acme/bare", "none", "none"),
        ("acme-backbones:acme/tiny", None, "good"),
    ],
)
def test_weights_come_from_the_option_then_the_name_then_the_default(name, weights, loaded):
    assert build_view(name, weights).weights == loaded


def test_rows_of_the_catalogue_are_found_by_name():
    assert find_entry("acme/tiny.good").name == "acme/tiny"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiny", r"'tiny' names no source; say source/model.*did you mean acme/tiny\?"),
        ("nmae/tiny", r"unknown backbone source 'nmae'; there are acme"),
        ("acme/tyni", r"acme has no backbone 'tyni'; `zoo list acme/` shows what it has; did you mean acme/tiny\?"),
        ("acme/tiny.goood", r"acme/tiny has no weights 'goood'; it has good, better; did you mean good\?"),
        ("acme/bare.good", r"acme/bare has no weights 'good'; it has none at all"),
    ],
)
def test_unknown_names_say_what_there_is(name, message):
    with pytest.raises(UnknownNameError, match=message):
        build_view(name)


def test_a_network_without_pretrained_weights_asks_for_random_ones():
    with pytest.raises(WeightsError, match=r"acme/bare has no pretrained weights; say weights none"):
        build_view("acme/bare")


@pytest.mark.parametrize(("tag", "came"), [("good", "none"), (None, "good"), ("good", "better")])
def test_a_source_that_gives_other_weights_than_it_was_asked_for_is_at_fault(monkeypatch, tag, came):
    lying = dataclasses.replace(ACME, build=lambda model, tag: _view(weights=came))
    monkeypatch.setattr(zoo.model.view.SOURCES, "get", lambda name: lying)
    asked = tag or "none"
    with pytest.raises(
        PluginError,
        match=rf"plugin acme-backbones 1 \(backbone tiny\): it was asked for the weights '{asked}' "
        f"and gave a view that says '{came}'; `zoo check acme` shows more",
    ):
        build_view("acme/tiny", asked)


def test_a_word_that_is_no_tag_means_the_run_or_file_of_that_name_here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownNameError, match="acme/tiny has no weights 'run1'"):
        build_view("acme/tiny", "run1")
    state = Tiny().state_dict()
    for name in ("run1", "good", "none"):
        (tmp_path / name).mkdir()
        save_file(state, tmp_path / name / "model.safetensors")
    save_file(state, tmp_path / "plain")
    view = build_view("acme/tiny", "run1")
    assert view.weights == "file model.safetensors"
    assert torch.equal(view.module.stem.weight, state["stem.weight"])
    assert build_view("acme/tiny", "plain").weights == "file plain"
    assert [build_view("acme/tiny", word).weights for word in ("good", "none")] == ["good", "none"]


def test_two_answers_about_the_weights_are_refused():
    for other in ("better", "none"):
        with pytest.raises(ZooError, match=rf"names the weights 'good' and --weights says '{other}'"):
            build_view("acme/tiny.good", other)
    assert build_view("acme/tiny.good", "good").weights == "good"


def test_a_network_of_the_users_own_is_described_by_its_source():
    module = Tiny()
    assert describe(module).module is module
    with pytest.raises(ZooError, match="no installed source knows a Linear; networks of these are known: acme"):
        describe(nn.Linear(1, 1))


def _without(view, name):
    return tuple(
        dataclasses.replace(stage, parameters=tuple(kept for kept in stage.parameters if kept != name))
        for stage in view.stages
    )


def test_views_that_do_not_hold_are_the_plugins_fault():
    view = _view()
    check_view(view)
    broken = {
        r"body\.bias lie in no stage": {"stages": _without(view, "body.bias")},
        r"head\.scale are not in the network": {"classifier": (*view.classifier, "head.scale")},
        r"stem\.weight lie in two places": {"classifier": (*view.classifier, "stem.weight")},
        "its view has no features": {"features": ()},
        "two stages have one name": {"stages": tuple(dataclasses.replace(stage, name="same") for stage in view.stages)},
    }
    for message, change in broken.items():
        with pytest.raises(PluginError, match=rf"^plugin acme-backbones 1 \(backbone tiny\): .*{message}"):
            check_view(dataclasses.replace(view, **change))
    with pytest.raises(PluginError, match="has no stages"):
        check_view(dataclasses.replace(view, module=nn.Identity(), stages=(), classifier=()))


def test_auxiliary_classifiers_count():
    module = Tiny()
    module.aux = nn.Linear(4, 2)
    held = tuple(f"aux.{kind}" for kind in ("weight", "bias"))
    check_view(dataclasses.replace(_view(), module=module, auxiliary=held, auxiliary_modules=("aux",)))
    assert torch.is_tensor(module.aux.weight)
