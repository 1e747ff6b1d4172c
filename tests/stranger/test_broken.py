"""Plugins that break the contract, each really installed: what is wrong is named, and everything else goes on."""

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ACME = Path(__file__).parent / "acme"
HOOKS = "from zoo.hooks import hookimpl\nfrom zoo.specs import *\n"
NOTHING = "lambda width, outputs, parameters: None"
HEAD = HOOKS + f"@hookimpl\ndef zoo_heads():\n    yield HeadRecord(name={{!r}}, build={NOTHING}, summary='a head')\n"
TWINS = (
    HOOKS
    + """
def build(model, tag):
    from acme_zoo._network import PatchNet, view_of
    return view_of(PatchNet(8), "twins/net", tag)

def build_head(width, outputs, parameters):
    from torch import nn
    return nn.Linear(width, outputs)

@hookimpl
def zoo_backbones():
    yield BackboneSource(name="twins", entries=lambda: [BackboneEntry(name="net")], build=build, summary="a source")

@hookimpl
def zoo_heads():
    yield HeadRecord(name="twins", build=build_head, summary="a head")
"""
)

BROKEN = {
    "acme-import": ("import no_such_library\n", "ModuleNotFoundError: No module named 'no_such_library'"),
    "acme-dict": (
        HOOKS + "@hookimpl\ndef zoo_heads():\n    yield {'name': 'mine'}\n",
        "TypeError: zoo_heads yielded {'name': 'mine'}, which is no HeadRecord",
    ),
    "acme-confused": (
        HEAD.format("confused").replace("zoo_heads", "zoo_backbones"),
        "TypeError: zoo_backbones yielded HeadRecord(name='confused'",
    ),
    "acme-misspelt": (
        HEAD.format("misspelt").replace("zoo_heads", "zoo_head"),
        "TypeError: unknown hook 'zoo_head'",
    ),
    "acme-future": (
        HEAD.format("future").replace("build=", "api=2, build="),
        "ValueError: head 'future' was written for plugin API 2; this backbone-zoo speaks 1",
    ),
    "acme-exits": ("import sys\nsys.exit(3)\n", "SystemExit: 3"),
}
"""By distribution: the code of its module, and how the reason begins with which it does not load."""

ODD = {
    "acme-slow": "import time\ntime.sleep(2)\n" + HEAD.format("slow"),
    "acme-prints": "print('hello from acme')\n" + HEAD.format("printing"),
    "acme-left": TWINS,
    "acme-right": TWINS,
}
"""By distribution: the code of modules that load, and do what they should not."""

FAILS = {
    **dict.fromkeys(BROKEN, "it-loads"),
    "acme-slow": "importing-it-is-quick",
    "acme-prints": "importing-it-prints-nothing",
    "acme-left": "its-names-are-its-own",
    "acme-right": "its-names-are-its-own",
}
"""The check that each of them fails."""

SAID = {
    **{name: ("it does not load: ", reason) for name, (_, reason) in BROKEN.items()},
    "acme-slow": ("importing it takes ",),
    "acme-prints": ("importing it prints 'hello from acme\\n'",),
    "acme-left": ("backbone source 'twins'", "acme-right 0.7 (acme-right)"),
    "acme-right": ("backbone source 'twins'", "acme-left 0.7 (acme-left)"),
}
"""What that check says."""


@pytest.fixture(scope="module")
def site(make_environment, build_wheel):
    environment = make_environment("broken")
    codes = {name: code for name, (code, _) in BROKEN.items()} | ODD
    environment.install(ACME, *(build_wheel(name, code) for name, code in codes.items()))
    return environment


@pytest.fixture(scope="module")
def done(site, table):
    """Commands in one process, so that the slow plugin is waited for once; a check starts processes of its own."""
    twins = ["train", table, "--image", "image", "--target", "label", "--epochs", "1", "--random-frozen", "--quiet"]
    left = [*twins, "--weights", "none", "--out", site.root / "left", "--backbone"]
    backbone = ["--backbone", "acme/patch8", "--out", site.root / "head", "--head"]
    return site.zoo(
        ("plugins", ["plugins"]),
        ("plugins json", ["plugins", "--json"]),
        ("list", ["list", "--json"]),
        ("info acme", ["info", "acme/patch8", "--json"]),
        ("info twins", ["info", "twins/net"]),
        ("info left", ["info", "acme-left:twins/net", "--json"]),
        ("unknown head", [*twins, *backbone, "misspelt"]),
        ("head twins", [*twins, *backbone, "twins"]),
        ("head left", [*twins, *backbone, "acme-left:twins"]),
        ("predict head left", ["predict", site.root / "head", table, "--quiet", "--json"]),
        ("train left", [*left, "acme-left:twins/net"]),
        ("predict left", ["predict", site.root / "left", table, "--quiet", "--json"]),
        ("check all", ["check", *FAILS, "acme-zoo", "--json", "--quiet"]),
        *((f"check {name}", ["check", name, "--quiet"]) for name in (*FAILS, "acme-zoo")),  # what was done is kept
    )


@pytest.mark.parametrize("name", BROKEN)
def test_what_does_not_load_is_shown_with_distribution_version_and_reason(done, name):
    assert done["plugins"].code == 0
    (line,) = [line for line in done["plugins"].out.splitlines() if line.startswith(f"{name} ")]
    assert f"{name} 0.7  FAILED {BROKEN[name][1]}" in line
    (plugin,) = [plugin for plugin in done["plugins json"].json if plugin["name"] == name]
    assert plugin["failure"].startswith(BROKEN[name][1])
    assert plugin["offers"] == {}


@pytest.mark.parametrize("name", BROKEN)
def test_the_list_says_what_did_not_load(done, name):
    assert done["list"].code == 0
    assert f"zoo list: plugin '{name}' of {name} 0.7: {BROKEN[name][1]}" in done["list"].err


@pytest.mark.parametrize("name", BROKEN)
def test_an_unknown_name_says_what_did_not_load(done, name):
    refused = done["unknown head"]
    assert refused.code == 2
    assert (
        "unknown head 'misspelt'; there are attention, cosine, ensemble, linear, mlp, printing, slow, trees, twins"
        in refused.err
    )
    assert f"(plugin '{name}' of {name} 0.7 did not load: {BROKEN[name][1]}" in refused.err


def test_the_other_plugins_go_on_working(done):
    found = {plugin["name"]: plugin for plugin in done["plugins json"].json}
    assert {name for name, plugin in found.items() if plugin["failure"]} == set(BROKEN)
    assert found["acme"]["offers"]["backbones"] == ["acme"]
    assert found["acme-slow"]["offers"] == {"heads": ["slow"]}
    assert found["acme-prints"]["offers"] == {"heads": ["printing"]}
    assert done["info acme"].json["name"] == "acme/patch8"
    assert done["check acme-zoo"].code == 0


@pytest.mark.parametrize("name", FAILS)
def test_its_check_fails_where_it_should_and_names_it(done, name):
    assert done[f"check {name}"].code == 1
    failed = {
        result["check"]: result["message"]
        for result in done["check all"].json
        if result["subject"] == f"plugin {name}" and result["outcome"] == "failed"
    }
    assert list(failed) == [FAILS[name]]
    assert all(words in failed[FAILS[name]] for words in SAID[name]), failed
    assert f"FAILED    plugin {name}: {FAILS[name]}" in done[f"check {name}"].out


def test_one_command_checks_them_all_and_fails(done):
    assert done["check all"].code == 1
    whole = {result["subject"] for result in done["check all"].json if result["outcome"] == "failed"}
    assert {f"plugin {name}" for name in FAILS} <= whole
    assert not [subject for subject in whole if subject.startswith(("plugin acme ", "backbone acme/"))]


def test_a_slow_plugin_is_shown_to_be_slow_and_alone(done):
    slow = [line.split()[0] for line in done["plugins"].out.splitlines() if "(slow: " in line]
    assert slow == ["acme-slow"]


CLAIMED = (
    "is claimed by acme-left 0.7 (acme-left) and acme-right 0.7 (acme-right); say acme-left:twins or acme-right:twins"
)


@pytest.mark.parametrize(("asked", "kind"), [("info twins", "backbone source"), ("head twins", "head")])
def test_a_name_that_two_claim_is_refused_naming_both(done, asked, kind):
    assert done[asked].code == 2
    assert f"{kind} 'twins' {CLAIMED}" in done[asked].err


def test_both_claimants_are_listed_under_names_that_resolve(done):
    names = {row["name"] for row in done["list"].json}
    assert {"acme-left:twins/net", "acme-right:twins/net", "acme/patch8"} <= names
    assert "twins/net" not in names
    assert done["info left"].code == 0, done["info left"].err


def test_a_head_named_with_its_distribution_is_trained_and_predicts(done):
    for step in ("head left", "predict head left"):
        assert done[step].code == 0, done[step].err
    assert len(done["predict head left"].json) == 30


def test_a_network_named_with_its_distribution_is_trained_and_predicts(done):
    for step in ("train left", "predict left"):
        assert done[step].code == 0, done[step].err
    assert len(done["predict left"].json) == 30


def test_the_output_for_programs_is_json_whatever_plugins_print(site):
    listed = site.run(site.python, "-m", "zoo", "list", "--json")
    assert "acme/patch8" in {row["name"] for row in json.loads(listed.stdout)}
    assert "hello from acme" not in listed.stdout


@pytest.mark.parametrize("words", [["-c", "import zoo"], ["-m", "zoo", "--help"], ["-m", "zoo", "--version"]])
def test_starting_imports_no_plugin(site, words):
    imported = site.run(site.python, "-X", "importtime", *words).stderr
    assert "zoo" in imported
    assert not [line for line in imported.splitlines() if "acme" in line]
