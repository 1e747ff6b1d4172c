import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import OptionError
from zoo.specs import parse_assignment, parse_options, parse_terms
from zoo.specs.grammar import Argument, Call


def values(text):
    return {argument.name: argument.value for argument in parse_options(text)[0].arguments}


def test_a_bare_name_is_a_call_without_arguments():
    (call,) = parse_options("class-weights")
    assert (call.name, call.arguments) == ("class-weights", ())


def test_plus_joins_calls_and_at_binds_them():
    assert [call.name for call in parse_options("balanced-sampler(q=0.5)+logit-adjust")] == [
        "balanced-sampler",
        "logit-adjust",
    ]
    assert [[call.name for call in term] for term in parse_terms("lora(r=8)@last(4)+norm@last(2)")] == [
        ["lora", "last"],
        ["norm", "last"],
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a(x=1)", 1),
        ("a(x=-1)", -1),
        ("a(x=.5)", 0.5),
        ("a(x=1e-3)", 1e-3),
        ("a(x=true)", True),
        ("a(x=None)", None),
        ("a(x='not ok')", "not ok"),
        ("a(x=layer4.1)", "layer4.1"),
        ("a(x=3rd)", "3rd"),
        ("a(x={ok: 1, 'not ok': 2.5, 3rd: 1e-3})", {"ok": 1.0, "not ok": 2.5, "3rd": 1e-3}),
        ("a(x={})", {}),
    ],
)
def test_values_read_as_what_they_look_like(text, value):
    assert values(text) == {"x": value}
    assert type(values(text)["x"]) is type(value)


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("", "expected a name, but the option ends", 0),
        ("a(", "expected a value, but the option ends", 2),
        ("a(x=)", "expected a value, found ')'", 4),
        ("a(x=1", "expected ',', but the option ends", 5),
        ("a(1 2)", "expected ',', found '2'", 4),
        ("a+", "expected a name, but the option ends", 2),
        ("a b", "expected '+' or the end, found 'b'", 2),
        ("a(x=$)", "unexpected '$'", 4),
        ("a@b", "'@' has no meaning here", 1),
        ("a(x={k: v})", "expected a number, found 'v'", 8),
        ("a(x={k 1})", "expected ':', found '1'", 7),
        ("a(x={=1})", "expected a name, found '='", 5),
    ],
)
def test_an_error_points_at_the_place(text, message, column):
    with pytest.raises(OptionError) as caught:
        parse_options(text)
    assert message in caught.value.message
    assert caught.value.column == column
    if text:
        assert str(caught.value).endswith(f"{text}\n    {' ' * column}^")


def test_an_assignment_names_the_kind_of_hole():
    kind, (call,) = parse_assignment("covariates=knn(k=5)")
    assert (kind, call.name) == ("covariates", "knn")


@pytest.mark.parametrize("text", ["covariates", "=mean", "knn(k=5)"])
def test_an_assignment_without_a_kind_is_refused(text):
    with pytest.raises(OptionError, match="expected KIND=NAME"):
        parse_assignment(text)


def test_an_error_in_an_assignment_points_into_the_whole_option():
    with pytest.raises(OptionError) as caught:
        parse_assignment("covariates=knn(k=)")
    assert caught.value.column == 17


names = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True).filter(lambda n: n not in ("true", "false", "none"))
scalars = st.one_of(st.booleans(), st.none(), st.integers(-(10**6), 10**6), st.floats(0.001, 1e6), names)


@given(names, st.lists(st.tuples(names, scalars), max_size=4, unique_by=lambda pair: pair[0]))
def test_what_a_call_prints_parses_to_itself(name, pairs):
    call = Call(name=name, arguments=tuple(Argument(name=k, value=v, column=0) for k, v in pairs))
    (again,) = parse_options(str(call))
    assert again.name == name
    assert [(a.name, a.value) for a in again.arguments] == pairs
