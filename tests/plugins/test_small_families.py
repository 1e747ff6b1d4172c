"""The small families of timm, torchvision and lite keep the contract; the table behind `zoo list` is true.

Of each family that has a network of at most SMALL parameters the smallest is checked, of other families none: they take
minutes. All backbones are in the sweep, `zoo check 'timm/*' 'torchvision/*' 'lite/*'`; its outcome is in
benchmarks/results.
"""

import json
from importlib.metadata import version
from pathlib import Path

import pytest

from zoo.config import CheckConfig
from zoo.jobs.check import run_check
from zoo.jobs.progress import Reporter
from zoo.registry.catalogue import catalogue
from zoo.registry.lookup import SOURCES
from zoo.registry.tables import library_version, read_table
from zoo.testing.backbones import CHECKS
from zoo.testing.families import smallest_of_families

pytestmark = pytest.mark.long

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
TIMM = SOURCES.get("timm")
SMALL = 6_000_000


@pytest.fixture(scope="module")
def entries():
    return {row.name: row.entry for row in catalogue().rows if row.source in ("timm", "torchvision", "lite")}


@pytest.fixture(scope="module")
def sample(entries):
    each = smallest_of_families(row for row in catalogue().rows if row.name in entries)
    assert len(each) == len({(name.partition("/")[0], entry.family) for name, entry in entries.items()}) > 100
    return [row.name for row in each if (row.entry.parameters or 0) <= SMALL]


@pytest.fixture(scope="module")
def report(sample, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(folder))
        config = CheckConfig(what=tuple(sample), jobs=2, seconds=300.0, quiet=True, out=folder / "rows.jsonl")
        return run_check(config, Reporter(quiet=True))


def test_the_sample_holds_every_source_and_every_kind_of_features(entries, sample):
    assert all(entry.family for entry in entries.values())
    assert len(sample) > 45
    assert {name.partition("/")[0] for name in sample} == {"timm", "torchvision", "lite"}
    kinds = {kind for entry in entries.values() for kind in entry.features}
    assert {kind for name in sample for kind in entries[name].features} == kinds


def test_a_backbone_of_each_small_family_keeps_the_contract(report, sample):
    assert [f"{result.subject}: {result.check}: {result.message}" for result in report.failed] == []
    assert {result.subject for result in report.results} == {f"backbone {name}" for name in sample}
    assert report.counts["passed"] > 10 * len(sample)


def test_what_is_measured_is_what_the_list_states(report, entries):
    """Of torchvision the library's own figures, of timm those of the table that was made by the sweep."""
    compared = 0
    for row in report.rows:
        entry = entries[f"{row.parameters['source']}/{row.parameters['model']}"]
        facts = row.result["facts"]
        if entry.gmacs is not None:
            # torchvision rounds to three digits behind the point, and counts what is not a matrix product too.
            assert facts["gmacs"] == pytest.approx(entry.gmacs, rel=0.03, abs=2e-3), entry.name
            compared += 1
        assert tuple(facts["features"]) == entry.features
    assert compared == len(report.rows)


def test_the_table_that_ships_holds_every_architecture_of_its_version():
    table = read_table(TIMM.table)
    assert table.library == "timm"
    assert all(facts.parameters > 0 and facts.gmacs > 0 and facts.features for facts in table.facts.values())
    if (table.library, table.version) != library_version(TIMM, "backbone-zoo"):
        pytest.skip(f"the table is that of timm {table.version}, and {version('timm')} is installed")
    assert table.facts.keys() == {entry.name for entry in TIMM.entries()}


def test_at_most_fifteen_backbones_are_excluded_each_with_a_reason(entries):
    excluded = {
        f"{source.name}/{model}": reasons
        for _, source in SOURCES.items()
        for model, reasons in source.exclusions.items()
    }
    assert 0 < len(excluded) <= 15
    assert all(reason for reasons in excluded.values() for reason in reasons.values())


def test_the_sweep_that_was_published_left_nothing_out_and_nothing_failed():
    """Its file is made by benchmarks/conformance.py; whatever was excluded in it is excluded in the code."""
    published = json.loads(max(RESULTS.glob("conformance-*.json")).read_text(encoding="utf-8"))
    assert published["failed"] == []
    assert published["backbones"] == {"lite": 3, "timm": 1371, "torchvision": 80}
    # A check that came later than the file has not run in it.
    each, left = divmod(sum(published["checks"].values()), 1454)
    assert left == 0
    assert 14 <= each <= len(CHECKS)
    stated = {
        (f"{source.name}/{model}", check)
        for _, source in SOURCES.items()
        for model, reasons in source.exclusions.items()
        for check in reasons
    }
    assert {(row["backbone"], row["check"]) for row in published["excluded"]} == stated
