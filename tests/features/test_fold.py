"""Folding is observed, counted, and changes nothing but the speed."""

import copy

import pytest
import timm
import torch
import torchvision
from torch import nn

from zoo.features.fold import find_foldable, fold


def shaken(model):
    """Running statistics and affine parameters as after training, so that a wrong fold shows."""
    generator = torch.Generator().manual_seed(0)
    for part in model.modules():
        if isinstance(getattr(part, "running_mean", None), torch.Tensor):
            part.running_mean.normal_(0, 0.1, generator=generator)
            part.running_var.uniform_(0.5, 1.5, generator=generator)
            nn.init.uniform_(part.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(part.bias, 0, 0.1, generator=generator)
    return model.eval()


def folded(model, images):
    pairs = find_foldable(model, lambda module: module(images))
    copied = copy.deepcopy(model)
    return copied, fold(copied, pairs)


@pytest.mark.parametrize(
    ("build", "size", "count"),
    [
        (lambda: torchvision.models.resnet18(), 64, 20),
        (lambda: torchvision.models.mobilenet_v3_small(), 64, 34),
        (lambda: timm.create_model("tf_efficientnet_lite0"), 64, 49),  # BatchNormAct2d
        (lambda: timm.create_model("hrnet_w18_small"), 64, 91),
        (lambda: torchvision.models.densenet121(), 64, 59),  # 62 of its 121 stand before a convolution
        (lambda: timm.create_model("test_vit"), 160, 0),
    ],
)
def test_the_folded_network_computes_the_same(build, size, count):
    torch.manual_seed(0)
    model = shaken(build())
    images = torch.randn(2, 3, size, size)
    fast, found = folded(model, images)
    assert found == count
    with torch.no_grad():
        reference, result = model(images), fast(images)
    assert float((result - reference).norm() / reference.norm()) < 1e-5


class TwoReaders(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, images):
        made = self.conv(images)
        return self.norm(made) + made


class SharedNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.norm = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, images):
        return self.norm(self.second(self.norm(self.first(images))))


class Standardised(nn.Module):
    """A convolution whose weight is computed in the forward pass, as weight standardisation does."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, images):
        weight = self.conv.weight - self.conv.weight.mean()
        return self.norm(nn.functional.conv2d(images, weight))


@pytest.mark.parametrize("cls", [TwoReaders, SharedNorm, Standardised])
def test_what_must_not_be_folded_is_left_alone(cls):
    torch.manual_seed(0)
    model = shaken(cls())
    images = torch.randn(2, 3, 8, 8)
    fast, found = folded(model, images)
    assert found == 0
    assert torch.equal(fast(images), model(images))
