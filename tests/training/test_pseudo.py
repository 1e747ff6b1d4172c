"""Pseudo-labels: thresholds by class, given in holes alone."""

import pytest
import torch

from zoo.data.label_policy import Pseudo
from zoo.specs import Target, Task
from zoo.training.pseudo import filled, mark, takes, thresholds

TASK = Task(name="y", classes=("often", "seldom", "never"))


def shares_of(best, sure):
    found = torch.full((len(best), 3), 0.0, dtype=torch.float64)
    for row, (label, share) in enumerate(zip(best, sure, strict=True)):
        found[row] = (1 - share) / 2
        found[row, label] = share
    return found


def test_a_class_of_which_few_rows_are_sure_has_a_lower_threshold_and_none_is_below_the_floor():
    shares = shares_of([0] * 8 + [1] * 4 + [2], [0.99] * 8 + [0.97, 0.97, 0.8, 0.6] + [0.7])
    found = thresholds(shares, Pseudo(tau=0.9, floor=0.2))
    # beta is 8/8, 2/8 and 0, and a threshold tau beta / (2 - beta).
    assert found.tolist() == pytest.approx([0.9, 0.9 * 0.25 / 1.75 if 0.9 * 0.25 / 1.75 > 0.2 else 0.2, 0.2])
    half = thresholds(shares_of([0] * 8 + [1] * 6, [0.99] * 14), Pseudo(tau=0.9, floor=0.2))
    assert half.tolist() == pytest.approx([0.9, 0.9 * 0.75 / 1.25, 0.2])
    nobody = thresholds(shares_of([0, 1], [0.6, 0.6]), Pseudo(tau=0.9, floor=0.5))
    assert nobody.tolist() == [0.5, 0.5, 0.5]


def test_labels_are_given_to_rows_that_have_none_and_what_is_known_stays():
    best, sure = [0, 0, 0, 1, 1, 2], [0.99, 0.99, 0.8, 0.9, 0.4, 0.4]
    logits = shares_of(best, sure).log()
    target = Target(
        value=torch.tensor([2, 0, 0, 0, 0, 0]), mask=torch.tensor([True, False, False, False, False, False])
    )
    rows = torch.tensor([10, 11, 12, 13, 14, 15])
    marks = mark(TASK, logits, target, rows, Pseudo(tau=0.95))
    assert (marks["rows"], marks["labels"]) == ([11, 13], [0, 1])
    assert marks["candidates"] == 5
    assert marks["taken"] == {"often": 1, "seldom": 1, "never": 0}
    whole = Target(value=torch.zeros(20, dtype=torch.int64), mask=torch.zeros(20, dtype=torch.bool))
    found = filled(whole, marks)
    assert found.mask.nonzero().flatten().tolist() == [11, 13]
    assert found.value[[11, 13]].tolist() == [0, 1]
    assert not whole.mask.any()


def test_of_several_labels_each_is_there_or_not_by_thresholds_of_its_own():
    task = Task(name="t", kind="multilabel", classes=("a", "b"))
    share = torch.tensor([[0.99, 0.5], [0.02, 0.1], [0.7, 0.99]], dtype=torch.float64)
    mask = torch.tensor([[False, False], [False, True], [False, False]])
    marks = mark(
        task, share.logit(), Target(value=torch.zeros(3, 2), mask=mask), torch.tensor([4, 5, 6]), Pseudo(tau=0.9)
    )
    given = set(zip(marks["rows"], marks["labels"], marks["there"], strict=True))
    assert given == {(4, 0, True), (5, 0, False), (6, 1, True)}
    assert marks["candidates"] == 5
    assert marks["taken"] == {"a": 1, "no a": 1, "b": 1, "no b": 0}
    whole = filled(Target(value=torch.zeros(8, 2), mask=torch.zeros(8, 2, dtype=torch.bool)), marks)
    assert whole.value[4].tolist() == [1.0, 0.0]
    assert whole.mask[[4, 5, 6]].tolist() == [[True, False], [True, False], [False, True]]


def test_where_nothing_is_missing_nothing_is_given_and_numbers_get_nothing():
    target = Target(value=torch.tensor([0, 1]), mask=torch.ones(2, dtype=torch.bool))
    marks = mark(TASK, torch.randn(2, 3), target, torch.arange(2), Pseudo())
    assert (marks["rows"], marks["candidates"]) == ([], 0)
    assert not takes(Task(name="age", kind="regression"))
    assert takes(TASK)
