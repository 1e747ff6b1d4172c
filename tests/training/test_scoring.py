"""Validation scores: corrected for the metric, uncorrected for the loss, undefined ones left out."""

import pytest
import torch

from zoo.errors import DataError
from zoo.metrics.chooser import make_chooser
from zoo.specs import Target, Task
from zoo.training.scoring import scores
from zoo.training.strategy import Answer

TASKS = (Task(name="one", classes=("a", "b")), Task(name="two", classes=("a", "b")))


def target(*labels):
    value = torch.tensor(labels)
    return Target(value=torch.where(value < 0, -100, value), mask=value >= 0)


def test_a_bias_counts_in_the_metric_and_not_in_the_loss():
    logits, held = {"one": torch.tensor([[1.0, 0.0], [0.0, 1.0]])}, {"one": target(0, 1)}
    plain, biased = (
        scores(logits, held, TASKS[:1], {"one": Answer(logit_bias=bias)}, make_chooser("accuracy", TASKS[:1], held))
        for bias in (None, (9.0, 0.0))
    )
    assert plain["val_loss"] == biased["val_loss"]
    assert (plain["one/accuracy"], biased["one/accuracy"]) == (1.0, 0.5)


def test_only_a_task_that_chooses_the_epoch_must_have_a_metric():
    logits = {"one": torch.zeros(2, 2), "two": torch.zeros(2, 2)}
    answers = {"one": Answer(), "two": Answer()}
    whole, holed = {"one": target(0, 1), "two": target(0, 1)}, {"one": target(0, 1), "two": target(-1, -1)}
    found = scores(logits, holed, TASKS, answers, make_chooser("one:roc_auc", TASKS, whole))
    assert set(found) == {"val_loss", "one/roc_auc"}
    both = make_chooser("roc_auc", TASKS, whole)
    assert scores(logits, whole, TASKS, answers, both)["mean"] == 0.5
    with pytest.raises(DataError, match="roc_auc is undefined on these rows"):
        scores(logits, {"one": target(0, 0), "two": target(0, 1)}, TASKS, answers, both)
