"""Every kind of freeze policy, on real networks: what is frozen stands bit for bit, and what trains moves.

The whole product, every kind on a backbone of every family, is benchmarks/freezing.py; its outcome is in
benchmarks/results.
"""

import pytest
import torch
from torch import nn

from zoo.errors import IntegrityError
from zoo.registry.catalogue import catalogue
from zoo.testing import freezing
from zoo.testing.families import smallest_of_families
from zoo.testing.freezing import KINDS, Kind, freeze_backbone, train_under
from zoo.training.loop import Trainer

LARGEST = 6_000_000
"""Parameters up to which a family's smallest backbone is trained here."""


@pytest.fixture(scope="module")
def small_of_families():
    """Of each family with such a small one the smallest backbone, by name."""
    rows = smallest_of_families(row for row in catalogue().rows if row.source in ("timm", "torchvision", "lite"))
    return [row.name for row in rows if row.entry.parameters and row.entry.parameters < LARGEST]


def outcome(name, kind):
    source, _, model = name.partition("/")
    return freeze_backbone({"source": source, "model": model, "kinds": [kind]}, 0)[kind]


def still(found):
    return {name: why for interval in found["intervals"] for name, why in interval["still"].items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", ["test_efficientnet", "test_vit", "test_convnext"])
def test_what_is_frozen_stands_and_what_trains_moves(model, kind):
    found = outcome(f"timm/{model}", kind)
    assert "failed" not in found
    assert still(found) == {}
    assert all(each["frozen"] or kind.startswith("none") for each in found["intervals"])
    assert all(each["trainable"] >= 2 for each in found["intervals"])


@pytest.mark.parametrize("place", range(len(KINDS)), ids=list(KINDS))
def test_so_it_is_in_other_families(small_of_families, place):
    """Each kind of policy in a family of its own."""
    name, kind = small_of_families[place * len(small_of_families) // len(KINDS)], list(KINDS)[place]
    found = outcome(name, kind)
    assert "failed" not in found, name
    assert "refused" in found or "zero" not in still(found).values(), name


def test_the_kinds_are_those_of_the_grammar():
    from zoo.specs.policies import WHAT, WHERE
    from zoo.specs.schedules import WHEN

    view = freezing.SOURCES.get("timm").build("test_vit", None)
    written = " ".join(kind.write(view) for kind in KINDS.values())
    assert {name for name in (*WHAT, *WHERE, *WHEN) if name not in written} == set()


def test_statistics_that_move_in_a_frozen_stage_are_a_failure(monkeypatch):
    monkeypatch.setattr("zoo.model.freeze._keep_in_eval", lambda module: None)
    found = outcome("timm/test_efficientnet", "last(1), statistics")
    assert "running_mean" in found["failed"]


def test_a_frozen_tensor_that_is_written_to_is_a_failure(monkeypatch):
    step = Trainer._step

    def careless(self, parts, given):
        if self.at.epoch == 1:
            with torch.no_grad():
                next(self.model.parameters()).mul_(1.01)
        return step(self, parts, given)

    monkeypatch.setattr(Trainer, "_step", careless)
    assert "1 frozen tensors changed" in outcome("timm/test_vit", "last(1)")["failed"]


def test_what_trains_and_stands_still_is_listed(monkeypatch):
    rates = freezing.Rates(head=1e-3, backbone=0.0, weight_decay=0.0, head_l2=0.0, warmup=0.0)
    monkeypatch.setattr(freezing, "_RATES", rates)
    found = outcome("timm/test_vit", "bias@")
    names = set(still(found))
    assert len(names) == found["intervals"][0]["trainable"] - 2
    assert all(name.startswith("backbone.") and name.endswith("bias") for name in names)


def test_what_the_features_do_not_depend_on_is_listed_as_unused(monkeypatch):
    plain = freezing._model

    def with_spare(name):
        model = plain(name)
        model.backbone.spare = nn.Parameter(torch.ones(2))
        return model

    monkeypatch.setattr(freezing, "_model", with_spare)
    assert still(train_under("timm/test_vit", KINDS["none"])) == {"backbone.spare": "unused"}


def test_what_autograd_does_not_see_is_a_failure(monkeypatch):
    def blind(self, batch, suffix=None):
        return self.heads(self.model.features(batch.inputs[0]).detach())

    monkeypatch.setattr(Trainer, "_forward", blind)
    with pytest.raises(IntegrityError, match="got no gradient in the first step"):
        train_under("timm/test_vit", Kind(lambda view: "last(1)"))


def test_a_policy_that_a_backbone_has_not_is_refused():
    assert "has no parameter of kind norm there" in outcome("torchvision/squeezenet1_1", "norm@")["refused"]
