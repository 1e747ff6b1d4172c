"""The learning-rate range test: what its steps do, where it ends, and what its curve suggests."""

import itertools
import math

import numpy as np
import pytest
import torch

from zoo.model.network import TaskHeads
from zoo.specs import Phase, Target, Task, Timeline
from zoo.training.inputs import Inputs
from zoo.training.loop import Trainer
from zoo.training.optimiser import Rates
from zoo.training.range_test import Observed, RangeTest, Span, read_curve
from zoo.training.schedule import Constant, parse_curve
from zoo.training.settings import Data, Settings
from zoo.training.strategy import Answer

TASK = Task(name="shape", classes=("disc", "square"))
HEAD, BACKBONE = 1e-3, 1e-4


class Fixed(Inputs):
    """Inputs that are there already; what was asked for is remembered."""

    def __init__(self, features):
        self.features, self.asked = features, []

    def take(self, rows, epoch=None):
        self.asked.append((epoch, rows.tolist()))
        return (self.features[rows],)


def job(rows=40, lost=False, **fields):
    """A head and one layer before it, their data, and how they train."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(rows) % 2
    features = torch.randn(rows, 6, generator=generator) + labels[:, None]
    if lost:
        labels = labels[torch.randperm(rows, generator=generator)]
    target = Target(value=labels, mask=torch.ones(rows, dtype=torch.bool))
    torch.manual_seed(1)
    heads = TaskHeads([TASK], 6)
    model = torch.nn.ModuleDict({"backbone": torch.nn.Linear(6, 6), "heads": heads})
    data = Data(
        inputs=Fixed(features),
        covariates=None,
        targets={"shape": target},
        train=torch.arange(rows),
        val=torch.arange(2),
    )
    own = {
        "timeline": Timeline(phases=(Phase(name="all", start=0, stop=3, trainable=frozenset()),)),
        "rates": Rates(head=HEAD, backbone=BACKBONE, weight_decay=0.0, head_l2=0.0, warmup=0.1),
        "batch_size": 8,
        "metric": "accuracy",
        "seed": 0,
        "autocast": False,
        "device": torch.device("cpu"),
        **fields,
    }

    def suffix(given, covariates):
        return heads(model["backbone"](given[0]), covariates)

    return (model, heads, suffix, data, (TASK,), {"shape": Answer()}), Settings(**own)


def range_test(span, **fields):
    parts, settings = job(**fields)
    return RangeTest(*parts, span=span, settings=settings)


def test_all_rates_rise_by_the_same_factor_from_the_first_to_the_last():
    own = range_test(Span(low=1e-6, high=1e-2, steps=21))
    seen = []
    own.optimiser.register_step_pre_hook(
        lambda optimiser, *_: seen.append({group["part"]: group["lr"] for group in optimiser.param_groups})
    )
    found = own.observe()
    assert found.ended == "range"
    assert len(found.rates) == len(found.losses) == len(seen) == 21
    assert [rates["head"] for rates in seen] == pytest.approx(list(found.rates))
    assert found.rates == pytest.approx(np.geomspace(1e-6, 1e-2, 21).tolist())
    assert all(rates["backbone"] / rates["head"] == pytest.approx(BACKBONE / HEAD) for rates in seen)


def test_the_first_loss_is_that_of_the_run_and_rows_come_in_its_order():
    own = range_test(Span(steps=20))
    found = own.observe()
    parts, settings = job()
    plain = Trainer(*parts, settings)
    plain.fit()
    rows = len(plain.data.inputs.asked) // 3 - 1  # one of each epoch is for validation
    trained = [rows for epoch, rows in plain.data.inputs.asked if epoch is not None]
    assert [rows for _, rows in own.data.inputs.asked][: 3 * rows] == trained[: 3 * rows]
    assert len(own.data.inputs.asked) == 20  # validation asks for nothing
    parts, _ = job()
    with torch.no_grad():
        first = parts[2]((parts[3].inputs.features[trained[0]],), None)["shape"]
    assert found.losses[0] == pytest.approx(
        float(torch.nn.functional.cross_entropy(first, torch.tensor(trained[0]) % 2))
    )


@pytest.mark.parametrize("curve", ["one-cycle", "plateau", "cosine"])
def test_the_schedule_of_the_run_does_not_matter_nor_do_its_average_and_patience(curve):
    plain = range_test(Span(steps=20)).observe()
    assert range_test(Span(steps=20), curve=parse_curve(curve), ema=0.9, patience=1).observe() == plain
    assert range_test(Span(steps=20), curve=Constant(), seed=1).observe() != plain


def test_a_test_ends_where_the_loss_is_four_times_its_best():
    own = range_test(Span(low=1e-3, high=1e4, steps=60))
    found = own.observe()
    assert found.ended == "exploded"
    assert 5 < len(found.losses) < 60
    assert found.losses[-1] > 2 * min(found.losses)


def test_a_test_ends_where_the_loss_is_not_finite_and_keeps_what_is(monkeypatch):
    losses = itertools.chain([1.0, 0.9, 0.8], [math.nan])
    monkeypatch.setattr(RangeTest, "_step", lambda self, parts, given: torch.tensor(next(losses)))
    found = range_test(Span(steps=20)).observe()
    assert found.ended == "not finite"
    assert found.losses == pytest.approx((1.0, 0.9, 0.8))


def test_a_range_test_leaves_the_generators_as_they_were():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    own = range_test(Span(steps=20))
    torch.set_rng_state(before)
    own.observe()
    assert torch.equal(torch.get_rng_state(), before)


def curve(shape, ended="range", noise=0.02, steps=100):
    """What a test would have seen of a loss that is `shape` of log10 of the rate."""
    rates = np.geomspace(1e-7, 10, steps)
    drawn = np.random.default_rng(0).normal(0, noise, steps)
    losses = [float(shape(x)) + z for x, z in zip(np.log10(rates), drawn, strict=True)]
    if ended != "range":
        stop = next(i for i, loss in enumerate(losses) if loss > 5)
        rates, losses = rates[: stop + 1], losses[: stop + 1]
    return Observed(rates=tuple(map(float, rates)), losses=tuple(losses), steps=steps, ended=ended)


def falls(x, middle=-3.0, explodes=-0.5):
    """From 1.4 to 0.4, fastest at `middle`, and up behind `explodes`."""
    return 0.4 + 1 / (1 + math.exp(4 * (x - middle))) + max(0.0, x - explodes) * 20


@pytest.mark.parametrize("middle", [-5.0, -4.0, -3.0, -2.0])
def test_the_rate_at_which_the_loss_falls_fastest_is_suggested(middle):
    found = read_curve(curve(lambda x: falls(x, middle), "exploded"))
    assert math.log10(found.rate) == pytest.approx(middle, abs=0.3)
    assert "falls from 1.4" in found.why
    assert "lowest at" in found.why


def test_a_slow_fall_without_noise_before_it_does_not_count_as_descent():
    """A head that begins at zero: its loss falls by next to nothing in every step from the first on."""
    found = read_curve(curve(lambda x: falls(x) - 1e-4 * x, "exploded", noise=0.0))
    assert math.log10(found.rate) == pytest.approx(-3.0, abs=0.2)


def test_of_a_flat_curve_nothing_is_suggested():
    found = read_curve(curve(lambda x: 1.4, noise=0.1))
    assert found.rate is None
    assert "no rate up to 10 teaches the network anything" in found.why
    assert "noise" in found.why


def test_of_a_curve_that_only_rises_nothing_is_suggested():
    found = read_curve(curve(lambda x: 1.4 + max(0.0, x + 2) ** 2 * 3, "exploded", noise=0.05))
    assert found.rate is None
    assert "let the test begin at a lower rate" in found.why


def test_of_a_constant_loss_nothing_is_suggested():
    assert read_curve(curve(lambda x: 1.0, noise=0.0)).rate is None


def test_a_loss_that_still_falls_at_the_end_says_so():
    found = read_curve(curve(lambda x: 1.4 - 0.1 * (x + 7)))
    assert found.rate is not None
    assert "the end of the range: it may go on falling" in found.why


def test_a_test_that_was_over_at_once_suggests_nothing():
    found = read_curve(Observed(rates=(1.0, 2.0), losses=(1.0, 9.0), steps=100, ended="exploded"))
    assert found.rate is None
    assert found.why == "the test was over after 2 steps, which say nothing; let it begin at a lower rate"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"low": 1.0, "high": 0.1}, "the rates rise from a positive one"),
        ({"low": 0.0}, "the rates rise from a positive one"),
        ({"high": math.inf}, "the rates rise from a positive one"),
        ({"steps": 19}, "at least 20 steps, not 19"),
    ],
)
def test_a_span_that_is_none_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Span(**fields)
