"""`zoo check` on real backbones: outcomes, the file that keeps them, tables, and exit codes."""

import json
from pathlib import Path

import pytest

from zoo.cli import main
from zoo.config import CheckConfig
from zoo.disk import cache_folder
from zoo.errors import OptionError, UnknownNameError
from zoo.grid.rows import Row, RowFile
from zoo.jobs.check import CheckReport, _cells, run_check
from zoo.jobs.progress import Reporter
from zoo.registry.tables import own_table, read_table
from zoo.testing.backbones import CHECKS
from zoo.testing.check import Result

pytestmark = pytest.mark.long

QUIET = Reporter(quiet=True)


def check(*what, **options):
    return run_check(CheckConfig(what=what, quiet=True, jobs=2, **options), QUIET)


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """A check of two tiny backbones, its folder of caches, and its file."""
    folder = tmp_path_factory.mktemp("checked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(folder))
        return check("timm/test_vit", "timm/test_resnet", out=folder / "rows.jsonl"), folder


def test_each_backbone_has_a_result_for_each_check(checked):
    report, _ = checked
    assert [(result.subject, result.check) for result in report.results] == [
        (f"backbone timm/{name}", check) for name in ("test_vit", "test_resnet") for check in CHECKS
    ]
    assert report.failed == ()
    assert report.counts["passed"] >= 2 * len(CHECKS) - 2


def test_what_was_measured_is_in_a_table_of_this_version(checked):
    report, folder = checked
    assert report.tables == (folder / "tables" / "backbone-zoo-timm.json",)
    facts = read_table(report.tables[0]).facts
    assert facts.keys() == {"test_vit", "test_resnet"}
    # timm's benchmark files state 0.37 million parameters and 0.04 GMACs of test_vit at 160 pixels.
    assert round(facts["test_vit"].parameters / 1e6, 2) == 0.37
    assert round(facts["test_vit"].gmacs, 2) == 0.04
    assert facts["test_vit"].features == ("pooled", "cls", "cls+mean", "mean", "tokens")


def test_a_second_check_computes_nothing_and_says_the_same(checked, monkeypatch):
    report, folder = checked
    monkeypatch.setenv("ZOO_CACHE", str(folder))
    before = (folder / "rows.jsonl").read_bytes()
    again = check("timm/test_vit", "timm/test_resnet", out=folder / "rows.jsonl")
    assert again.results == report.results
    assert (folder / "rows.jsonl").read_bytes() == before


def test_a_table_for_a_plugin_goes_where_it_is_asked_for(checked, monkeypatch, tmp_path):
    _, folder = checked
    monkeypatch.setenv("ZOO_CACHE", str(folder))
    own = own_table("timm", "backbone-zoo").read_bytes()
    wanted = tmp_path / "deep" / "table.json"
    report = check("timm/test_vit", out=folder / "rows.jsonl", table=wanted)
    assert report.tables == (wanted,)
    assert read_table(wanted).facts.keys() == {"test_vit"}
    assert own_table("timm", "backbone-zoo").read_bytes() == own


def test_a_backbone_that_exceeds_its_limits_is_a_failure(tmp_path, capsys):
    words = ["check", "timm/test_vit", "--seconds", "0.01", "--out", str(tmp_path / "rows.jsonl"), "--quiet"]
    assert main(words) == 1
    out = capsys.readouterr().out
    assert "FAILED    backbone timm/test_vit: it-can-be-checked\n          stopped after 0.01 s\n" in out
    assert "1 checked, 1 with failures" in out
    row = next(iter(RowFile(tmp_path / "rows.jsonl").read().values()))
    assert row.status == "timeout"
    assert main([*words[:2], *words[4:], "--seconds", "300"]) == 0  # another limit is another chance


def test_a_process_that_dies_is_a_failure_with_its_last_words():
    row = Row(
        key="k",
        task="t",
        parameters={"source": "acme", "model": "net"},
        seed=0,
        context={},
        status="died",
        message="killed by SIGSEGV",
        output="one\nFatal Python error: Segmentation fault\n",
    )
    from zoo.jobs.check import _results

    (result,) = _results(row)
    assert result.subject == "backbone acme/net"
    assert result.message == "killed by SIGSEGV; it wrote: Fatal Python error: Segmentation fault"


def test_a_plugin_without_backbones_is_checked_by_name(tmp_path, capsys):
    # Not the imputers, of which some train a network in each of their checks.
    assert main(["check", "imbalance", "--json", "--quiet", "--out", str(tmp_path / "rows.jsonl")]) == 0
    found = [Result(**result) for result in json.loads(capsys.readouterr().out)]
    assert {result.subject for result in found} >= {
        "plugin imbalance",
        "strategy class-weights",
        "strategy logit-adjust",
    }
    assert {result.outcome for result in found} <= {"passed", "skipped"}


@pytest.mark.parametrize(
    ("what", "options", "error", "message"),
    [
        ("timm/no_such_net", {}, UnknownNameError, "timm has no backbone 'no_such_net'"),
        ("imputatoin", {}, UnknownNameError, "no plugin 'imputatoin' is installed; .* did you mean imputation"),
        ("timm/test_vit", {"seconds": 0.0}, OptionError, "--seconds must be positive, not 0.0"),
        ("timm/test_vit", {"memory": -1.0}, OptionError, "--memory must be positive, not -1.0"),
        (
            "imputation",
            {"table": Path("x.json")},
            OptionError,
            "--table holds the backbones of one source, not of none",
        ),
    ],
)
def test_what_cannot_be_checked_is_refused(tmp_path, what, options, error, message):
    with pytest.raises(error, match=message):
        check(what, out=tmp_path / "rows.jsonl", **options)


def test_nothing_to_check_is_refused():
    with pytest.raises(OptionError, match="say what to check: a plugin, as in `zoo check timm`"):
        check()


def test_by_default_the_outcomes_are_kept_in_the_cache_folder():
    check("imbalance")
    assert len(RowFile(cache_folder() / "checks.jsonl").read()) == 1


def test_the_counts_of_a_report_are_by_outcome():
    results = tuple(
        Result(subject="s", check="c", outcome=outcome) for outcome in ("passed", "failed", "passed", "excluded")
    )
    report = CheckReport(results=results, rows=())
    assert report.counts == {"passed": 2, "failed": 1, "excluded": 1}
    assert report.failed == (results[1],)


CLAIMS = """
    from zoo.specs import BackboneEntry

    @hookimpl
    def zoo_backbones():
        for _ in range({times}):
            yield BackboneSource(name="acme", entries=lambda: [BackboneEntry(name="net")], build=print, summary="s")
"""


def test_a_name_that_a_plugin_claims_twice_is_one_failure_and_ends_no_check(install):
    install("acme", CLAIMS.format(times=2))
    assert [cell.parameters for cell in _cells(["acme"])] == [{"plugin": "acme", "distribution": "acme"}]


def test_backbones_of_a_source_that_two_claim_are_checked_under_the_name_that_tells_them_apart(install):
    install("acme", CLAIMS.format(times=1))
    install("other", CLAIMS.format(times=1))
    sources = [cell.parameters["source"] for cell in _cells(["acme", "other"]) if "source" in cell.parameters]
    assert sources == ["acme:acme", "other:acme"]
