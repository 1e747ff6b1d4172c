"""A sweep is many runs of the loop at once: each candidate as if it were alone, the best by validation kept."""

import dataclasses

import pytest
import torch
from torch import nn

from zoo.errors import ZooError
from zoo.metrics.chooser import Chooser
from zoo.training.fitters.choose import fit_on_features
from zoo.training.fitters.sweep import L2_FACTORS, RATE_FACTORS, Board, Grid, grid_around
from zoo.training.optimiser import Rates
from zoo.training.strategy import Answer

RATES = Rates(head=0.01, backbone=1e-3, weight_decay=0.05, head_l2=0.2, warmup=0.1)


def grid(rates=(0.01,), strengths=(0.02,)):
    return Grid(learning_rates=tuple(rates), strengths=tuple(strengths))


def alone(toy, rate, strength):
    """The same job by the loop, with one learning rate and one penalty."""
    rates = dataclasses.replace(toy.settings.rates, head=rate, head_l2=strength)
    toy.settings = dataclasses.replace(toy.settings, rates=rates)
    return fit_on_features(*toy.job)


def agree(fit, plain, heads, others):
    for name, value in heads.state_dict().items():
        if name.endswith("key.bias"):  # it moves no logit, so its gradient is rounding, which Adam makes large
            continue
        assert torch.allclose(value, others.state_dict()[name], rtol=1e-3, atol=2e-5), name
    assert (fit.best_epoch, fit.head_l2) == (plain.best_epoch, plain.head_l2)
    assert len(fit.history) == len(plain.history)
    for row, other in zip(fit.history, plain.history, strict=True):
        assert row.keys() == other.keys()
        for name in row.keys() - {"seconds"}:
            assert row[name] == pytest.approx(other[name], rel=1e-3, abs=1e-6), name


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tasks": 2, "holes": True, "weights": True, "covariates": 2, "classes": (2.0, 1.0, 0.5)},
        {"head": "mlp(hidden=16)"},
        {"head": "mlp(hidden=16, dropout=0.3)"},
        {"head": "linear(dropout=0.3)"},
        {"head": "cosine"},
        {"head": "attention(heads=2)", "tokens": 5, "covariates": 1},
    ],
    ids=["linear", "all of it", "mlp", "mlp with dropout", "linear with dropout", "cosine", "attention"],
)
def test_a_sweep_of_one_candidate_gives_what_the_loop_gives(toy, fields):
    own, other = toy(epochs=4, **fields), toy(epochs=4, **fields)
    fit = fit_on_features(*own.job, grid=grid())
    agree(fit, alone(other, 0.01, 0.02), own.heads, other.heads)


def test_every_candidate_fares_as_it_would_alone_and_the_best_is_kept(toy):
    own = toy(tasks=2, holes=True, epochs=3, metric="balanced_accuracy")
    fit = fit_on_features(*own.job, grid=grid((0.001, 0.03), (0.0, 0.1, 1.0)))
    assert len(fit.candidates) == 6
    plain = []
    for candidate in fit.candidates:
        other = toy(tasks=2, holes=True, epochs=3, metric="balanced_accuracy")
        plain.append((alone(other, candidate.learning_rate, candidate.head_l2), other.heads))
        assert candidate.best_epoch == plain[-1][0].best_epoch
        assert candidate.value == pytest.approx(plain[-1][0].best_value)
    winner = max(range(6), key=lambda index: (plain[index][0].best_value, -plain[index][0].best_epoch, -index))
    assert (fit.learning_rate, fit.head_l2) == (fit.candidates[winner].learning_rate, fit.candidates[winner].head_l2)
    agree(fit, plain[winner][0], own.heads, plain[winner][1])
    assert fit.best_value == plain[winner][0].best_value


def test_the_rows_of_a_sampler_are_those_of_the_loop(toy):
    def twice(labels, epoch, generator):
        return torch.randint(0, len(labels), (50,), generator=generator)

    own, other = toy(), toy()
    for each in (own, other):
        each.answers["kind"] = Answer(sampler=twice)
    fit = fit_on_features(*own.job, grid=grid())
    agree(fit, alone(other, 0.01, 0.02), own.heads, other.heads)


def test_each_batch_is_gathered_once_for_all_candidates(toy):
    asked = []
    for rates in ((0.01,), (0.01, 0.02, 0.03)):
        own = toy()
        fit_on_features(*own.job, grid=grid(rates))
        asked.append(own.data.inputs.asked)
    assert asked[0] == asked[1] == 3 * (5 + 1)


def test_statistics_of_a_heads_batch_norm_are_each_candidates_own(toy):
    def normed(toy):
        toy.heads.heads[0] = nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 3))
        nn.init.zeros_(toy.heads.heads[0][1].weight)
        nn.init.zeros_(toy.heads.heads[0][1].bias)
        return toy

    own, other = normed(toy()), normed(toy())
    fit = fit_on_features(*own.job, grid=grid((0.01, 1e-9)))
    assert fit.learning_rate == 0.01
    agree(fit, alone(other, 0.01, 0.02), own.heads, other.heads)
    assert own.heads.heads[0][0].num_batches_tracked == 5 * fit.best_epoch


def test_a_candidate_that_diverges_leaves_the_others_alone(toy):
    own, other = toy(), toy()
    fit = fit_on_features(*own.job, grid=grid((0.01, 1e38)))
    agree(fit, alone(other, 0.01, 0.02), own.heads, other.heads)
    assert (fit.candidates[1].best_epoch, fit.candidates[1].value) == (None, None)


def test_when_all_diverge_the_error_says_what_to_do(toy):
    expected = r"no candidate of --sweep keeps a finite loss for one epoch; lower the rates \(--sweep-lr\)"
    with pytest.raises(ZooError, match=expected):
        fit_on_features(*toy().job, grid=grid((1e38, 2e38)))


def test_a_sweep_leaves_the_callers_random_state_alone_and_tells_its_progress(toy, monkeypatch):
    own, seen = toy("linear(dropout=0.5)"), []
    clock = iter(range(10_000))
    monkeypatch.setattr("zoo.training.fitters.sweep.time.perf_counter", lambda: float(next(clock)))
    before = torch.random.get_rng_state()
    fit_on_features(*own.job, grid=grid(), progress=lambda done, rows: seen.append((done, rows)))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert seen == [(16 * step, 16 * 15) for step in range(1, 16)]


def test_the_default_grid_lies_around_what_a_run_would_take():
    found = grid_around(RATES)
    assert found.learning_rates == tuple(0.01 * factor for factor in RATE_FACTORS)
    assert found.strengths == tuple(0.2 * factor for factor in L2_FACTORS)
    assert len(found.points) == 16
    assert (0.01, 0.2) in found.points


def test_values_that_are_given_replace_their_half_of_the_grid():
    assert grid_around(RATES, (0.5,)).points == [(0.5, 0.2 * factor) for factor in L2_FACTORS]
    assert [strength for _, strength in grid_around(RATES, (0.5,), (0.0, 3.0)).points] == [0.0, 3.0]


def test_multiples_of_no_penalty_are_one_candidate_each_rate():
    assert grid_around(dataclasses.replace(RATES, head_l2=0.0)).strengths == (0.0,)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf"), float("nan")])
def test_a_rate_that_is_not_positive_is_refused(rate):
    with pytest.raises(ZooError, match=f"--sweep-lr must be positive, not {rate}"):
        grid((rate,))


@pytest.mark.parametrize("strength", [-1.0, float("inf"), float("nan")])
def test_a_strength_that_is_negative_is_refused(strength):
    with pytest.raises(ZooError, match=f"--sweep-l2 must be at least 0, not {strength}"):
        grid(strengths=(strength,))


def test_of_equals_the_first_leads():
    board = Board(2, Chooser(metrics={"t": "accuracy"}, counts=("t",)))
    assert board.note(0, {"epoch": 1.0, "t/accuracy": 0.5})
    assert not board.note(1, {"epoch": 1.0, "t/accuracy": 0.5})
    assert board.note(1, {"epoch": 2.0, "t/accuracy": 0.6})
    assert not board.note(0, {"epoch": 2.0, "t/accuracy": 0.6})
    assert board.leader == 1
    assert [(one.best_epoch, one.value) for one in board.candidates([(1.0, 0.0), (2.0, 0.0)])] == [(2, 0.6), (2, 0.6)]
