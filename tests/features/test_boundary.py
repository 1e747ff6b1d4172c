"""A policy leaves a boundary: behind a frozen backbone, inside it, or none, each with its reason."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from zoo.features.boundary import Boundary, find_boundary
from zoo.features.cut import capture
from zoo.features.digests import weights_digest
from zoo.features.prefix import Prefix, Recipe, normalise
from zoo.model.adapt import adapt_input
from zoo.model.freeze import freeze_parts, named_tensors
from zoo.model.load import strip
from zoo.model.view import build_view
from zoo.specs import parse_policy

CPU = torch.device("cpu")


def pixels(view, count=3):
    shape = (count, 3, *view.input.size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def built(name="timm/test_efficientnet", size=None):
    torch.manual_seed(0)
    return strip(adapt_input(build_view(name, "none"), size=size))


def bounded(view, text):
    policy = parse_policy(text)
    freeze_parts(view.module, view, policy, digest=False)
    return find_boundary(view, "pooled", policy, pixels(view))


def test_a_frozen_backbone_lies_before_the_boundary_whole():
    found = bounded(built(), "head")
    assert (found.whole, found.cut, found.there) == (True, None, True)
    assert found.why == "the whole backbone is frozen"


def test_where_the_first_layer_trains_there_is_no_boundary():
    found = bounded(built(), "none")
    assert (found.whole, found.cut, found.there) == (False, None, False)
    assert found.why == "policy none trains the backbone from its first layer"
    with pytest.raises(ValueError, match="a boundary without a cut has no suffix"):
        found.suffix()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    ("name", "size"),
    [("resnet18", 64), ("vit_tiny_patch16_224", 64), ("hrnet_w18_small", 64), ("xcit_nano_12_p16_224", 64)],
)
def test_the_features_behind_a_boundary_are_those_of_the_backbone(name, size, channels_last):
    view = built(f"timm/{name}", size)
    found = bounded(view, "last(1)")
    assert found.cut is not None
    assert found.why.startswith("nothing trains before ")
    given = pixels(view, 5)
    prefix = Prefix(view, "pooled", Recipe(channels_last=channels_last), CPU, found.cut)
    view.module.eval()
    with torch.no_grad(), found.suffix() as suffix:
        parts = suffix(prefix.packing.unpack(prefix(given)))
    with torch.no_grad():
        whole = view.extract(view.module, normalise(given, view.input), "pooled")
    assert torch.allclose(parts, whole, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "hrnet_w18_small", "xcit_nano_12_p16_224"])
def test_what_crosses_depends_on_nothing_that_does_not_count_for_the_cache(name):
    view = built(f"timm/{name}", 64)
    found = bounded(view, "last(2)")
    given = normalise(pixels(view), view.input)
    view.module.eval()
    digest = weights_digest(view.module, found.behind)
    with torch.no_grad():
        before = capture(found.cut, view.module, found.run, given)
        for tensor_name, tensor in named_tensors(view.module).items():
            if tensor_name in found.behind and tensor.is_floating_point():
                tensor.normal_()
        after = capture(found.cut, view.module, found.run, given)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert weights_digest(view.module, found.behind) == digest
    with torch.no_grad():
        next(view.module.parameters()).add_(1)
    assert weights_digest(view.module, found.behind) != digest


def test_every_policy_has_rows_of_its_own():
    view = built()
    keys = []
    for text in ("head", "last(1)", "last(2)"):
        found = bounded(view, text)
        prefix = Prefix(view, "pooled", Recipe(), CPU, found.cut)
        keys.append((prefix.description("x").get("boundary"), prefix.shape))
    assert keys[0][0] is None
    assert len({str(key) for key in keys}) == 3


class Neighbours(nn.Module):
    """Subtracts what the images of a batch have in common."""

    def forward(self, images):
        return images - images.mean(0)


def test_a_backbone_that_cannot_be_cut_says_before_which_stage_and_why():
    view = built()
    module = view.module
    module.add_module("common", Neighbours())
    extract = view.extract

    def common(backbone, images, kind):
        return extract(backbone, backbone.common(images), kind)

    found = bounded(dataclasses.replace(view, extract=common), "last(1)")
    assert not found.there
    last = view.stages[-1].name if view.stages[-1].role == "stage" else view.stages[-2].name
    assert found.why == (
        f"timm/test_efficientnet cannot be cut before {last}: "
        "what crosses for one image depends on the others in its batch"
    )


def test_a_backbone_that_bears_no_blank_images_trains_whole():
    view = built()
    extract = view.extract

    def scaled(backbone, images, kind):
        if not float(images.detach().std()):
            raise ZeroDivisionError("a constant image")
        return extract(backbone, images, kind)

    found = bounded(dataclasses.replace(view, extract=scaled), "last(1)")
    assert not found.there
    assert found.why.endswith("ZeroDivisionError: a constant image")


def test_a_boundary_is_made_of_what_it_is_told():
    view = built()
    assert not Boundary(view=view, kind="pooled").there
