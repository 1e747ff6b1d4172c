"""A trainer that is put where another was goes on as that one does, bit for bit."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load, save

from zoo.model.network import TaskHeads
from zoo.specs import Phase, Target, Task, Timeline
from zoo.training.checkpoint import State, restore
from zoo.training.inputs import Inputs
from zoo.training.loop import Trainer
from zoo.training.optimiser import Rates, parse_optimiser
from zoo.training.schedule import parse_curve
from zoo.training.settings import Data, Settings
from zoo.training.strategy import Answer

TASK = Task(name="shape", classes=("disc", "square"))
EPOCHS, ROWS = 4, 26


class Pictures(Inputs):
    """Small images that are there already."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(40, 3, 6, 6, generator=generator)

    def take(self, rows, epoch=None):
        return (self.images[rows] + (0.0 if epoch is None else 0.01 * epoch),)


class Net(torch.nn.Module):
    """A convolution, BatchNorm and dropout before the heads."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Dropout(0.3)
        ).to(memory_format=torch.channels_last)
        self.heads = TaskHeads([TASK], 4)


def trainer(**options):
    labels = torch.arange(40) % 2
    data = Data(
        inputs=Pictures(),
        covariates=None,
        targets={"shape": Target(value=labels, mask=torch.arange(40) % 7 > 0)},
        train=torch.arange(ROWS),
        val=torch.arange(ROWS, 40),
    )
    rates = Rates(head=0.02, backbone=0.01, weight_decay=0.05, head_l2=0.01, warmup=0.1)
    settings = Settings(
        timeline=Timeline(phases=(Phase(name="", start=0, stop=EPOCHS, trainable=frozenset()),)),
        rates=rates,
        batch_size=4,
        metric="log_loss",
        seed=3,
        autocast=False,
        device=torch.device("cpu"),
        **{name: parse(own) for name, (parse, own) in options.items()},
    )
    net = Net()

    def suffix(given, covariates):
        return net.heads(net.body(given[0]).mean((2, 3)), covariates)

    return Trainer(net, net.heads, suffix, data, (TASK,), {"shape": Answer()}, settings)


class Killed(BaseException):
    """Nothing catches it."""


class At:
    """Keeps the state when it is offered for the `number`th time, as it would be on disk, and kills."""

    def __init__(self, number):
        self.left, self.state = number, None

    def due(self):
        self.left -= 1
        return self.left < 0

    def save(self, state):
        values = json.loads(json.dumps(state.values))
        self.state = State(tensors=load(save(dict(state.tensors))), values=values)
        raise Killed


def plain(value):
    return value


SETTINGS = {
    "plain": {},
    "everything": {
        "ema": (plain, 0.9),
        "accumulate": (plain, 2),
        "clip_norm": (plain, 0.5),
        "mixup": (plain, 0.4),
        "cutmix": (plain, 1.0),
        "smoothing": (plain, 0.1),
        "curve": (parse_curve, "plateau(patience=1)"),
    },
    "sgd, one-cycle": {"optimiser": (parse_optimiser, "sgd"), "curve": (parse_curve, "one-cycle")},
    "lion": {"optimiser": (parse_optimiser, "lion")},
    "nadamw": {"optimiser": (parse_optimiser, "nadamw")},  # has numbers in its memory that are no tensors
    "patience": {"patience": (plain, 1)},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_killed_after_any_step_and_restored_it_ends_with_the_same_bits(name):
    whole = trainer(**SETTINGS[name])
    expected = whole.fit()
    number = 0
    while True:
        keeper = At(number)
        first = trainer(**SETTINGS[name])
        first.keeper = keeper
        try:
            first.fit()
        except Killed:
            pass
        else:
            break
        second = trainer(**SETTINGS[name])
        torch.manual_seed(number)  # a new process has another state
        restore(second, keeper.state)
        found = second.fit()
        for key, tensor in whole.model.state_dict().items():
            assert torch.equal(second.model.state_dict()[key], tensor), f"{key} after {number} offers"
        for row, own in zip(expected.history, found.history, strict=True):
            assert {k: v for k, v in row.items() if k != "seconds"} == {k: v for k, v in own.items() if k != "seconds"}
        assert (found.best_epoch, found.best_value) == (expected.best_epoch, expected.best_value)
        number += 1
    steps = whole.steps_per_epoch
    assert number == steps * len(expected.history), "a state is offered after each step, the last after validation"


def test_a_state_is_no_view_of_what_goes_on_training():
    own = trainer()
    states = []

    class Keep:
        def due(self):
            return True

        def save(self, state):
            states.append((state, {name: tensor.clone() for name, tensor in state.tensors.items()}))

    own.keeper = Keep()
    own.fit()
    for state, before in states:
        assert all(torch.equal(tensor, before[name]) for name, tensor in state.tensors.items())
        assert all(tensor.is_contiguous() for tensor in state.tensors.values())


def test_a_state_of_other_parameters_is_refused():
    own, keeper = trainer(), At(2)
    own.keeper = keeper
    with pytest.raises(Killed):
        own.fit()
    state = keeper.state
    tensors = {**state.tensors, "model.heads.more": torch.zeros(1)}
    with pytest.raises(KeyError):
        restore(trainer(), dataclasses.replace(state, tensors=tensors))
