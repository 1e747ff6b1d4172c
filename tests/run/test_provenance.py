"""What a run says of the plugins that it was made with, where one of them is gone, changed or claimed by two."""

from importlib.metadata import version

import pytest
from torch import nn

from zoo.model.load import load
from zoo.registry.plugins import Plugin
from zoo.run.provenance import missing, name_here, plugins_of
from zoo.specs import HeadRecord


@pytest.fixture
def installed(monkeypatch):
    """Puts plugins in the place of all that are installed."""

    def put(*plugins):
        monkeypatch.setattr("zoo.registry.lookup.load_plugins", lambda: plugins)
        monkeypatch.setattr("zoo.registry.plugins.load_plugins", lambda: plugins)

    return put


def plugin(distribution, *heads):
    records = tuple(HeadRecord(name=name, build=lambda width, outputs, parameters: nn.Identity()) for name in heads)
    return Plugin(name="acme", distribution=distribution, version="2.0", records={"zoo_heads": records})


NEEDED = [["head", "swirl", "acme-zoo", "1.0"]]


def test_a_run_states_kind_name_distribution_and_version_of_all_that_it_needs():
    model = load("lite/efficientnet_lite0", num_classes=2, weights="none")
    imputers = [("covariates", "mean"), ("covariates", "mean"), ("pixels", "mean")]
    assert [part[:3] for part in plugins_of(model, imputers)] == [
        ["backbone", "lite/efficientnet_lite0", "backbone-zoo"],
        ["head", "linear", "backbone-zoo"],
        ["imputer", "mean", "backbone-zoo"],
        ["imputer of pixels", "mean", "backbone-zoo"],
    ]
    assert missing(plugins_of(model, [("covariates", "mean")])) == ""


def test_what_is_there_again_under_another_version_serves(installed):
    installed(plugin("acme-zoo", "swirl"))
    assert missing(NEEDED) == ""


def test_what_is_not_installed_is_named_with_the_command_that_installs_it(installed):
    installed()
    assert missing(NEEDED) == (
        "it needs the head swirl, which acme-zoo 1.0 offered when it was made and which is not installed: "
        "pip install acme-zoo==1.0"
    )


def test_a_distribution_that_no_longer_offers_it_is_named_with_its_version(installed):
    installed()
    said = missing([["head", "swirl", "torch", "1.0"], *NEEDED])
    assert said.startswith("it needs the head swirl, which torch 1.0 offered when it was made; torch 2.")
    offers = "is installed and does not offer it (`zoo plugins` shows what it offers; 1.0 did: pip install torch==1.0)"
    assert f"{offers}; it needs the head swirl" in said
    same = version("torch")
    assert missing([["head", "swirl", "torch", same]]).endswith("(`zoo plugins` shows what it offers)")


def test_a_name_that_others_claim_too_by_now_means_the_one_of_then(installed):
    installed(plugin("acme-zoo", "swirl"), plugin("other-zoo", "swirl"))
    assert missing(NEEDED) == ""
    assert name_here("head", "swirl", "acme-zoo") == "acme-zoo:swirl"


def test_of_two_others_none_is_taken_for_the_one_of_then(installed):
    installed(plugin("other-zoo", "swirl"), plugin("third-zoo", "swirl"))
    assert "not installed: pip install acme-zoo==1.0" in missing(NEEDED)


def test_a_distribution_that_claims_the_name_twice_by_now_is_refused(installed):
    installed(plugin("acme-zoo", "swirl", "swirl"))
    assert "head 'swirl' is claimed by acme-zoo 2.0 (acme) and acme-zoo 2.0 (acme)" in missing(NEEDED)


def test_another_distributions_own_of_the_same_name_is_not_taken_for_it(installed):
    installed(plugin("other-zoo", "swirl"))
    assert missing(NEEDED) == (
        "it needs the head swirl, which acme-zoo 1.0 offered when it was made and which is not installed: "
        "pip install acme-zoo==1.0; the head swirl that is here is another one, of other-zoo 2.0"
    )
    said = missing([["head", "swirl", "torch", "1.0"]])
    assert "torch 2." in said
    assert "1.0 did: pip install torch==1.0); the head swirl that is here is another one, of other-zoo 2.0" in said


def test_a_distribution_is_the_same_however_its_name_is_spelt(installed):
    installed(plugin("Acme_Zoo", "swirl"))
    assert missing(NEEDED) == ""
    installed(plugin("Acme_Zoo", "swirl"), plugin("other-zoo", "swirl"))
    assert missing(NEEDED) == ""
    assert name_here("head", "swirl", "acme-zoo") == "Acme_Zoo:swirl"


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"failure": "ImportError: no juice"}, "did not load: ImportError: no juice"),
        ({"disabled": True}, "is switched off by ZOO_DISABLE"),
    ],
)
def test_plugins_that_did_not_load_are_named_once_after_what_is_missing(installed, state, reason):
    broken = Plugin(name="acme", distribution="acme-zoo", version="1.0", records={}, **state)
    installed(broken)
    said = missing([*NEEDED, ["head", "twirl", "acme-zoo", "1.0"]])
    assert said.count(f"\n  (plugin 'acme' of acme-zoo 1.0 {reason})") == 1
    installed(broken, plugin("other-zoo", "swirl"))
    assert missing(NEEDED).endswith(f"\n  (plugin 'acme' of acme-zoo 1.0 {reason})")
    assert missing([["head", "swirl", "other-zoo", "2.0"]]) == ""
