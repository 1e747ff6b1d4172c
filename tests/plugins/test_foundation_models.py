"""Foundation models of timm: which tokens each kind of features is made of, other sizes, and gradients.

Each family is built small, with random weights; what is asked is which tokens go where, not how good they are.
"""

from __future__ import annotations

import dataclasses

import pytest
import timm
import torch

from zoo.errors import ZooError
from zoo.model.adapt import adapt_input
from zoo.model.view import check_view
from zoo_timm import zoo_backbones

(SOURCE,) = zoo_backbones()
SMALL = {"depth": 2, "embed_dim": 48, "num_heads": 3}
NAFLEX = {"naflexvit_base_patch16_gap", "naflexvit_base_patch16_siglip"}

# By architecture: patch, tokens before the patches, whether the first is a class token, how timm pools.
FAMILIES = {
    "vit_small_patch14_dinov2": (14, 1, True, "cls"),
    "vit_small_patch14_reg4_dinov2": (14, 5, True, "cls"),
    "vit_small_patch16_dinov3": (16, 5, True, "mean"),
    "vit_base_patch16_siglip_224": (16, 0, False, "attention"),
    "vit_base_patch16_siglip_gap_224": (16, 0, False, "mean"),
    "vit_base_patch16_clip_224": (16, 1, True, "cls"),
    "eva02_tiny_patch14_224": (14, 1, True, "mean"),
    "eva02_base_patch16_clip_224": (16, 1, True, "cls"),
    "vit_pe_core_tiny_patch16_384": (16, 1, True, "attention"),
    "naflexvit_base_patch16_gap": (16, 4, False, "mean"),
    "naflexvit_base_patch16_siglip": (16, 0, False, "attention"),
}


def _build(name):
    torch.manual_seed(0)
    size = {} if name in NAFLEX else {"img_size": 4 * FAMILIES[name][0]}
    module = timm.create_model(name, **SMALL, **size).eval()
    with torch.no_grad():  # some tables start as zeros, and a token that is zero proves nothing
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return SOURCE.describe(module)


def _images(name, grid=(4, 4)):
    torch.manual_seed(1)
    patch = FAMILIES[name][0]
    return torch.randn(2, 3, patch * grid[0], patch * grid[1])


def _norm(module):
    norm = getattr(module, "fc_norm", None)
    return norm if isinstance(norm, torch.nn.Module) else torch.nn.Identity()


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_every_kind_of_features_is_made_of_the_right_tokens(name):
    _, prefix, has_class, pool = FAMILIES[name]
    view, images = _build(name), _images(name)
    check_view(view)
    module = view.module
    # timm's own way to intermediate layers keeps patches apart from the tokens before them.
    route = {"indices": 1, "norm": True, "return_prefix_tokens": True, "output_fmt": "NLC"}
    (found,) = module.forward_intermediates(images, intermediates_only=True, **route)
    patches, before = found if prefix else (found, torch.empty(2, 0, 48))
    assert (patches.shape, before.shape) == ((2, 16, 48), (2, prefix, 48))
    norm = _norm(module)
    expected = {"tokens": norm(torch.cat([before, patches], 1)), "mean": norm(patches.mean(1))}
    if has_class:
        expected["cls"] = norm(before[:, 0])
        expected["cls+mean"] = torch.cat([expected["cls"], expected["mean"]], 1)
    if pool == "attention":
        # Registers of timm take part in the pooling.
        expected["pooled"] = norm(module.attn_pool(torch.cat([before, patches], 1)))
    else:
        expected["pooled"] = expected[pool]
    assert {kind.name for kind in view.features} == expected.keys()
    for kind in view.features:
        got = view.extract(module, images, kind.name)
        assert got.shape[-1] == kind.width
        torch.testing.assert_close(got, expected[kind.name], rtol=1e-4, atol=1e-5, msg=lambda m, k=kind: f"{k}: {m}")


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_reach_the_image_through_every_kind(name):
    view, images = _build(name), _images(name)
    for kind in view.features:
        view.module.zero_grad()
        view.extract(view.module, images, kind.name)[..., 0].sum().backward()
        stem = [view.module.get_parameter(each).grad for each in view.stages[0].parameters]
        assert any(grad is not None and grad.abs().sum() > 0 for grad in stem), kind.name


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_sizes_change_and_every_kind_follows(name):
    grid = (3, 6)
    patch, prefix, *_ = FAMILIES[name]
    view = _build(name)
    size = (patch * grid[0], patch * grid[1])
    adapted = adapt_input(view, size=size)
    check_view(adapted)
    assert adapted.input.size == size
    images = _images(name, grid)
    for kind in adapted.features:
        features = adapted.extract(adapted.module, images, kind.name)
        assert features.shape == ((2, prefix + grid[0] * grid[1], 48) if kind.name == "tokens" else (2, kind.width))
        assert features.isfinite().all()


@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3", "eva02_tiny_patch14_224"])
@torch.no_grad()
def test_rotary_positions_follow_the_size(name):
    patch = FAMILIES[name][0]
    view, images = _build(name), _images(name, (6, 6))
    adapted = adapt_input(view, size=6 * patch)
    got = adapted.extract(adapted.module, images, "tokens")
    fresh = timm.create_model(name, **SMALL, img_size=6 * patch).eval()
    state = {key: tensor for key, tensor in adapted.module.state_dict().items() if key in fresh.state_dict()}
    fresh.load_state_dict(state)
    torch.testing.assert_close(got, SOURCE.describe(fresh).extract(fresh, images, "tokens"))
    # And positions do matter: patches in another order are other features, and so is their mean.
    module, images = adapted.module.double(), images.double()
    mean, other = (adapted.extract(module, each, "mean") for each in (images, images.roll(patch, 3)))
    assert not torch.allclose(mean, other, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "fixed"),
    [
        ("vit_small_patch14_dinov2", True),
        ("vit_small_patch16_dinov3", False),
        ("vit_base_patch16_siglip_224", True),
        ("naflexvit_base_patch16_siglip", False),
    ],
)
@torch.no_grad()
def test_fixed_says_whether_another_size_goes_through_as_it_is(name, fixed):
    view = _build(name)
    assert view.input.fixed is fixed
    images = _images(name, (5, 5))
    if fixed:
        with pytest.raises(AssertionError, match="doesn't match model"):
            view.extract(view.module, images, "pooled")
    else:
        assert view.extract(view.module, images, "pooled").shape == (2, 48)


def test_a_flexible_network_reads_patches_by_a_linear_layer_and_keeps_its_channels():
    view = _build("naflexvit_base_patch16_gap")
    assert view.input_layers == ()
    with pytest.raises(ZooError, match="reads its image by no convolution that is known"):
        adapt_input(view, channels=4)


@torch.no_grad()
def test_the_convolutional_dinov3_gives_pooled_features_at_any_size():
    torch.manual_seed(0)
    name = next(tag for tag in timm.list_pretrained("convnext_tiny.dinov3*"))
    module = timm.create_model(name.partition(".")[0], depths=(1, 1, 1, 1), dims=(8, 16, 24, 32), num_classes=0).eval()
    view = SOURCE.describe(module)
    assert [(kind.name, kind.width) for kind in view.features] == [("pooled", 32)]
    assert not view.input.fixed
    images = torch.randn(2, 3, 96, 64)
    by_hand = module.head.norm(module.forward_features(images).mean((2, 3), keepdim=True)).flatten(1)
    adapted = adapt_input(view, size=(96, 64))
    torch.testing.assert_close(adapted.extract(module, images, "pooled"), by_hand)


@torch.no_grad()
def test_dinov2_as_its_authors_saved_it_is_converted(tmp_path):
    from zoo.model.weights import load_weights

    theirs, ours = _build("vit_small_patch14_reg4_dinov2"), _build("vit_small_patch14_reg4_dinov2")
    state = theirs.module.state_dict()
    # Their class token has no position in it, and their table of positions one place more.
    position = torch.randn(1, 1, 48)
    original = {name: tensor for name, tensor in state.items() if name not in ("reg_token", "cls_token", "pos_embed")}
    original |= {"register_tokens": state["reg_token"], "cls_token": state["cls_token"] - position}
    original |= {"pos_embed": torch.cat([position, state["pos_embed"]], 1), "mask_token": torch.zeros(1, 48)}
    path = tmp_path / "dinov2.pth"
    torch.save(original, path)
    for parameter in ours.module.parameters():
        parameter.zero_()
    view = load_weights(ours, path, SOURCE.convert)
    assert "names and shapes were converted by timm" in view.notes
    images = _images("vit_small_patch14_reg4_dinov2")
    torch.testing.assert_close(
        view.extract(view.module, images, "tokens"), theirs.extract(theirs.module, images, "tokens")
    )
    assert dataclasses.replace(view).licence == ""
