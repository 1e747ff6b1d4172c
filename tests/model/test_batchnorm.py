"""Statistics learned anew: those of the data, by a pass that changes nothing else."""

import timm
import torch
from torch import nn

from zoo.model.batchnorm import batch_norms, default_mode, recalibrate


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, momentum=0.3), nn.Dropout(0.9), nn.ReLU())


def batches(count=3, shift=2.0):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(8, 3, 5, 5, generator=generator) * 3 + shift for _ in range(count)]


def test_recalibrated_statistics_are_the_mean_over_batches():
    module = network().train()
    reached = recalibrate(module, module, batch_norms(module).values(), batches())
    with torch.no_grad():
        seen = [module[0](batch) for batch in batches()]
    mean = torch.stack([each.mean((0, 2, 3)) for each in seen]).mean(0)
    var = torch.stack([each.var((0, 2, 3)) for each in seen]).mean(0)
    assert reached == 1
    torch.testing.assert_close(module[1].running_mean, mean)
    torch.testing.assert_close(module[1].running_var, var)
    assert module[1].momentum == 0.3
    assert all(part.training for part in module.modules())


def test_nothing_else_moves_and_dropout_is_off_meanwhile():
    module = network().eval()
    before = {name: own.clone() for name, own in module.named_parameters()}
    seen = []
    module[2].register_forward_hook(lambda part, given, found: seen.append(torch.equal(given[0], found)))
    recalibrate(module, module, batch_norms(module).values(), batches(2))
    assert seen == [True, True]
    assert not any(part.training for part in module.modules())
    assert all(torch.equal(own, before[name]) for name, own in module.named_parameters())


def test_a_layer_that_is_not_reached_keeps_what_it_has():
    module = network()
    module.aside = nn.BatchNorm2d(4)
    module.aside.running_mean.fill_(7.0)
    found = recalibrate(module, lambda given: module[1](module[0](given)), batch_norms(module).values(), batches())
    assert found == 1
    assert (module.aside.running_mean == 7.0).all()
    assert module.aside.momentum == 0.1


def test_layers_of_timm_with_an_activation_are_among_them():
    model = timm.create_model("test_efficientnet", num_classes=3)
    held = batch_norms(model)
    assert len(held) == sum("running_mean" in name for name, _ in model.named_buffers()) > 5
    images = torch.randn(8, 3, 64, 64)
    assert recalibrate(model, model, held.values(), [images]) == len(held)
    first = held["bn1"]
    with torch.no_grad():
        seen = model.conv_stem(images)
    torch.testing.assert_close(first.running_mean, seen.mean((0, 2, 3)))


def test_random_weights_move_theirs():
    assert (default_mode("none"), default_mode("in1k"), default_mode("unknown")) == ("train", "frozen", "frozen")
