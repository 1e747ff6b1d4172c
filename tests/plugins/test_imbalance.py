from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from zoo.errors import OptionError
from zoo.registry.lookup import STRATEGIES
from zoo.specs import ClassStatistics, Plan, Task, bind, parse_options

ELPV = ClassStatistics(task=Task(name="defect", classes=("0", "1/3", "2/3", "1")), counts=(1508, 295, 106, 715))
counts = st.lists(st.integers(1, 5000), min_size=2, max_size=8).map(tuple)


def statistics_of(counts: tuple[int, ...]) -> ClassStatistics:
    return ClassStatistics(task=Task(name="t", classes=tuple(f"c{i}" for i in range(len(counts)))), counts=counts)


def plan_of(text: str, statistics: ClassStatistics = ELPV) -> Plan:
    """The plan of an option, on the same way as a run goes."""
    (call,) = parse_options(text)
    record = STRATEGIES.of_call(call)
    return record.build(statistics, bind(call, record.parameters))


def test_inverse_frequency_has_the_known_weights_on_elpv():
    assert plan_of("class-weights").element_weights == pytest.approx([0.435, 2.224, 6.189, 0.917], abs=5e-4)
    assert plan_of("class-weights(method=inverse)") == plan_of("class-weights(inverse)") == plan_of("class-weights")


@given(counts)
def test_inverse_frequency_is_balanced_in_scikit_learn_and_sums_to_the_rows(counts):
    weights = plan_of("class-weights", statistics_of(counts)).element_weights
    labels = np.repeat(np.arange(len(counts)), counts)
    oracle = compute_class_weight("balanced", classes=np.arange(len(counts)), y=labels)
    assert weights == pytest.approx(oracle)
    assert sum(w * n for w, n in zip(weights, counts, strict=True)) == pytest.approx(sum(counts))


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("class-weights(method=effective-number)", [0.189, 0.912, 2.514, 0.384]),
        ("class-weights(method=effective-number, beta=0.9999)", [0.189, 0.912, 2.514, 0.384]),
        ("class-weights(method=effective-number, beta=0.99)", [0.873, 0.921, 1.332, 0.874]),
    ],
)
def test_effective_number_has_the_known_weights_on_elpv(option, expected):
    weights = plan_of(option).element_weights
    assert weights == pytest.approx(expected, abs=1e-3)
    assert sum(weights) == pytest.approx(4)


@given(counts)
def test_effective_number_goes_from_none_to_inverse_frequency_as_beta_rises(counts):
    statistics = statistics_of(counts)
    none = plan_of("class-weights(method=effective-number, beta=0)", statistics).element_weights
    assert none == pytest.approx([1.0] * len(counts))
    near = plan_of("class-weights(method=effective-number, beta=0.999999999999)", statistics).element_weights
    inverse = np.array(plan_of("class-weights", statistics).element_weights)
    assert near == pytest.approx(inverse * len(counts) / inverse.sum(), rel=1e-6)


def test_effective_number_follows_the_formula_of_the_paper():
    raw = np.array([(1 - 0.9) / (1 - 0.9**n) for n in (3, 40)])
    got = plan_of("class-weights(method=effective-number, beta=0.9)", statistics_of((3, 40))).element_weights
    assert got == pytest.approx(raw * 2 / raw.sum())


@pytest.mark.parametrize("option", ["class-weights", 'class-weights(weights={"0": 1, "1/3": 2, "2/3": 8, "1": 0.5})'])
def test_the_ledger_gets_the_logarithm_of_the_weights(option):
    plan = plan_of(option)
    assert plan.shift == pytest.approx(np.log(plan.element_weights))
    assert plan.logit_bias is None


def test_inverse_frequency_shifts_by_exactly_one_prior():
    shift, prior = np.array(plan_of("class-weights").shift), np.array(ELPV.log_prior)
    shift, prior = shift - shift.mean(), prior - prior.mean()
    assert shift == pytest.approx(-prior)


def test_own_weights_go_by_the_name_of_the_class_and_stay_as_they_are():
    plan = plan_of('class-weights(weights={"1": 4, "2/3": 3, "1/3": 2, "0": 1})')
    assert plan.element_weights == (1.0, 2.0, 3.0, 4.0)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("class-weights(beta=1.0, method=effective-number)", r"beta must lie in \[0, 1\), not 1.0"),
        ("class-weights(beta=-0.1, method=effective-number)", r"beta must lie in \[0, 1\), not -0.1"),
        ("class-weights(beta=0.9)", "beta belongs to method=effective-number"),
        ("class-weights(method=inverse, weights={a: 1})", "weights and method=inverse exclude each other"),
        ("class-weights(beta=0.9, weights={a: 1})", "weights and beta=0.9 exclude each other"),
        ("class-weights(weights={a: 0})", "the weight of 'a' must be a positive number, not 0.0"),
        ("class-weights(weights={a: -1})", "the weight of 'a' must be a positive number, not -1.0"),
        (
            "class-weights(method=root)",
            "method must be inverse or sqrt or power or effective-number or none, not 'root'",
        ),
        ("class-weights(alpha=2)", "class-weights has no parameter 'alpha'; it takes method, gamma, beta, weights"),
        ("logit-adjust(tau=0)", r"tau must lie in \(0, 10\], not 0.0"),
        ("logit-adjust(tau=11)", r"tau must lie in \(0, 10\], not 11.0"),
        ("logit-adjst", "unknown imbalance strategy 'logit-adjst'.*did you mean logit-adjust"),
    ],
)
def test_what_cannot_be_meant_is_refused(option, message):
    with pytest.raises(OptionError, match=message):
        plan_of(option)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ('{"0": 1, "1/3": 2, "2/3": 3}', "'1' has no weight; weights must name each class of defect: 0, 1/3, 2/3, 1"),
        ('{"0": 1, "1/3": 2, "2/3": 3, "1": 4, crack: 5}', "'crack' is no class; weights must name each class"),
        ('{"0": 1, "1/3": 2, "2/3": 3, one: 4}', "'one' is no class and '1' has no weight"),
    ],
)
def test_weights_must_name_every_class_and_no_other(weights, message):
    with pytest.raises(ValueError, match=message):
        plan_of(f"class-weights(weights={weights})")


@pytest.mark.parametrize("tau", [0.5, 1.0, 2])
def test_logit_adjustment_takes_tau_times_the_uncorrected_prior_off(tau):
    plan = plan_of(f"logit-adjust(tau={tau})")
    assert (plan.shift, plan.element_weights) == (None, None)
    assert plan.logit_bias(ELPV.log_prior) == pytest.approx([-tau * p for p in ELPV.log_prior])


def test_logit_adjustment_at_one_divides_probabilities_by_the_prior():
    logits, prior = np.array([2.0, 0.5, -1.0, 0.1]), np.exp(ELPV.log_prior)
    adjusted = np.exp(logits + plan_of("logit-adjust").logit_bias(ELPV.log_prior))
    expected = np.exp(logits) / prior
    assert adjusted / adjusted.sum() == pytest.approx(expected / expected.sum())


def test_where_training_left_nothing_uncorrected_the_prediction_stays():
    bias = plan_of("logit-adjust").logit_bias([math.log(1 / 4)] * 4)
    assert max(bias) - min(bias) == 0.0


def test_the_plugin_imports_neither_torch_nor_numpy():
    code = "import sys, zoo_imbalance; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
