"""`--task TARGET=KIND`: what it means, and what is refused."""

import pytest

from zoo.errors import OptionError
from zoo.specs import TargetKind, Task, parse_kinds


def test_kinds_are_read_with_their_names_as_cells_spell_them():
    found = parse_kinds(["age=regression", "grade=ordinal(1, 2.0, '1/3')", "x=multilabel(a-b, true)", "y=ordinal"])
    assert found == {
        "age": TargetKind(kind="regression"),
        "grade": TargetKind(kind="ordinal", names=("1", "2", "1/3")),
        "x": TargetKind(kind="multilabel", names=("a-b", "true")),
        "y": TargetKind(kind="ordinal"),
    }
    assert str(found["grade"]) == "ordinal(1, 2, 1/3)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["age"], "expected TARGET=KIND, as in age=regression"),
        (["=ordinal"], "expected TARGET=KIND"),
        (["age=regresion"], "unknown kind of target 'regresion'; there are .*; did you mean regression"),
        (["age=regression(3)"], "regression takes no names"),
        (["age=ordinal(low=1)"], r"ordinal takes names alone, as in ordinal\(mild, moderate, severe\)"),
        (["age=multilabel(a)"], "multilabel takes two names or more, each once"),
        (["age=ordinal(a, b, a)"], "ordinal takes two names or more, each once"),
        (["age=ordinal+regression"], "a target has one kind"),
        (["age=ordinal", "age=regression"], "target 'age' is given two kinds; name one"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, message):
    with pytest.raises(OptionError, match=message):
        parse_kinds(options)


def test_a_task_knows_how_many_outputs_it_has_and_comes_back_from_json():
    ranks = Task(name="grade", kind="ordinal", classes=("1", "2", "3"))
    number = Task(name="age", kind="regression", center=40.0, scale=12.0, low=1.0, high=90.0)
    labels = Task(name="tags", kind="multilabel", classes=("a", "b"), joined=True)
    assert [task.outputs for task in (ranks, number, labels)] == [2, 1, 2]
    for task in (ranks, number, labels):
        assert Task.from_json(task.to_json()) == task
    with pytest.raises(ValueError, match=r"center 0\.0 and scale 0\.0 standardise nothing"):
        Task(name="age", kind="regression", scale=0.0)
