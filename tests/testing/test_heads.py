from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zoo.registry.lookup import HEADS
from zoo.registry.plugins import find_plugins
from zoo.specs import HeadRecord, NoParameters
from zoo.testing.heads import CHECKS, head_checks
from zoo.testing.surroundings import settings


def record(build, takes="vector", parameters=NoParameters):
    return HeadRecord(name="mine", build=build, takes=takes, parameters=parameters)


class Plain(nn.Module):
    """A linear layer to spoil."""

    def __init__(self, width, outputs, parameters=None):
        super().__init__()
        self.layer = nn.Linear(width, outputs)

    def forward(self, features):
        return self.layer(features)


@dataclass(frozen=True)
class Pool:
    hidden: int = 8
    dropout: float = 0.1
    norm: bool = True


class AttentionPool(nn.Module):
    """Tokens weighed by a learned query, then a layer that starts at zero: its query has no gradient but zero."""

    def __init__(self, width, outputs, parameters):
        super().__init__()
        self.query = nn.Parameter(torch.randn(width))
        norm = nn.BatchNorm1d(parameters.hidden) if parameters.norm else nn.Identity()
        self.hidden = nn.Sequential(nn.Linear(width, parameters.hidden), norm, nn.Dropout(parameters.dropout))
        self.last = nn.Linear(parameters.hidden, outputs)
        nn.init.zeros_(self.last.weight)

    def forward(self, tokens):
        shares = (tokens @ self.query).softmax(dim=1)
        return self.last(self.hidden((shares[:, :, None] * tokens).sum(dim=1)))


class SqueezesOneRow(Plain):
    def forward(self, features):
        return self.layer(features).squeeze(0)


class DividesByRows(Plain):
    def forward(self, features):
        return self.layer(features) / (len(features) - 2 if self.training else 1)


class HasSpareLayer(Plain):
    def __init__(self, *given):
        super().__init__(*given)
        self.spare = nn.Linear(2, 2)


class HasInfiniteGradient(Plain):
    def __init__(self, *given):
        super().__init__(*given)
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, features):
        return self.layer(features) * (1 + self.scale.sqrt())


class Untrained(Plain):
    def __init__(self, *given):
        super().__init__(*given)
        self.requires_grad_(False)


class AlwaysDrops(Plain):
    def forward(self, features):
        return self.layer(F.dropout(features, training=True))


class Centres(Plain):
    def forward(self, features):
        return self.layer(features - features.mean(dim=0))


class HidesState(Plain):
    def __init__(self, *given):
        super().__init__(*given)
        self.directions = torch.randn(())

    def forward(self, features):
        return self.layer(features) * self.directions


class KeepsText(Plain):
    def get_extra_state(self):
        return "text"

    def set_extra_state(self, state):
        pass


class HidesConstant(Plain):
    def __init__(self, *given):
        super().__init__(*given)
        self.offset = torch.ones(1)

    def forward(self, features):
        return self.layer(features) + self.offset


class RoundsInDouble(Plain):
    def forward(self, features):
        return self.layer(features).round() if features.dtype == torch.float64 else self.layer(features)


class HasOwnSeed(Plain):
    def __init__(self, *given):
        super().__init__(*given)
        generator = torch.Generator()
        generator.seed()
        nn.init.normal_(self.layer.weight, generator=generator)


class SharesCopies(Plain):
    def __deepcopy__(self, memo):
        twin = type(self)(self.layer.in_features, self.layer.out_features)
        twin.layer = self.layer
        return twin


class ForgetsInCopies(Plain):
    def __deepcopy__(self, memo):
        return type(self)(self.layer.in_features, self.layer.out_features)


class WritesToFeatures(Plain):
    def forward(self, features):
        return self.layer(features.relu_())


class SetsDefaultType(Plain):
    def __init__(self, *given):
        super().__init__(*given)
        torch.set_default_dtype(torch.float64)


class SeedsTheWorld(Plain):
    def forward(self, features):
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        return self.layer(features)


class GivesPair(Plain):
    def forward(self, features):
        return self.layer(features), features


class InHalf(Plain):
    def forward(self, features):
        return self.layer(features).half()


class Overflows(Plain):
    def forward(self, features):
        return self.layer(features) * float("inf")


def only_for_seven(width, outputs, parameters):
    return Plain(width, outputs) if width == 7 else None


BROKEN = [
    ("it-builds-for-any-width-and-number-of-outputs", only_for_seven, "build(5, 2) gives None, which is no torch"),
    ("it-builds-for-any-width-and-number-of-outputs", GivesPair, "become a tuple, not a tensor of logits"),
    ("features-become-one-logit-a-class", SqueezesOneRow, "features (1, 7) of torch.float32 become logits (3,), not"),
    ("features-become-one-logit-a-class", InHalf, "become logits of torch.float16"),
    ("features-become-one-logit-a-class", Overflows, "become logits that are not finite"),
    ("it-trains-on-two-rows", DividesByRows, "features (2, 7) of torch.float32 become logits that are not finite"),
    ("it-trains-on-two-rows", HasInfiniteGradient, "not finite after a step: "),
    ("a-finite-gradient-reaches-each-parameter", HasSpareLayer, "no gradient reaches spare.weight, spare.bias"),
    ("a-finite-gradient-reaches-each-parameter", HasInfiniteGradient, "the gradient is not finite of scale"),
    ("a-finite-gradient-reaches-each-parameter", Untrained, "it has no parameter that could be trained"),
    ("evaluation-gives-the-same-each-time", AlwaysDrops, "give other logits the second time"),
    ("each-row-is-judged-alone", Centres, "a row alone gets logits that differ by "),
    ("its-state-holds-all-that-it-learned", HidesState, "with the same state another build gives other logits"),
    ("its-state-holds-all-that-it-learned", KeepsText, "a run keeps tensors only, and these are none: _extra_state"),
    ("it-moves-to-other-number-types", HidesConstant, "of torch.bfloat16 become logits of torch.float32"),
    ("it-moves-to-other-number-types", RoundsInDouble, "in float64 the logits differ by 0."),
    ("one-seed-gives-one-beginning", HasOwnSeed, "with the same seed these begin with other values: layer.weight"),
    ("a-deep-copy-is-a-head-of-its-own", SharesCopies, "a change of a deep copy changes the original"),
    ("a-deep-copy-is-a-head-of-its-own", ForgetsInCopies, "a deep copy gives other logits"),
    ("the-features-given-stay-as-they-are", WritesToFeatures, "training changes the features given"),
    ("settings-of-the-process-stay-as-they-are", SetsDefaultType, "it changes torch's default dtype"),
    ("settings-of-the-process-stay-as-they-are", SeedsTheWorld, "it changes the random numbers of Python, the random"),
]
ids = [f"{name}-{build.__name__}" for name, build, _ in BROKEN]


@pytest.mark.parametrize(("name", "build", "message"), BROKEN, ids=ids)
def test_a_broken_head_is_caught_by_name(name, build, message, caught):
    caught(head_checks(record(build)), name, message)


def test_there_is_a_broken_head_for_each_check():
    assert {name for name, _, _ in BROKEN} == set(CHECKS)


@pytest.mark.parametrize("takes", ["vector", "tokens"])
def test_right_heads_pass_every_check(takes, ends):
    right = record(AttentionPool, "tokens", Pool) if takes == "tokens" else record(Plain)
    assert ends(head_checks(right)) == {}


def test_a_head_of_tokens_that_takes_five_tokens_only_is_caught(caught):
    def build(width, outputs, parameters):
        return nn.Sequential(nn.Flatten(), nn.Linear(5 * width, outputs))

    caught(head_checks(record(build, "tokens")), "features-become-one-logit-a-class", "RuntimeError: ")


def test_a_parameter_that_the_head_ignores_is_caught(caught, result):
    def build(width, outputs, parameters):
        return nn.Sequential(nn.Dropout(parameters.dropout), nn.Linear(width, outputs))

    checks = head_checks(record(build, parameters=Pool))
    caught(checks, "the-parameter-hidden-reaches-what-is-built", "hidden changes nothing: 8, 9, 7, 16")
    assert result(checks, "the-parameter-dropout-reaches-what-is-built").outcome == "passed"


def test_what_a_head_does_to_the_process_is_put_back():
    before, drawn = settings(), torch.random.get_rng_state()
    for build in (SetsDefaultType, SeedsTheWorld, HasOwnSeed):
        for check in head_checks(record(build)):
            try:
                check()
            except Exception:
                continue
    assert repr(settings()) == repr(before)
    assert torch.equal(torch.random.get_rng_state(), drawn)


OURS = [head.name for plugin in find_plugins("backbone-zoo") for head in plugin.records.get("zoo_heads", ())]


@pytest.mark.parametrize("name", OURS)
def test_our_heads_pass_every_check(name, ends):
    assert ends(head_checks(HEADS.get(name))) == {}
