from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pytest

from zoo.errors import OptionError
from zoo.specs import NoParameters, bind, parse_options


@dataclass(frozen=True, kw_only=True)
class Parameters:
    beta: float = 0.5
    k_neighbours: int = 5
    method: Literal["inverse", "power"] = "inverse"
    weights: Mapping[str, float] | None = None
    label: str = "x"

    def __post_init__(self):
        if self.beta < 0:
            raise ValueError("beta must not be negative")


def bound(text, cls=Parameters):
    return bind(parse_options(text)[0], cls)


def test_defaults_stand_where_nothing_is_given():
    assert bound("a") == Parameters()


def test_values_reach_the_object_by_name_and_by_position():
    assert bound("a(0.25, 7, method=power, weights={ok: 2}, label=7)") == Parameters(
        beta=0.25, k_neighbours=7, method="power", weights={"ok": 2.0}, label="7"
    )


def test_an_integer_serves_as_a_float_and_hyphens_as_underscores():
    assert bound("a(beta=1, k-neighbours=3)") == Parameters(beta=1.0, k_neighbours=3)
    assert isinstance(bound("a(beta=1)").beta, float)


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("a(bta=1)", "has no parameter 'bta'; it takes beta, k_neighbours, method, weights, label; did you mean", 2),
        ("a(beta=x)", "beta must be float, not 'x'", 2),
        ("a(beta=true)", "beta must be float, not True", 2),
        ("a(k_neighbours=1.5)", "k_neighbours must be int, not 1.5", 2),
        ("a(method=cubic)", "method must be inverse or power, not 'cubic'", 2),
        ("a(weights=3)", "weights must be {name: number, …} or none, not 3", 2),
        ("a(beta=1, beta=2)", "beta is given twice", 10),
        ("a(1, 2, inverse, none, x, 6)", "one value is too many", 26),
        ("a(beta=-1)", "beta must not be negative", 0),
    ],
)
def test_a_bad_argument_is_refused_with_what_is_allowed(text, message, column):
    with pytest.raises(OptionError) as caught:
        bound(text)
    assert message in caught.value.message
    assert caught.value.column == column


@dataclass(frozen=True, kw_only=True)
class Needing:
    prior: Mapping[str, float]
    tau: float
    label: str = "x"


def test_what_has_no_default_is_asked_for_by_name():
    with pytest.raises(OptionError, match=r"a needs prior=\{name: number, …\}, tau=float"):
        bound("a", Needing)
    with pytest.raises(OptionError, match="a needs tau=float"):
        bound("a(prior={ok: 1})", Needing)


def test_a_thing_without_parameters_says_so():
    with pytest.raises(OptionError, match="head takes no parameters; one value is too many"):
        bound("head(1)", NoParameters)
