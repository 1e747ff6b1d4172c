from __future__ import annotations

import pytest

from zoo.errors import UnknownNameError
from zoo.registry.plugins import find_plugins, load_plugins
from zoo.testing import plugin as under_test
from zoo.testing.plugin import CHECKS, plugin_checks

RIGHT = """
@hookimpl
def zoo_heads():
    yield HeadRecord(name="acute", build=lambda width, outputs, parameters: None, summary="an angle")
"""
HEAVY, PRINTS, QUICK = "importing-it-loads-nothing-heavy", "importing-it-prints-nothing", "importing-it-is-quick"
NAMES, SUMMARY, TWICE = "its-names-are-its-own", "each-record-says-what-it-is", "its-hooks-yield-the-same-each-time"
COUNTS = """
import itertools
count = itertools.count()

@hookimpl
def zoo_heads():
    yield HeadRecord(name=f"acute{next(count)}", build=None, summary="an angle")
"""
TWO = """
@hookimpl
def zoo_heads():
    for _ in range(2):
        yield HeadRecord(name="acute", build=None, summary="an angle")
"""
BROKEN = [
    ("it-loads", "raise RuntimeError('no such luck')", "it does not load: RuntimeError: no such luck"),
    ("it-loads", "@hookimpl\ndef zoo_hedas():\n    return []", "it does not load: "),
    (HEAVY, "import numpy\nimport PIL" + RIGHT, "importing it loads numpy through "),
    (PRINTS, "import os\nos.write(1, b'hello')\nprint(' world')" + RIGHT, "importing it prints 'hello world"),
    (QUICK, "import time\ntime.sleep(0.4)" + RIGHT, "at most 0.2 s are allowed"),
    (NAMES, RIGHT.replace("acute", "linear"), "head 'linear' is claimed by acme 1.0 (acme) and by backbone-zoo "),
    (NAMES, TWO, "head 'acute' is claimed by acme 1.0 (acme) and by acme 1.0 (acme)"),
    (SUMMARY, RIGHT.replace("an angle", " "), "head 'acute' has no summary"),
    (SUMMARY, RIGHT.replace("an angle", "an\\nangle"), "the summary of head 'acute' is longer than one line"),
    (TWICE, COUNTS, "asked again, its hooks yield ['head acute2'], not ['head acute1']"),
]


@pytest.mark.parametrize(
    ("name", "code", "message"), BROKEN, ids=[f"{name}-{i}" for i, (name, *_) in enumerate(BROKEN)]
)
def test_a_broken_plugin_is_caught_by_name(name, code, message, install, caught, monkeypatch):
    monkeypatch.setattr(under_test, "MOST_SECONDS", 0.2)
    install("acme", code)
    caught(plugin_checks("acme"), name, message)


def test_there_is_a_broken_plugin_for_each_check():
    assert {name for name, *_ in BROKEN} == set(CHECKS)


def test_a_right_plugin_passes_every_check_by_any_of_its_names(install, ends):
    install("angles", RIGHT, distribution="acme-heads")
    for name in ("angles", "acme-heads", "acme-heads:angles"):
        checks = plugin_checks(name)
        assert {check.subject for check in checks} == {"plugin angles"}
        assert [check.name for check in checks] == list(CHECKS)
    assert ends(checks) == {}


def test_the_way_to_a_heavy_import_is_told(install, site, caught):
    (site / "acme_inner.py").write_text("\n\nimport numpy.random\n")
    install("acme", "import acme_inner" + RIGHT)
    caught(plugin_checks("acme"), HEAVY, "loads numpy through site/acme_plugin.py:3 -> site/acme_inner.py:3. Import it")


def test_a_slow_first_import_has_a_second_attempt(install, site, result, monkeypatch):
    monkeypatch.setattr(under_test, "MOST_SECONDS", 0.5)
    code = f"""
import pathlib, time
mark = pathlib.Path({str(site / "compiled")!r})
if not mark.exists():
    mark.touch()
    time.sleep(0.8)
"""
    install("acme", code + RIGHT)
    (site / "compiled").unlink(missing_ok=True)
    load_plugins()
    (site / "compiled").unlink()
    assert result(plugin_checks("acme"), QUICK).outcome == "passed"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise RuntimeError('no such luck')", "it cannot be imported: RuntimeError: no such luck"),
        ("import os, zoo.hooks, sys\nif 'pytest' not in sys.modules: os._exit(3)" + RIGHT, "the process ended with 3"),
    ],
)
def test_what_cannot_be_imported_is_not_measured(code, message, install, result):
    install("acme", code)
    for name in (HEAVY, PRINTS, QUICK):
        found = result(plugin_checks("acme"), name)
        assert found.outcome == "skipped"
        assert message in found.message


def test_an_import_without_end_is_given_up(install, result, monkeypatch):
    monkeypatch.setattr(under_test, "LONGEST", 1.0)
    install("acme", "import sys, time\nif 'pytest' not in sys.modules: time.sleep(60)" + RIGHT)
    assert result(plugin_checks("acme"), QUICK).message == "it cannot be imported: it takes more than 1 s"


def test_what_did_not_load_has_no_records_to_check(install, result):
    install("acme", "raise RuntimeError('no such luck')")
    for name in (NAMES, SUMMARY, TWICE):
        found = result(plugin_checks("acme"), name)
        assert (found.outcome, found.message) == ("skipped", "it is not loaded")


def test_a_plugin_that_is_switched_off_is_said_to_be(install, result, monkeypatch):
    install("acme", RIGHT)
    monkeypatch.setenv("ZOO_DISABLE", "acme")
    load_plugins.cache_clear()
    found = result(plugin_checks("acme"), "it-loads")
    assert (found.outcome, found.message) == ("skipped", "it is switched off by ZOO_DISABLE")


def test_a_name_that_nothing_has_is_refused_with_close_ones(install):
    install("acme", RIGHT)
    with pytest.raises(UnknownNameError, match=r"no plugin 'acmee' is installed; there are .*did you mean acme\?"):
        plugin_checks("acmee")


@pytest.mark.parametrize("name", [plugin.name for plugin in find_plugins("backbone-zoo")])
def test_our_plugins_pass_every_check(name, ends):
    assert ends(plugin_checks(name)) == {}


def test_several_names_that_others_claim_are_one_failure(install, caught):
    yields = "\n    ".join(f"yield HeadRecord(name={name!r}, build=print)" for name in ("linear", "mlp"))
    install("acme", f"@hookimpl\ndef zoo_heads():\n    {yields}")
    caught(plugin_checks("acme"), NAMES, "head 'linear' is claimed by")
    caught(plugin_checks("acme"), NAMES, "; head 'mlp' is claimed by")
