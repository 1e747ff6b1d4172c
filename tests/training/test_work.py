"""What a computation has to do at least: held against known figures and against sums done by hand."""

import pytest
import torch
from torch import nn

from zoo.training.peaks import measure_peaks
from zoo.training.work import Peaks, Watch


def watched(call):
    watch = Watch()
    with watch:
        call()
    return watch.work


def step(module, images):
    return watched(lambda: module(images).square().mean().backward())


@pytest.mark.parametrize(
    ("name", "gmacs"),
    [("torchvision/resnet50", 4.09), ("torchvision/mobilenet_v2", 0.30), ("timm/vit_tiny_patch16_224", 1.26)],
)
def test_a_forward_pass_has_the_multiply_accumulates_that_are_published(name, gmacs):
    from zoo.registry.lookup import SOURCES

    source, _, model = name.partition("/")
    with torch.device("meta"):
        view = SOURCES.get(source).build(model, None)
    module = view.module.to("meta").train()
    forward = watched(lambda: module(torch.zeros((2, 3, 224, 224), device="meta")))
    assert forward.flops / 2 / 2e9 == pytest.approx(gmacs, rel=0.02)
    whole = step(module, torch.zeros((2, 3, 224, 224), device="meta"))
    assert 2.9 <= whole.flops / forward.flops <= 3.0


@pytest.mark.parametrize("groups", [1, 4, 16])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_the_backward_of_a_grouped_convolution_costs_twice_its_forward(groups, kind):
    layer = kind(16, 32, 3, stride=2, groups=groups)
    images = torch.randn(2, 16, 9, 9, requires_grad=True)
    forward = watched(lambda: layer(images)).flops
    places = (9 * 9 if kind is nn.ConvTranspose2d else 4 * 4) * 2
    assert forward == 2 * places * 16 * 32 * 9 // groups
    assert step(layer, images).flops == 3 * forward
    assert step(layer, images.detach()).flops == 2 * forward  # nobody asks for the gradient of the image


def test_pointwise_operations_and_views_are_free_and_a_product_is_not():
    a, b = torch.randn(8, 16), torch.randn(16, 4)
    assert watched(lambda: (a.t() * 2 + 1).relu().reshape(-1)).operations == ()
    (product,) = watched(lambda: a @ b).operations
    assert (product.flops, product.nbytes) == (2 * 8 * 16 * 4, 4 * (8 * 16 + 16 * 4 + 8 * 4))
    assert product.dtype == "fp32"


def test_only_batchnorm_whose_statistics_move_costs_a_pass():
    layer, images = nn.BatchNorm2d(4), torch.randn(2, 4, 8, 8)
    assert watched(lambda: layer.eval()(images)).operations == ()
    assert watched(lambda: layer.train()(images)).nbytes >= 2 * images.numel() * 4


def test_of_gathered_rows_only_those_taken_count():
    (taken,) = watched(lambda: torch.zeros(1000, 8).index_select(0, torch.tensor([1, 2]))).operations
    assert taken.nbytes == 2 * 2 * 8 * 4


def test_the_bound_is_the_slower_of_arithmetic_and_memory_for_each_operation():
    a, b = torch.randn(8, 16), torch.randn(16, 4)
    work = watched(lambda: a @ b)
    assert work.seconds(Peaks(flops={"fp32": 1024.0}, bandwidth=1e12)) == pytest.approx(1.0)
    assert work.seconds(Peaks(flops={"fp32": 1e12}, bandwidth=float(work.nbytes))) == pytest.approx(1.0)
    assert work.flop_seconds(Peaks(flops={"fp32": 2048.0}, bandwidth=1.0)) == pytest.approx(0.5)


def test_attention_on_the_fast_path_is_known_to_be_uncounted():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    tokens = torch.randn(2, 5, 16)
    with torch.no_grad():
        assert not watched(lambda: layer(tokens)).whole
    assert watched(lambda: layer(tokens)).whole


def test_peaks_are_positive_and_leave_the_precision_as_it_was():
    before = torch.get_float32_matmul_precision()
    peaks = measure_peaks(torch.device("cpu"), side=64, nbytes=2**16)
    assert set(peaks.flops) == {"fp32", "bf16"}
    assert min(*peaks.flops.values(), peaks.bandwidth) > 0
    assert torch.get_float32_matmul_precision() == before
