from __future__ import annotations

import subprocess
import sys
from textwrap import dedent

import pytest

from zoo.errors import UnknownNameError
from zoo.registry.plugins import find_plugins
from zoo.testing import collect
from zoo.testing.check import Check, NotApplicable, require
from zoo.testing.collect import checks_of, collected, own_checks, parametrize_with_checks

EVERYTHING = """
from zoo.specs import BackboneEntry, DatasetRecord, ImputerRecord, StrategyRecord

def build(*given):
    raise RuntimeError("not built by listing")

@hookimpl
def zoo_backbones():
    entries = [BackboneEntry(name="tiny"), BackboneEntry(name="tiny-wide"), BackboneEntry(name="large")]
    excluded = {"tiny": {"fails": "known", "holds": "was known", "skips": "known too"}}
    yield BackboneSource(name="acme", entries=lambda: entries, build=build, exclusions=excluded, summary="nets")

@hookimpl
def zoo_heads():
    yield HeadRecord(name="acute", build=build, summary="an angle")

@hookimpl
def zoo_imbalance_strategies():
    yield StrategyRecord(name="heavier", build=build, summary="weights")

@hookimpl
def zoo_imputers():
    yield ImputerRecord(name="zeros", fills="covariates", fit=build, load=build, summary="zeros")

@hookimpl
def zoo_datasets():
    yield DatasetRecord(name="leaves", load=build, licence="CC0-1.0", summary="leaves")
"""


def fails():
    require(False, "it does not hold")


def holds():
    pass


def skips():
    raise NotApplicable("nothing to look at")


def raises():
    raise KeyError("lost")


@pytest.fixture
def simple(monkeypatch):
    """Four checks of each backbone: one fails, one holds, one does not apply, one raises something else."""

    def checks(source, model):
        runs = (fails, holds, skips, raises)
        return [Check(subject=f"backbone {source.name}/{model}", name=run.__name__, run=run) for run in runs]

    monkeypatch.setattr(collect, "backbone_checks", checks)


def test_everything_that_a_plugin_offers_is_checked(install, simple):
    install("acme", EVERYTHING)
    subjects = list(dict.fromkeys(check.subject for check in checks_of("acme")))
    own = ["plugin acme", "source acme", "head acute", "strategy heavier", "imputer zeros", "data set leaves"]
    assert subjects == [*own, "backbone acme/tiny", "backbone acme/tiny-wide", "backbone acme/large"]
    assert list(dict.fromkeys(check.subject for check in own_checks(*find_plugins("acme")))) == own


def test_names_of_checks_are_told_apart_and_speak_in_kebab_case(install, simple):
    install("acme", EVERYTHING)
    names = [str(check) for check in checks_of("acme")]
    assert len(set(names)) == len(names)
    assert all(check.name == check.name.lower() and " " not in check.name for check in checks_of("acme"))


@pytest.mark.parametrize(
    ("pattern", "models"),
    [("tiny*", ["tiny", "tiny-wide"]), ("acme/large", ["large"]), ("*", ["tiny", "tiny-wide", "large"]), ("none", [])],
)
def test_a_pattern_picks_backbones(pattern, models, install, simple):
    install("acme", EVERYTHING)
    subjects = {check.subject for check in checks_of("acme", backbones=pattern)}
    assert {one for one in subjects if one.startswith("backbone")} == {f"backbone acme/{model}" for model in models}


def test_an_exclusion_stands_beside_the_checks_of_its_backbone(install, simple):
    install("acme", EVERYTHING)
    excluded = {check.subject: excluded for check, excluded in collected("acme") if excluded}
    assert excluded == {"backbone acme/tiny": {"fails": "known", "holds": "was known", "skips": "known too"}}


def test_a_source_that_cannot_be_listed_is_a_failing_check(install, caught):
    install("acme", EVERYTHING.replace("lambda: entries", "build"))
    message = "its backbones cannot be listed: RuntimeError: not built by listing"
    caught(checks_of("acme"), "its-backbones-can-be-listed", message)


def test_a_name_that_nothing_has_is_refused_with_close_ones(install):
    install("acme", EVERYTHING)
    with pytest.raises(UnknownNameError, match=r"no plugin 'acmee' is installed.*did you mean acme\?"):
        checks_of("acmee")


def marked(mark):
    """The checks of a decorator by the names that pytest shows."""
    name, checks = mark.args
    assert name == "check"
    return {mark.kwargs["ids"](check): check for check in checks}


def test_the_decorator_runs_checks_as_pytest_tells_outcomes(install, simple):
    install("acme", EVERYTHING)
    checks = marked(parametrize_with_checks("acme", backbones="large"))
    checks["backbone acme/large: holds"]()
    with pytest.raises(AssertionError, match="it does not hold"):
        checks["backbone acme/large: fails"]()
    with pytest.raises(pytest.skip.Exception, match="nothing to look at"):
        checks["backbone acme/large: skips"]()
    with pytest.raises(KeyError, match="lost"):  # with its traceback
        checks["backbone acme/large: raises"]()


def test_an_excluded_check_is_expected_to_fail_and_fails_where_it_holds(install, simple):
    install("acme", EVERYTHING)
    checks = marked(parametrize_with_checks("acme", backbones="tiny"))
    with pytest.raises(pytest.xfail.Exception, match="known"):
        checks["backbone acme/tiny: fails"]()
    with pytest.raises(AssertionError, match="it holds, so its exclusion is to be removed: was known"):
        checks["backbone acme/tiny: holds"]()
    with pytest.raises(pytest.skip.Exception, match="nothing to look at"):
        checks["backbone acme/tiny: skips"]()
    with pytest.raises(KeyError, match="lost"):
        checks["backbone acme/tiny: raises"]()


def test_a_plugin_that_is_not_installed_is_one_failing_check(site):
    checks = marked(parametrize_with_checks("acme"))
    (check,) = checks.values()
    assert str(check) == "plugin acme: its-checks-can-be-collected"
    with pytest.raises(AssertionError, match="UnknownNameError: no plugin 'acme' is installed"):
        check()


def test_a_plugin_that_does_not_load_is_a_failing_check(install):
    install("acme", "raise RuntimeError('no such luck')")
    checks = marked(parametrize_with_checks("acme"))
    with pytest.raises(AssertionError, match="it does not load: RuntimeError: no such luck"):
        checks["plugin acme: it-loads"]()


def test_without_pytest_the_decorator_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytest", None)
    with pytest.raises(ImportError, match="parametrize_with_checks needs pytest, which is not installed: pip install"):
        parametrize_with_checks("imbalance")


def test_importing_the_kit_does_not_import_pytest():
    assert not hasattr(collect, "pytest")


def test_a_test_file_of_three_lines_is_a_plugins_whole_suite(tmp_path):
    code = """
    from zoo.testing import parametrize_with_checks

    @parametrize_with_checks("imbalance")
    def test_conformance(check):
        check()

    @parametrize_with_checks("no-such-plugin")
    def test_missing(check):
        check()
    """
    file = tmp_path / "test_conformance.py"
    file.write_text(dedent(code))
    # All of them run below, in this process.
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", "-k", "focal or missing"]
    run.append(str(file))
    done = subprocess.run(run, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "test_missing[plugin no-such-plugin: its-checks-can-be-collected]" in done.stdout
    assert "1 failed" in done.stdout
    assert " passed" in done.stdout


@parametrize_with_checks("imbalance")
def test_our_imputers_conform(check):
    check()
