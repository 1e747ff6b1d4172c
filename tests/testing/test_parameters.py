from __future__ import annotations

import functools
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

from zoo.testing.check import CheckFailedError, NotApplicable
from zoo.testing.fingerprints import fingerprint
from zoo.testing.parameters import default_setting, parameter_checks, reaches


@dataclass(frozen=True, kw_only=True)
class Everything:
    flag: bool = False
    count: int = 4
    share: float = 0.5
    limit: float | None = None
    method: Literal["mean", "median"] = "mean"


@dataclass(frozen=True, kw_only=True)
class Gated:
    """`beta` matters under one method, `depth` under that method and a flag."""

    method: Literal["plain", "power"] = "plain"
    flag: bool = False
    beta: float = 0.5
    depth: int = 2


def gated(parameters: Gated) -> object:
    if parameters.method == "plain":
        return parameters.method
    return (parameters.beta, parameters.flag, parameters.depth if parameters.flag else None)


@dataclass(frozen=True, kw_only=True)
class Exclusive:
    """`beta` is refused without its method, and only the numbers below one are taken."""

    method: Literal["plain", "power"] | None = None
    beta: float | None = None

    def __post_init__(self) -> None:
        if self.beta is not None and (self.method != "power" or not 0 <= self.beta < 1):
            raise ValueError("refused")


@dataclass(frozen=True, kw_only=True)
class Stated:
    weights: Mapping[str, float] | None = field(default=None, metadata={"examples": ({"c0": 2.0},)})
    bare: Mapping[str, float] | None = None
    text: str = "x"


@pytest.mark.parametrize("name", Everything.__dataclass_fields__)
def test_a_parameter_that_is_used_passes_and_one_that_is_ignored_is_named(name, result, caught):
    check = f"the-parameter-{name}-reaches-what-is-built"
    used = parameter_checks("head x", Everything, lambda parameters: getattr(parameters, name))
    assert result(used, check).outcome == "passed"
    caught(parameter_checks("head x", Everything, lambda parameters: "always this"), check, f"{name} changes nothing: ")


@pytest.mark.parametrize("name", ["method", "flag", "beta", "depth"])
def test_a_parameter_may_matter_only_beside_values_of_others(name):
    reaches(Gated, name, gated)
    with pytest.raises(CheckFailedError, match=f"{name} changes nothing"):
        reaches(Gated, name, lambda parameters: parameters.method if name != "method" else None)


def test_values_that_the_dataclass_or_the_build_refuses_are_no_candidates():
    reaches(Exclusive, "beta", lambda parameters: parameters.beta)

    def picky(parameters: Everything) -> object:
        if parameters.count != 4:
            raise ValueError("four only")
        return parameters.count

    with pytest.raises(NotApplicable, match=r"no two values of count are accepted of 4, 5, 3, .*; state values to try"):
        reaches(Everything, "count", picky)


def test_values_that_the_author_states_are_tried():
    reaches(Stated, "weights", lambda parameters: parameters.weights)
    with pytest.raises(CheckFailedError, match=r"weights changes nothing: None, \{'c0': 2.0\} give the same"):
        reaches(Stated, "weights", lambda parameters: 0)


@pytest.mark.parametrize("name", ["bare", "text"])
def test_without_a_value_to_try_the_check_says_how_to_state_one(name):
    with pytest.raises(
        NotApplicable, match=rf"no value of {name} is known beside its default; .*metadata=\{{\"examples\""
    ):
        reaches(Stated, name, lambda parameters: 0)


def test_another_error_than_a_refusal_is_not_swallowed():
    def broken(parameters: Everything) -> object:
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        reaches(Everything, "flag", broken)


def test_a_type_that_no_option_can_say_is_named(result, caught):
    @dataclass
    class Listed:
        sizes: list[int] = field(default_factory=list)

    name = "each-parameter-can-be-written-as-an-option"
    caught(parameter_checks("head x", Listed, repr), name, "parameter sizes is list[int], which no option can say")
    for fine in (Everything, Stated, Gated):
        assert result(parameter_checks("head x", fine, repr), name).outcome == "passed"


def test_the_default_setting_fills_what_has_no_default_with_accepted_values():
    @dataclass
    class Required:
        method: Literal["a", "b"]
        share: float
        flag: bool = True

        def __post_init__(self) -> None:
            if self.share > 0.2:
                raise ValueError("too much")

    assert default_setting(Required) == Required(method="a", share=0.1)
    assert default_setting(Everything) == Everything()
    reaches(Required, "flag", lambda parameters: parameters.flag)


def test_a_brief_setting_is_tried_first_where_nothing_need_be_learned_and_the_trial_after_it():
    @dataclass(frozen=True, kw_only=True)
    class Learned:
        steps: int = field(default=3000, metadata={"trial": 200, "brief": 3})
        rate: float = 0.1
        late: float = 0.5

    assert default_setting(Learned) == Learned(steps=200)
    assert default_setting(Learned, brief=True) == Learned(steps=3)
    built = []

    def build(parameters):
        built.append(parameters.steps)
        return (parameters.rate, parameters.late if parameters.steps > 100 else None)

    reaches(Learned, "rate", build)
    assert set(built) == {3}
    reaches(Learned, "late", build)
    assert built[-1] == 200


def test_a_setting_that_cannot_be_found_is_said():
    @dataclass
    class Text:
        text: str

    @dataclass
    class Never:
        flag: bool = False

        def __post_init__(self) -> None:
            raise ValueError("never")

    with pytest.raises(NotApplicable, match="parameters text have no default: no value of them is known; state values"):
        default_setting(Text)
    with pytest.raises(NotApplicable, match="the defaults are refused: never; state values"):
        default_setting(Never)


class Scaled(nn.Module):
    def __init__(self, scale: float = 1.0, start: float = 0.0, kept: object = None) -> None:
        super().__init__()
        self._scale, self.kept = scale, kept
        self.weight = nn.Parameter(torch.full((2,), start))
        self.register_buffer("steps", torch.tensor(0), persistent=False)


def closure(number: float):
    return lambda: number


ALIKE = {
    "modules": lambda: Scaled(2.0, kept=nn.ReLU()),
    "closures": lambda: closure(1.0),
    "partials": lambda: functools.partial(max, 1, key=abs),
    "methods": lambda: Gated(beta=0.1).__eq__,
    "not-a-number": lambda: [float("nan"), np.array([np.nan]), {"a": {1, 2}}],
    "generators": lambda: (np.random.default_rng(1), torch.Generator().manual_seed(1)),
    "objects": lambda: random.Random(3).getstate(),
    "objects-without-content": object,
    "arrays-of-objects": lambda: np.array([{"a": 1}, None]),
}
DIFFERENT = {
    "a private attribute": (Scaled(1.0), Scaled(2.0)),
    "a value of a parameter": (Scaled(start=0.0), Scaled(start=1.0)),
    "a module in an attribute": (Scaled(kept=[nn.ReLU()]), Scaled(kept=[nn.GELU()])),
    "a function": (Scaled(kept=torch.relu), Scaled(kept=torch.tanh)),
    "a cell of a closure": (closure(1.0), closure(2.0)),
    "an argument of a partial": (functools.partial(max, 1), functools.partial(max, 2)),
    "the object of a method": (Gated(beta=0.1).__eq__, Gated(beta=0.2).__eq__),
    "a type of numbers": (torch.zeros(2), torch.zeros(2, dtype=torch.float64)),
    "a shape": (np.zeros((2, 1)), np.zeros((1, 2))),
    "the sign of zero": (0.0, -0.0),
    "a whole number": (1, 1.0),
    "the state of a generator": (torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)),
    "a reduced number": (torch.ones(1, dtype=torch.bfloat16), torch.zeros(1, dtype=torch.bfloat16)),
}


@pytest.mark.parametrize("make", ALIKE.values(), ids=ALIKE)
def test_what_is_made_alike_has_one_fingerprint(make):
    assert fingerprint(make()) == fingerprint(make())


@pytest.mark.parametrize(("one", "two"), DIFFERENT.values(), ids=DIFFERENT)
def test_what_differs_has_another_fingerprint(one, two):
    assert fingerprint(one) != fingerprint(two)


def test_what_holds_itself_has_a_fingerprint():
    ring: list[object] = [1]
    ring.append(ring)
    assert fingerprint(ring) == ("list", (("int", "1"), "(itself)"))
