"""A name gives one record or an error that says what there is, who is at fault and what to do."""

import pytest

from zoo.errors import NameClashError, OptionError, UnknownNameError
from zoo.registry.lookup import HEADS, SHELVES, SOURCES, STRATEGIES
from zoo.registry.near import suggest, suggest_models
from zoo.registry.plugins import RECORD_TYPES, load_plugins
from zoo.specs import parse_options


def test_close_names_are_suggested_and_far_ones_are_not():
    assert suggest("resnt18", ["resnet18", "vgg11"]) == "; did you mean resnet18?"
    assert suggest("resnet1", ["resnet18", "resnet10"]).startswith("; did you mean resnet1")


def test_suggestions_are_full_names_each_once_whatever_the_case():
    assert suggest("LINEER", ["linear", "linear", "Linear"]) == "; did you mean linear?"
    known = ["a/resnet18", "b/resnet18", "a/vgg11"]
    assert suggest_models("resnt18", known) == "; did you mean a/resnet18 or b/resnet18?"
    assert suggest_models("a/RESNT18", known) == "; did you mean a/resnet18 or b/resnet18?"
    assert suggest_models("zzz", known) == ""

    assert " or " in suggest("resnet1", ["resnet18", "resnet10"])
    assert suggest("zzz", ["resnet18", "vgg11"]) == ""


def test_an_unknown_name_says_what_there_is_and_suggests(site):
    with pytest.raises(
        UnknownNameError,
        match=r"^unknown head .liner.; there are attention, cosine, ensemble, linear, .*; did you mean linear\?$",
    ):
        HEADS.get("liner")


def test_an_unknown_name_names_the_plugins_that_did_not_load(install, monkeypatch):
    module = install("broken", "import no_such_library", distribution="broken-heads", version="0.4")
    install("off", "", distribution="off-heads")
    monkeypatch.setenv("ZOO_DISABLE", "off")
    with pytest.raises(UnknownNameError) as caught:
        HEADS.get("prototype")
    first, *rest = str(caught.value).split("\n")
    assert first == "unknown head 'prototype'; there are attention, cosine, ensemble, linear, mlp, trees"
    assert rest == [
        "  (plugin 'broken' of broken-heads 0.4 did not load: ModuleNotFoundError: No module named 'no_such_library' "
        f"({module}:3))",
        "  (plugin 'off' of off-heads 1.0 is switched off by ZOO_DISABLE)",
    ]


def test_an_empty_shelf_says_so(site, monkeypatch):
    monkeypatch.setenv("ZOO_DISABLE", "imbalance")
    with pytest.raises(UnknownNameError, match="unknown imbalance strategy 'focal'; no plugin offers one\n"):
        STRATEGIES.get("focal")


def test_a_name_claimed_twice_raises_only_when_asked_for_and_names_both(install, head):
    install("one", head("prototype"), distribution="acme-one", version="1.1")
    install("two", head("prototype"), distribution="acme-two", version="2.2")
    assert HEADS.names() == ["attention", "cosine", "ensemble", "linear", "mlp", "prototype", "trees"]
    assert HEADS.get("linear").name == "linear"
    with pytest.raises(NameClashError) as caught:
        HEADS.get("prototype")
    assert str(caught.value) == (
        "head 'prototype' is claimed by acme-one 1.1 (one) and acme-two 2.2 (two); "
        "say acme-one:prototype or acme-two:prototype, or switch one off with ZOO_DISABLE=DISTRIBUTION:PLUGIN"
    )


def test_a_name_that_the_core_has_is_not_hijacked(install, head):
    install("thief", head("linear"))
    with pytest.raises(NameClashError, match=r"claimed by backbone-zoo .* \(builtin\) and thief 1.0 \(thief\)"):
        HEADS.get("linear")
    assert HEADS.get("backbone-zoo:linear").build.__module__ == "zoo.builtin"
    assert HEADS.get("thief:linear").build.__module__ == "thief_plugin"


def test_the_distribution_tells_claimants_apart_even_with_one_entry_point_name(install, head):
    install("acme", head("prototype"), distribution="acme-one", module="acme_one")
    install("acme", head("prototype"), distribution="acme-one-more", module="acme_one_more")
    assert HEADS.get("acme-one:prototype").build.__module__ == "acme_one"
    assert HEADS.get("acme-one-more:prototype").build.__module__ == "acme_one_more"
    with pytest.raises(NameClashError, match="say acme-one:prototype or acme-one-more:prototype"):
        HEADS.get("prototype")


def test_switching_a_claimant_off_settles_the_clash(install, head, monkeypatch):
    install("acme", head("prototype"), distribution="acme-one", module="acme_one")
    install("acme", head("prototype"), distribution="acme-two", module="acme_two")
    monkeypatch.setenv("ZOO_DISABLE", "acme-two:acme")
    assert HEADS.get("prototype").build.__module__ == "acme_one"


def test_a_distribution_that_claims_a_name_twice_is_told_apart_by_no_prefix(install, head, site):
    install("one", head("prototype"), distribution="acme")
    (site / "acme-1.0.dist-info" / "entry_points.txt").write_text("[zoo]\none = one_plugin\ntwo = one_plugin\n")
    load_plugins.cache_clear()
    with pytest.raises(NameClashError) as caught:
        HEADS.get("acme:prototype")
    assert str(caught.value) == (
        "head 'prototype' is claimed by acme 1.0 (one) and acme 1.0 (two); "
        "switch one off with ZOO_DISABLE=DISTRIBUTION:PLUGIN"
    )


def test_a_wrong_distribution_before_a_known_name_is_told_the_right_one(site):
    with pytest.raises(UnknownNameError, match=r"unknown head 'acme:linear'; .*; did you mean backbone-zoo:linear\?"):
        HEADS.get("acme:linear")


def test_an_error_about_an_option_points_at_the_place(install, head):
    known, unknown = parse_options("class-weights+logit-ajust(tau=2)")
    assert STRATEGIES.of_call(known).name == "class-weights"
    with pytest.raises(OptionError) as caught:
        STRATEGIES.of_call(unknown)
    message, option, pointer = str(caught.value).split("\n")
    assert message.startswith("unknown imbalance strategy 'logit-ajust'; there are adasyn, bagging, ")
    assert message.endswith("; did you mean logit-adjust or logit-adjust-loss?")
    assert option.strip() == "class-weights+logit-ajust(tau=2)"
    assert option[pointer.index("^") :] == "logit-ajust(tau=2)"


def test_a_clash_in_an_option_points_at_the_place_and_the_advice_parses(install, head):
    install("one", head("prototype"), distribution="acme-one")
    install("two", head("prototype"), distribution="acme-two")
    (call,) = parse_options("prototype")
    with pytest.raises(
        OptionError, match=r"say acme-one:prototype or acme-two:prototype(.|\n)*\n    prototype\n    \^$"
    ):
        HEADS.of_call(call)
    (call,) = parse_options("acme-two:prototype")
    assert HEADS.of_call(call).build.__module__ == "two_plugin"


def test_every_kind_of_record_has_a_shelf():
    assert {shelf.hook for shelf in SHELVES.values()} == set(RECORD_TYPES)
    assert SHELVES["backbones"] is SOURCES
