"""Plugins arrive one by one; what breaks is named with its reason and stops nothing else."""

from importlib.metadata import entry_points
from textwrap import dedent

import pytest

from zoo.hooks import GROUP
from zoo.registry.lookup import HEADS
from zoo.registry.plugins import describe_failures, failures, load_plugins, useless_disabled


def of(name):
    return [plugin for plugin in load_plugins() if plugin.name == name]


def only(name):
    (plugin,) = of(name)
    return plugin


def test_records_of_an_installed_plugin_arrive_with_what_installed_them(install, head):
    install("acme", head("swirl"), distribution="acme-heads", version="2.3")
    plugin = only("acme")
    assert (plugin.distribution, plugin.version, plugin.failure, plugin.disabled) == ("acme-heads", "2.3", None, False)
    assert [record.name for record in plugin.records["zoo_heads"]] == ["swirl"]
    assert plugin.seconds > 0
    assert HEADS.get("swirl").name == "swirl"
    assert HEADS.get("linear").name == "linear"
    assert failures() == ()


def test_our_own_plugins_load_without_failure(site):
    ours = {plugin.name for plugin in load_plugins() if plugin.distribution == "backbone-zoo"}
    assert ours == {"builtin", "generators", "imbalance", "imputation", "lite", "timm", "torchvision"}
    assert failures() == ()
    assert describe_failures() == ""


BROKEN = {
    "an import error": ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
    "no hook": (
        "def zoo_heads():\n    return []",
        "TypeError: implements no hook; the hooks are zoo_backbones, zoo_heads",
    ),
    "a misspelt hook": ("@hookimpl\ndef zoo_backbone():\n    return []", "TypeError: unknown hook 'zoo_backbone' ("),
    "a misspelt hook beside a right one": (
        "@hookimpl\ndef zoo_heads():\n    return []\n\n@hookimpl\ndef zoo_head():\n    return []",
        "TypeError: unknown hook 'zoo_head' (",
    ),
    "a hook with arguments that do not exist": (
        "@hookimpl\ndef zoo_heads(config):\n    return []",
        "Argument(s) {'config'} are declared in the hookimpl but can not be found in the hookspec",
    ),
    "a record of another kind": (
        "@hookimpl\ndef zoo_backbones():\n    yield HeadRecord(name='x', build=print)",
        "TypeError: zoo_backbones yielded HeadRecord(name='x'",
    ),
    "no record at all": (
        "@hookimpl\ndef zoo_heads():\n    yield 'swirl'",
        "TypeError: zoo_heads yielded 'swirl', which is no HeadRecord",
    ),
    "a record for another API version": (
        "@hookimpl\ndef zoo_heads():\n    yield HeadRecord(name='x', build=print, api=99)",
        "ValueError: head 'x' was written for plugin API 99; this backbone-zoo speaks 1",
    ),
    "a record that refuses its name": (
        "@hookimpl\ndef zoo_heads():\n    yield HeadRecord(name='No Name', build=print)",
        "ValueError: head name 'No Name': use lower-case letters, digits and any of _ . -",
    ),
    "sys.exit on import": ("import sys\nsys.exit('not on this machine')", "SystemExit: not on this machine"),
    "an error while it yields": (
        "@hookimpl\ndef zoo_heads():\n    yield HeadRecord(name='x', build=print)\n    raise OSError('disk\\n  gone')",
        "OSError: disk gone",
    ),
}


@pytest.mark.parametrize(("code", "reason"), BROKEN.values(), ids=list(BROKEN))
def test_a_broken_plugin_is_named_with_its_reason_and_everything_else_works(install, head, code, reason):
    install("broken", code, distribution="broken-heads", version="0.4")
    install("sound", head("swirl"))
    (failed,) = failures()
    assert (failed.name, failed.distribution, failed.version) == ("broken", "broken-heads", "0.4")
    assert reason in failed.failure
    assert "\n" not in failed.failure
    assert failed.records == {}
    assert describe_failures() == f"\n  (plugin 'broken' of broken-heads 0.4 did not load: {failed.failure})"
    assert HEADS.get("swirl").name == "swirl"
    assert HEADS.get("linear").name == "linear"


def test_an_entry_point_that_names_no_module_is_a_failure_like_any_other(install):
    install("broken", "", value="no module at all!")
    (failed,) = failures()
    assert failed.failure == "ValueError: the entry point's value 'no module at all!' names no module"


def test_a_distribution_that_lost_its_metadata_still_works(install, head):
    install("halfway", head("swirl"), metadata=False)
    plugin = only("halfway")
    assert (plugin.distribution, plugin.version, plugin.failure) == ("(unknown)", "(unknown)", None)
    assert HEADS.get("swirl").name == "swirl"


def test_what_a_plugin_prints_does_not_spoil_standard_output(install, capsys):
    code = """
    print("hello from import")

    @hookimpl
    def zoo_heads():
        print("hello from the hook")
        yield HeadRecord(name="chatty", build=print)
    """
    install("chatty", code)
    assert only("chatty").failure is None
    assert HEADS.get("chatty").name == "chatty"
    assert capsys.readouterr().out == ""


def test_keyboard_interrupt_in_a_plugin_stops_the_program(install):
    install("slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load_plugins()


def test_zoo_disable_switches_plugins_off_without_importing_them(install, head, tmp_path, monkeypatch):
    traces = [tmp_path / "one", tmp_path / "two", tmp_path / "three"]
    for name, trace in zip(("one", "two", "three"), traces, strict=True):
        install(name, f"open({str(trace)!r}, 'w').close()\n{dedent(head(name))}")
    monkeypatch.setenv("ZOO_DISABLE", "one, two,")
    assert [only(name).disabled for name in ("one", "two", "three")] == [True, True, False]
    assert [trace.exists() for trace in traces] == [False, False, True]
    assert only("one").records == {}
    assert failures() == ()
    assert {"one", "two", "linear", "three"} & set(HEADS.names()) == {"linear", "three"}


def test_two_distributions_with_the_same_entry_point_name_both_arrive(install, head):
    """The bug of pluggy's own loader, which drops the second in silence."""
    install("acme", head("swirl"), distribution="acme-one", module="acme_one")
    install("acme", head("arcface"), distribution="acme-two", module="acme_two")
    assert sorted(point.dist.name for point in entry_points(group=GROUP, name="acme")) == ["acme-one", "acme-two"]
    assert [plugin.distribution for plugin in of("acme")] == ["acme-one", "acme-two"]
    assert {"arcface", "swirl", "linear"} <= set(HEADS.names())


def test_zoo_disable_tells_two_distributions_with_one_entry_point_name_apart(install, head, monkeypatch):
    install("acme", head("swirl"), distribution="acme-one", module="acme_one")
    install("acme", head("arcface"), distribution="acme-two", module="acme_two")
    monkeypatch.setenv("ZOO_DISABLE", "acme-one:acme")
    assert [plugin.disabled for plugin in of("acme")] == [True, False]
    load_plugins.cache_clear()
    monkeypatch.setenv("ZOO_DISABLE", "acme")
    assert [plugin.disabled for plugin in of("acme")] == [True, True]


def test_a_module_is_imported_once_however_often_one_asks(install, tmp_path):
    trace = tmp_path / "trace"
    install(
        "acme",
        f"with open({str(trace)!r}, 'a') as file:\n    file.write('x')\n@hookimpl\ndef zoo_heads():\n    return []",
    )
    load_plugins()
    HEADS.names()
    failures()
    assert trace.read_text() == "x"


def test_a_failure_says_in_which_line_of_the_plugin(install):
    path = install("broken", "def deep():\n    return {}['key']\n\ndeep()")
    (failed,) = failures()
    assert failed.failure == f"KeyError: 'key' ({path}:4)"


def test_a_file_that_cannot_be_parsed_is_a_failure_with_its_line(install):
    path = install("broken", "def zoo_heads(:\n    pass")
    (failed,) = failures()
    assert failed.failure.endswith(f"({path}:3)")
    assert failed.failure.startswith("SyntaxError: ")


def test_a_misspelt_hook_is_told_the_hooks_and_the_closest(install):
    path = install("broken", "@hookimpl\ndef zoo_backbone():\n    return []")
    (failed,) = failures()
    assert f"unknown hook 'zoo_backbone' ({path}:3); the hooks are zoo_backbones, zoo_heads" in failed.failure
    assert "; did you mean zoo_backbones?" in failed.failure


def test_a_keyword_that_a_record_does_not_have_is_told_its_fields(install):
    path = install("broken", "@hookimpl\ndef zoo_heads():\n    yield HeadRecord(nam='x', build=print)")
    (failed,) = failures()
    assert "unexpected keyword argument 'nam'; HeadRecord has the fields name, build, takes" in failed.failure
    assert failed.failure.endswith(f"did you mean name? ({path}:5)")


def test_a_word_in_zoo_disable_that_names_nothing_is_found(install, head, monkeypatch):
    install("acme", head("swirl"), distribution="acme-heads")
    monkeypatch.setenv("ZOO_DISABLE", "acme-net,acme-heads:acme,timm")
    assert useless_disabled() == ("acme-net",)
