"""Which activations a convolution computes is observed, and changes nothing but the speed."""

import copy

import pytest
import timm
import torch
import torchvision
from torch import nn

from zoo.features.fuse import POST_OPS, ConvAct, find_fusable, fuse, fuses

pytestmark = pytest.mark.skipif(not fuses("cpu", torch.float32), reason="this torch has no oneDNN to fuse with")


def fused(model, images):
    model = model.eval()
    copied = copy.deepcopy(model)
    return copied, fuse(copied, find_fusable(model, lambda module: module(images)))


@pytest.mark.parametrize(
    ("build", "size", "count"),
    [
        (lambda: torchvision.models.squeezenet1_1(), 64, 26),
        (lambda: torchvision.models.vgg11(), 32, 8),
        (lambda: timm.create_model("tf_efficientnet_lite0"), 64, 0),  # its normalisations stand between: fold first
        (lambda: timm.create_model("test_vit"), 160, 0),
    ],
)
def test_the_fused_network_computes_the_same(build, size, count):
    torch.manual_seed(0)
    model, images = build(), torch.randn(2, 3, size, size)
    fast, found = fused(model, images)
    assert found == count
    with torch.inference_mode():
        reference, result = model(images), fast(images)
    assert float((result - reference).norm() / reference.norm()) < 1e-5


@pytest.mark.parametrize("layer", sorted(POST_OPS, key=lambda layer: layer.__name__))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_each_activation_is_the_one_that_torch_computes(layer, dtype):
    generator = torch.Generator().manual_seed(0)
    conv, act = nn.Conv2d(4, 6, 3, padding=1, stride=2, groups=2).to(dtype), layer()
    images = (8 * torch.randn(2, 4, 9, 7, generator=generator)).to(dtype).to(memory_format=torch.channels_last)
    plain = act(conv(images).clone())
    result = ConvAct.of(copy.deepcopy(conv), act)(images)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    assert torch.allclose(result.float(), plain.float(), atol=tolerance, rtol=tolerance)


class Reads(nn.Module):
    """A convolution and an activation, used in a way that forbids to make them one."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.conv, self.act = nn.Conv2d(3, 3, 1), nn.ReLU(inplace=how == "in place")

    def forward(self, images):
        made = self.conv(images)
        match self.how:
            case "twice":
                return self.act(made) + made
            case "shared":
                return self.act(self.act(made) - 0.1)
            case "weight":
                return self.act(nn.functional.conv2d(images, self.conv.weight))
            case "between":
                return self.act(made * 2)
        return self.act(made)


@pytest.mark.parametrize(
    ("how", "count"), [("alone", 1), ("in place", 1), ("twice", 0), ("shared", 0), ("weight", 0), ("between", 0)]
)
def test_only_an_output_that_nothing_else_reads_is_activated(how, count):
    torch.manual_seed(0)
    model, images = Reads(how), torch.randn(2, 3, 5, 5)
    inplace = model.act.inplace
    fast, found = fused(model, images)
    assert found == count
    assert model.act.inplace is inplace
    with torch.inference_mode():
        assert torch.allclose(fast(images), model(images), atol=1e-6)


@pytest.mark.parametrize("options", [{"padding": "same"}, {"padding": 1, "padding_mode": "reflect"}])
def test_what_one_operation_cannot_do_stays_two(options):
    model = nn.Sequential(nn.Conv2d(3, 4, 3, **options), nn.ReLU())
    assert fused(model, torch.randn(1, 3, 8, 8))[1] == 0


def test_a_dtype_that_the_device_does_not_fuse_goes_through_both_layers():
    conv, act = nn.Conv2d(3, 4, 1).double(), nn.ReLU()
    images = torch.randn(1, 3, 4, 4).double()
    assert not fuses("cpu", torch.float64)
    assert torch.equal(ConvAct.of(copy.deepcopy(conv), act)(images), act(conv(images)))
