"""A small backbone with weights, offered by a plugin that only the tests have, so that every job runs offline."""

import dataclasses

import pytest
import torch

from zoo.registry import catalogue, plugins
from zoo.registry.plugins import Plugin
from zoo.specs import BackboneEntry, BackboneSource, Weights


def _build(model, tag):
    from zoo.registry.lookup import SOURCES

    torch.manual_seed(0)
    view = SOURCES.get("timm").build(model, None)
    return dataclasses.replace(view, name=f"tiny/{model}", weights=tag or "none")


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """`tiny/test_efficientnet`, `tiny/test_vit`: fixed random numbers that count as pretrained."""
    names = ("test_efficientnet", "test_vit", "test_resnet")
    source = BackboneSource(
        name="tiny",
        entries=lambda: [BackboneEntry(name=name, weights=(Weights(tag="fixed"),)) for name in names],
        build=_build,
    )
    extra = Plugin(name="tiny", distribution="tiny-plugin", version="1", records={"zoo_backbones": (source,)})
    loaded = plugins.load_plugins()
    rows = [catalogue.CatalogueRow(source="tiny", distribution="tiny-plugin", entry=e) for e in source.entries()]
    known = catalogue.Catalogue(rows=tuple(rows))
    monkeypatch.setattr("zoo.registry.lookup.load_plugins", lambda: (*loaded, extra))
    monkeypatch.setattr("zoo.model.view.catalogue", lambda: known)
