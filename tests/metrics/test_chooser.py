"""Which metric of which target chooses the best epoch."""

import pytest
import torch

from zoo.errors import DataError, UnknownNameError
from zoo.metrics.chooser import make_chooser, split_option
from zoo.specs import Target, Task

ONE, TWO = Task(name="defect", classes=("ok", "a:b", "crack")), Task(name="type", classes=("mono", "poly"))


def held(defect=(0, 1, 2), types=(0, 1, 1)):
    found = {}
    for name, labels in (("defect", defect), ("type", types)):
        value = torch.tensor(labels)
        found[name] = Target(value=value.clamp(min=0), mask=value >= 0)
    return found


def test_by_default_the_mean_of_each_targets_own_metric_chooses_and_a_metric_counts_where_a_target_has_it():
    chooser = make_chooser(None, (ONE, TWO), held())
    assert str(chooser) == "the mean of defect:log_loss and type:log_loss"
    assert chooser.with_mean({"defect/log_loss": 1.0, "type/log_loss": 3.0})["mean"] == 2.0
    assert chooser.key == "mean"
    assert chooser.better(1.0, 2.0)
    assert make_chooser("log_loss", (ONE, TWO), held()) == chooser
    alone = make_chooser(None, (ONE,), held())
    assert (str(alone), alone.key) == ("log_loss", "defect/log_loss")
    own = make_chooser("recall(crack)", (ONE, TWO), held())
    assert (own.counts, own.key, str(own)) == (("defect",), "defect/recall(crack)", "defect:recall(crack)")
    assert own.metrics["type"] == "log_loss"


def test_target_and_metric_are_told_apart_whatever_colons_names_hold():
    assert make_chooser("type:balanced_accuracy", (ONE, TWO), held()).key == "type/balanced_accuracy"
    assert make_chooser("recall(a:b)", (ONE, TWO), held()).key == "defect/recall(a:b)"
    assert split_option("x:y:roc_auc", ["x:y"]) == ("x:y", "roc_auc")
    assert split_option("defect:roc_auc") == ("defect", "roc_auc")
    with pytest.raises(UnknownNameError, match="no target 'defcet'; the targets are defect, type; did you mean defect"):
        make_chooser("defcet:accuracy", (ONE, TWO), held())
    with pytest.raises(UnknownNameError, match=r"unknown class 'crack' in recall\(crack\); there are mono, poly"):
        make_chooser("type:recall(crack)", (ONE, TWO), held())


def test_a_target_that_the_rows_leave_undefined_does_not_count_where_others_do():
    chooser = make_chooser(None, (ONE, TWO), held(types=(-1, -1, -1)))
    assert chooser.counts == ("defect",)
    said = "type has no part in choosing the best epoch: none of the validation rows has a label of 'type'"
    assert chooser.said == (said,)
    with pytest.raises(DataError, match="none of the validation rows has a label of 'type'"):
        make_chooser("type:accuracy", (ONE, TWO), held(types=(-1, -1, -1)))
    with pytest.raises(DataError, match="g_mean is undefined on the validation rows: no row of 'crack'"):
        make_chooser("defect:g_mean", (ONE, TWO), held(defect=(0, 1, 1)))
