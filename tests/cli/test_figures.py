from __future__ import annotations

import torch

from zoo.cli.figures import poorest_line, report
from zoo.metrics.classification import classification_metrics
from zoo.report.scores import figures


def scores(predicted: list[int], truth: list[int], classes: tuple[str, ...]) -> dict:
    return classification_metrics(torch.eye(len(classes))[predicted], torch.tensor(truth), classes).to_json()


def test_what_is_undefined_says_why_and_a_mean_that_leaves_something_out_is_not_called_undefined():
    found = scores([0, 0, 0], [0, 1, 0], ("ok", "crack", "hole"))
    assert figures(found) == "accuracy 0.667, balanced accuracy 0.500, macro F1 0.267, ROC-AUC undefined over 3 rows"
    lines = list(report(found))
    for line in [
        "G-mean             undefined",
        "MCC                undefined",
        "balanced accuracy      0.500  (0.500 to 0.500)",
        "mcc is undefined: every row is predicted as 'ok'",
        "g_mean is undefined: no row of 'hole'",
        "recall of 'hole' is undefined: no row of this class",
        "precision of 'crack' is undefined: this class is never predicted",
        "macro_precision: counts the undefined precision of 'crack', 'hole' as 0",
        "balanced_accuracy: mean over the classes that have rows; no row of 'hole'",
    ]:
        assert line in lines, line
    assert any(line.split() == ["hole", "0", "0", *["undefined"] * 5] for line in lines)


def test_the_poorest_class_has_a_line_where_classes_differ():
    assert poorest_line(scores([0, 1], [0, 1], ("a", "b"))) is None
    assert poorest_line(scores([0, 0, 1, 0], [0, 0, 1, 1], ("a", "b"))).startswith("poorest class: b, F1 0.667; 1 of 2")


def test_an_interval_that_is_left_out_says_why():
    found = scores([0, 1], [0, 1], ("a", "b"))
    found["intervals"]["left_out"] = {"roc_auc": "too many rows"}
    assert "roc_auc has no interval: too many rows" in list(report(found))
