"""The moving average of the weights."""

import pytest
import torch

from zoo.training.average import Average


def test_the_average_follows_and_the_model_has_its_own_weights_again():
    layer = torch.nn.Linear(1, 1)
    layer.bias.requires_grad_(False)
    with torch.no_grad():
        layer.weight.fill_(0.0)
    average = Average(layer, 0.5)
    assert set(average.values) == {"weight"}
    expected, value = 0.0, 0.0
    for step in range(1, 30):
        value += 1.0
        with torch.no_grad():
            layer.weight.fill_(value)
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    with average.used():
        assert layer.weight.item() == pytest.approx(expected, rel=1e-5)
    assert layer.weight.item() == value
    assert float(average.values["weight"]) == pytest.approx(expected, rel=1e-5)


def test_an_error_inside_leaves_the_models_own_weights():
    layer = torch.nn.Linear(1, 1)
    average = Average(layer, 0.9)
    with torch.no_grad():
        layer.weight.add_(1.0)
    before = layer.weight.detach().clone()
    with pytest.raises(RuntimeError, match="inside"), average.used():
        raise RuntimeError("inside")
    assert torch.equal(layer.weight, before)
