"""Plugins that pip installed: they are found, checked, trained with and predicted with, and missed when they are gone.

Two plugins stand in one environment: `acme-zoo`, as a stranger wrote it, and what `zoo new-plugin demo-nets` writes.
"""

import json
import re
from pathlib import Path

import pytest
from safetensors import safe_open

from zoo.cli import main

pytestmark = pytest.mark.long

ACME = Path(__file__).parent / "acme"
COVARIATES = ["--covariate", "age", "--covariate", "site", "--impute", "covariates=acme-smallest"]
RUNS = {
    "network": ["--backbone", "acme/patch8", "--imbalance", "acme-rare-first(limit=3)"],
    "imputer": ["--backbone", "demo-nets/tiny", "--head", "demo-nets-head(dropout=0)", *COVARIATES],
    "strategy": ["--backbone", "demo-nets/tiny.stand-in", "--imbalance", "acme-rare-first"],
}
"""Options of three runs: one needs the network of acme-zoo, one its imputer, one nothing of it once it is trained."""

NEW = ("demo-nets", "0.1.0")
"""Distribution and version of what `zoo new-plugin` writes."""


class Story:
    """Installed, used, uninstalled, used again."""

    def __init__(self, environment, folder, table):
        self.environment, self.project, self.table = environment, folder / "demo-nets", str(table)
        assert main(["new-plugin", "demo-nets", "--out", str(self.project)]) == 0
        environment.install(self.project, ACME)
        self.tests = environment.run(environment.python, "-m", "pytest", self.project, "-q", "-p", "no:cacheprovider")
        self.before = environment.zoo(
            ("plugins", ["plugins", "--json"]),
            ("list", ["list", "--json"]),
            ("check acme-zoo", ["check", "acme-zoo", "--json", "--quiet"]),
            ("check demo-nets", ["check", "demo-nets", "--json", "--quiet"]),
            *((f"train {name}", self.train(name, options)) for name, options in RUNS.items()),
            *self.uses(),
        )
        environment.pip("uninstall", "--yes", "acme-zoo")
        self.after = environment.zoo(("plugins", ["plugins", "--json"]), ("list", ["list", "--json"]), *self.uses())

    def folder(self, name):
        return self.environment.root / "runs" / name

    def train(self, name, options):
        roles = ["--image", "image", "--target", "label"]
        return ["train", self.table, *roles, *options, "--out", self.folder(name), "--epochs", "2", "--quiet", "--json"]

    def uses(self):
        for name in RUNS:
            yield f"predict {name}", ["predict", self.folder(name), self.table, "--quiet", "--json"]
            yield f"evaluate {name}", ["evaluate", self.folder(name), self.table, "--quiet", "--json"]


@pytest.fixture(scope="module")
def story(make_environment, tmp_path_factory, table):
    return Story(make_environment("sound"), tmp_path_factory.mktemp("new"), table)


def test_what_is_installed_is_found(story):
    found = {plugin["distribution"]: plugin for plugin in story.before["plugins"].json}
    assert {name: plugin["failure"] for name, plugin in found.items()} == dict.fromkeys(found)
    assert found["acme-zoo"]["version"] == "1.2.3"
    assert found["acme-zoo"]["offers"] == {
        "backbones": ["acme"],
        "imbalance": ["acme-rare-first"],
        "imputers": ["covariates=acme-smallest"],
    }
    assert {row["name"]: row["distribution"] for row in story.before["list"].json} == {
        "acme/patch16": "acme-zoo",
        "acme/patch8": "acme-zoo",
        "demo-nets/tiny": "demo-nets",
    }


@pytest.mark.parametrize("name", ["acme/patch8", "demo-nets/tiny"])
def test_weights_that_come_in_the_package_lie_on_this_disk(story, name):
    (row,) = [row for row in story.before["list"].json if row["name"] == name]
    assert [weights["on_disk"] for weights in row["weights"]] == [True]


@pytest.mark.parametrize("name", ["acme-zoo", "demo-nets"])
def test_it_passes_every_check(story, name):
    done = story.before[f"check {name}"]
    assert done.code == 0, done.out
    outcomes = {result["outcome"] for result in done.json}
    assert outcomes == {"passed", "skipped"}
    assert len(done.json) > 50


def test_a_new_plugin_passes_its_own_tests(story):
    last = story.tests.stdout.strip().splitlines()[-1]
    passed, skipped = re.fullmatch(r"(\d+) passed, (\d+) skipped in .*", last).groups()
    checks = [result["outcome"] for result in story.before["check demo-nets"].json]
    assert (int(passed), int(skipped)) == (checks.count("passed"), checks.count("skipped"))


@pytest.mark.parametrize("name", RUNS)
def test_it_is_trained_with_and_predicts(story, name):
    for use in ("train", "predict", "evaluate"):
        assert story.before[f"{use} {name}"].code == 0, story.before[f"{use} {name}"].err
    rows = story.before[f"predict {name}"].json
    assert len(rows) == 30
    assert {row["label.predicted"] for row in rows} <= {"bright", "dark"}


def test_its_strategy_reached_the_training(story):
    for name, strategy, limit in (("network", "acme-rare-first(limit=3)", 3.0), ("strategy", "acme-rare-first", 5.0)):
        (said,) = json.loads((story.folder(name) / "run.json").read_text())["imbalance"]
        assert said["strategy"] == strategy
        weights = said["element_weights"]
        assert weights["dark"] == 1.0
        assert 1.5 < weights["bright"] <= limit


def test_its_imputer_filled_the_holes(story):
    (said,) = json.loads((story.folder("imputer") / "run.json").read_text())["imputation"]
    assert said["imputer"] == "acme-smallest"
    assert said["filled"] == {"age": 6, "site": 7}


def test_once_it_is_uninstalled_nothing_speaks_of_it(story):
    assert "acme-zoo" not in {plugin["distribution"] for plugin in story.after["plugins"].json}
    assert {row["name"] for row in story.after["list"].json} == {"demo-nets/tiny"}
    assert story.after["list"].err == ""


@pytest.mark.parametrize("use", ["predict", "evaluate"])
def test_a_run_that_no_longer_needs_it_does_what_it_did(story, use):
    before, after = story.before[f"{use} strategy"], story.after[f"{use} strategy"]
    assert (after.code, after.err) == (0, before.err)
    assert after.json == before.json


@pytest.mark.parametrize(("name", "part"), [("network", "backbone acme/patch8"), ("imputer", "imputer acme-smallest")])
@pytest.mark.parametrize("use", ["predict", "evaluate"])
def test_a_run_says_what_is_missing_which_release_offered_it_and_what_to_type(story, use, name, part):
    done = story.after[f"{use} {name}"]
    assert (done.code, done.out) == (2, "")
    first, *others = done.err.splitlines()
    assert first == (
        f"zoo {use}: {story.folder(name)} cannot be used here: it needs the {part}, which acme-zoo 1.2.3 offered when "
        "it was made and which is not installed: pip install acme-zoo==1.2.3"
    )
    assert all("is switched off by ZOO_DISABLE" in line for line in others)


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("network", {("backbone", "acme/patch8", "acme-zoo", "1.2.3")}),
        ("imputer", {("imputer", "acme-smallest", "acme-zoo", "1.2.3"), ("head", "demo-nets-head", *NEW)}),
        ("strategy", {("backbone", "demo-nets/tiny", *NEW)}),
    ],
)
def test_a_run_states_who_offered_what_it_was_made_with(story, name, needed):
    with safe_open(story.folder(name) / "model.safetensors", framework="np") as file:
        stated = {tuple(part) for part in json.loads(file.metadata()["plugins"])}
    assert needed <= stated
    assert ("acme-zoo" in {home for _, _, home, _ in stated}) == (name != "strategy")
