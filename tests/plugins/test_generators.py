"""Generators of features, and the strategy that fills classes up with what they draw."""

import importlib

import pytest
import torch

import zoo_generators
from zoo.errors import OptionError, PluginError, ZooError
from zoo.registry.lookup import GENERATORS, STRATEGIES
from zoo.specs import ClassStatistics, GeneratorRecord, Target, Task, bind, parse_options
from zoo.testing import parametrize_with_checks
from zoo.testing.generators import rows
from zoo_generators.parameters import Gan, Gaussian, Vae
from zoo_imbalance.synthetic import Synthetic, synthetic_plan

pytestmark = pytest.mark.long

NAMES = ("gaussian", "vae", "gan", "diffusion")
COUNTS = (60, 25, 9)


@parametrize_with_checks("generators")
def test_conformance(check):
    check()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def plan_of(text, counts=COUNTS):
    (call,) = parse_options(text)
    task = Task(name="y", classes=tuple(f"c{index}" for index in range(len(counts))))
    return synthetic_plan(ClassStatistics(task=task, counts=counts), bind(call, Synthetic))


def target_of(labels, weight=None):
    return Target(value=labels, mask=torch.ones(len(labels), dtype=torch.bool), weight=weight)


def test_four_are_offered():
    assert set(NAMES) <= set(GENERATORS.names())
    assert "synthetic" in STRATEGIES.names()


@pytest.mark.parametrize("name", NAMES)
def test_the_records_are_the_same_after_what_computes_was_imported(name):
    importlib.import_module(f"zoo_generators._{name}")  # as a name of the package it must hide nothing
    [record] = [each for each in zoo_generators.zoo_generators() if each.name == name]
    assert callable(record.fit)


def test_a_gaussian_has_the_mean_and_the_covariance_of_its_rows():
    wide = torch.randn((4000, 3), generator=generator(3)) @ torch.tensor([[2.0, 0, 0], [1, 1, 0], [0, 0, 0.5]])
    labels = torch.zeros(4000, dtype=torch.int64)
    for shared in (True, False):
        fitted = GENERATORS.get("gaussian").fit(wide + 5, labels, 1, Gaussian(shared=shared), generator())
        found = fitted.sample(0, 20000, generator(1))
        assert torch.allclose(found.mean(dim=0), (wide + 5).mean(dim=0), atol=0.06)
        assert torch.allclose(torch.cov(found.T), torch.cov(wide.T), atol=0.15)


def test_a_shared_covariance_is_that_about_the_means():
    features, labels = rows()
    fitted = GENERATORS.get("gaussian").fit(features, labels, 4, Gaussian(), generator())
    assert fitted.factors[0] is fitted.factors[2]
    found = fitted.sample(2, 20000, generator(1))
    assert torch.allclose(found.mean(dim=0), features[labels == 2].mean(dim=0), atol=0.05)


def test_one_row_has_no_covariance_of_its_own():
    features, labels = torch.randn(5, 3), torch.tensor([0, 0, 0, 0, 1])
    with pytest.raises(ValueError, match=r"class number 1 has one training row.*say shared=true"):
        GENERATORS.get("gaussian").fit(features, labels, 2, Gaussian(shared=False), generator())
    plan = plan_of('synthetic(generator="gaussian(shared=false)")', (4, 1))
    with pytest.raises(ZooError, match=r"gaussian\(shared=false\): class number 1 has one training row"):
        plan.resamplers[0](features, target_of(labels), generator())


@pytest.mark.parametrize(("name", "parameters"), [("vae", Vae()), ("gan", Gan())])
def test_networks_learn_how_wide_a_class_is(name, parameters):
    features, labels = rows()
    fitted = GENERATORS.get(name).fit(features, labels, 4, parameters, generator())
    own = features[labels == 0]
    found = fitted.sample(0, 2000, generator(1))
    assert torch.allclose(found.mean(dim=0), own.mean(dim=0), atol=0.5)
    ratio = found.std(dim=0) / own.std(dim=0)
    assert 0.4 < float(ratio.min()) <= float(ratio.max()) < 2.5


@pytest.mark.parametrize("text", ["gaussian", "vae(epochs=3)", "gan(steps=3)"])
def test_classes_are_filled_up_behind_the_rows_that_are_there(text):
    features, labels = rows()
    plan = plan_of(f'synthetic(generator="{text}", ratio=0.5)')
    found, target = plan.resamplers[0](features, target_of(labels, torch.ones(len(labels))), generator())
    assert torch.equal(found[: len(features)], features)
    assert torch.bincount(target.value).tolist() == [60, 30, 30]
    assert target.mask.all()
    assert len(target.weight) == len(found) == 120
    again, _ = plan.resamplers[0](features, target_of(labels), generator())
    assert torch.equal(again, found)
    assert plan.shift == pytest.approx([0.0, 0.1823, 1.2040], abs=1e-4)


def test_nothing_is_made_of_a_class_that_has_no_row_or_enough():
    features, labels = torch.randn(6, 2), torch.tensor([0, 0, 0, 1, 1, 1])
    found, target = plan_of("synthetic", (3, 3)).resamplers[0](features, target_of(labels), generator())
    assert found is features
    assert torch.equal(target.value, labels)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("synthetic(generator=vea)", "generator: unknown generator 'vea'.*did you mean.*vae"),
        ('synthetic(generator="vae(latent=0)")', "latent must be positive"),
        ('synthetic(generator="gan(depth=3)")', "depth"),
        ("synthetic(ratio=2)", r"ratio must lie in \(0, 1\]"),
    ],
)
def test_wrong_options_are_refused(text, said):
    with pytest.raises((ValueError, OptionError), match=said):
        plan_of(text)


def test_categories_beside_the_features_are_refused():
    features, labels = rows()
    with pytest.raises(ZooError, match="covariates that are categories"):
        plan_of("synthetic").resamplers[0](features, target_of(labels), generator(), [(4, 6)])


def test_a_generator_that_gives_something_else_names_its_plugin(monkeypatch):
    class Wrong:
        def sample(self, label, count, generator):
            return torch.zeros(count, 3)

    record = GeneratorRecord(name="gaussian", fit=lambda *given: Wrong(), parameters=Gaussian)
    monkeypatch.setattr("zoo.registry.lookup.Shelf.of_call", lambda self, call: record)
    features, labels = rows()
    with pytest.raises(PluginError, match=r"generator gaussian\): asked for 35 rows of 6, it gives \(35, 3\)"):
        plan_of("synthetic").resamplers[0](features, target_of(labels), generator())
