"""Steps are timed side by side, and the network is as it was afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.errors import ZooError
from zoo.training.measure import ROUNDS, Compute, Step, time_steps

CPU = torch.device("cpu")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.modes = []

    def forward(self, given):
        self.modes.append((self.training, torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
        return {"task": self.layers(given).mean((2, 3))}


def step(model, compute=None, error=None):
    def forward():
        if error:
            raise error
        return model(torch.ones(2, 3, 8, 8))

    return Step(compute=compute or Compute(), forward=lambda: forward)


def test_a_way_says_what_it_is():
    assert str(Compute()) == "fp32, contiguous"
    assert str(Compute(autocast="bf16", channels_last=True)) == "bf16 autocast, channels_last"
    assert (Compute(autocast="bf16").dtype, Compute().dtype) == (torch.bfloat16, torch.float32)
    assert Compute(channels_last=True).layout == torch.channels_last


def test_a_step_trains_and_then_validates_under_what_its_way_says():
    model = Net()
    found = time_steps(model, {"a": step(model), "b": step(model, Compute(autocast="bf16"))}, {}, CPU)
    once = [(True, True, False), (False, False, False), (True, True, True), (False, False, True)]
    assert model.modes == once * ROUNDS
    assert {name: len(seconds) for name, seconds in found.items()} == {"a": 2, "b": 2}
    assert all(second > 0 for seconds in found.values() for second in seconds)


def test_the_network_is_left_as_it_was():
    model = Net()
    model.layers[2].eval()
    modes = [part.training for part in model.modules()]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(3)
    drawn = torch.rand(2)
    torch.manual_seed(3)
    time_steps(model, {"a": step(model), "b": step(model, error=RuntimeError("no kernel"))}, {}, CPU)
    assert torch.equal(torch.rand(2), drawn)
    assert [part.training for part in model.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_first_round_only_warms_up_and_the_least_of_the_others_counts(monkeypatch):
    clock = iter([0, 100, 200, 205, 300, 303, 400, 404])
    monkeypatch.setattr("zoo.training.measure.time.perf_counter", lambda: float(next(clock)))
    assert time_steps(nn.Linear(1, 1), {}, {"call": lambda: None}, CPU) == {"call": [3.0]}


def test_a_way_that_does_not_run_is_named_with_its_reason_and_tried_once():
    model, tried = Net(), []

    def refuse():
        tried.append(1)
        raise NotImplementedError("no such kernel\nat some place")

    found = time_steps(model, {"a": step(model)}, {"prefix": refuse}, CPU)
    assert found["prefix"] == "no such kernel"
    assert isinstance(found["a"], list)
    assert len(tried) == 1


def test_a_network_that_trains_in_no_way_is_refused():
    model = Net()
    steps = {"a": step(model, error=RuntimeError("one")), "b": step(model, error=TypeError("two"))}
    with pytest.raises(ZooError, match=r"training runs in no way: a \(one\), b \(two\)"):
        time_steps(model, steps, {}, CPU)


def test_too_little_memory_is_no_reason_to_take_another_way():
    model = Net()
    with pytest.raises(torch.OutOfMemoryError):
        time_steps(model, {"a": step(model, error=torch.OutOfMemoryError("full"))}, {}, CPU)
