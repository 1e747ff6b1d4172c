"""Rows of a later boundary are made from rows of an earlier one where that gives the same, and nowhere else."""

import numpy as np
import pytest
import torch

from zoo.data.images import Images
from zoo.data.ingest import ingest
from zoo.features.boundary import find_boundary
from zoo.features.digests import weights_digest
from zoo.features.extract import keep
from zoo.features.onward import Earlier, leads_on
from zoo.features.prefix import Prefix, Recipe
from zoo.model.freeze import freeze_parts
from zoo.model.load import strip
from zoo.model.view import build_view
from zoo.specs.policies import parse_policy

CPU = torch.device("cpu")


def prefix_of(view, images, policy, **recipe):
    parsed = parse_policy(policy)
    freeze_parts(view.module, view, parsed, digest=False)
    boundary = find_boundary(view, "pooled", parsed, images.pixels(np.arange(3)))
    assert boundary.there
    prefix = Prefix(view, "pooled", Recipe(**recipe), CPU, boundary.cut)
    return prefix, weights_digest(view.module, boundary.behind)


@pytest.fixture
def ready(shapes, tmp_path, request):
    torch.manual_seed(0)
    view = strip(build_view(request.param, "none"))
    paths, _ = shapes(24)
    return view, ingest(paths, view.input, tmp_path / "images")


@pytest.mark.parametrize("ready", ["timm/test_resnet", "timm/test_efficientnet", "timm/test_vit"], indirect=True)
@pytest.mark.parametrize("later", ["head", "last(1)"])
@pytest.mark.parametrize("recipe", [{}, {"precision": "bf16", "channels_last": True}])
def test_what_goes_on_from_an_earlier_boundary_is_what_comes_from_the_images(ready, later, recipe):
    view, images = ready
    earlier, _ = prefix_of(view, images, "last(2)", **recipe)
    target, _ = prefix_of(view, images, later, **recipe)
    pixels = images.pixels(np.arange(8))
    assert leads_on(earlier, target, pixels)
    found, wanted = target.beyond(earlier, earlier(pixels)).float(), target(pixels).float()
    # Depthwise convolutions round by where their input lies in memory.
    assert float((found - wanted).norm() / wanted.norm()) <= (1e-6 if "precision" not in recipe else 2e-2)


@pytest.mark.parametrize("ready", ["timm/test_resnet"], indirect=True)
def test_no_other_recipe_no_other_order_and_no_other_weights_lead_on(ready):
    view, images = ready
    pixels = images.pixels(np.arange(4))
    earlier, _ = prefix_of(view, images, "last(2)")
    target, _ = prefix_of(view, images, "head")
    assert leads_on(earlier, target, pixels)
    assert not leads_on(prefix_of(view, images, "last(2)", precision="bf16")[0], target, pixels)
    assert not leads_on(target, earlier, pixels)
    with pytest.raises(ValueError, match="nothing lies beyond the features of the whole backbone"):
        earlier.beyond(target, target(pixels))
    with torch.no_grad():
        next(view.module.parameters()).mul_(3)  # of the stem
    assert not leads_on(prefix_of(view, images, "last(2)")[0], target, pixels)


@pytest.mark.parametrize("ready", ["timm/test_resnet"], indirect=True)
def test_images_are_read_for_those_rows_alone_that_no_earlier_row_leads_to(ready, tmp_path, monkeypatch):
    view, images = ready
    earlier, early_digest = prefix_of(view, images, "last(2)")
    target, digest = prefix_of(view, images, "head")
    reference = keep(target, images, np.arange(24), digest=digest, cache=tmp_path / "reference").load()
    keep(earlier, images, np.arange(20), digest=early_digest, cache=tmp_path / "own")
    read, pixels = [], Images.pixels
    monkeypatch.setattr(Images, "pixels", lambda self, rows: read.extend(rows.tolist()) or pixels(self, rows))
    source = Earlier(prefix=earlier, digest=early_digest)
    found = keep(target, images, np.arange(24)[::-1], digest=digest, cache=tmp_path / "own", earlier=source)
    assert (found.computed, sorted(read)) == (24, [20, 21, 22, 23])
    assert torch.allclose(found.load().flip(0), reference, atol=1e-6)
